//! Reader and writer against a localnet that executes the real contracts. One binary, so that it is linked once.

mod endurance;
mod history;
mod lifecycle;
mod quorum;
#[cfg(feature = "soak-tests")]
mod soak;
mod world;
