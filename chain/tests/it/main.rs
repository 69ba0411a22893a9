//! Reader and writer against a localnet that executes the real contracts. One binary, so that it is linked once.

mod archived;
mod bids;
mod costs;
mod driver;
mod endurance;
mod gateway;
mod history;
mod hostile;
mod lifecycle;
mod meter;
mod quorum;
#[cfg(feature = "soak-tests")]
mod soak;
mod together;
mod world;
