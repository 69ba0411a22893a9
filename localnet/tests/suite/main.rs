//! The network as its clients see it.

mod classic;
mod cli;
mod contracts;
mod crash;
mod expiry;
mod faults;
mod fixture;
mod history;
mod refusals;
mod rust_client;
#[cfg(feature = "soak-tests")]
mod soak;
