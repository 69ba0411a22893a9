//! TunnelRegistry: who is a relay, where it is, and with which stake.
//!
//! The contract lists relays; it never moves traffic, judges quality, or takes a stake.
#![no_std]

mod contract;
mod error;
mod event;
mod record;
mod storage;
mod types;

pub use contract::{TunnelRegistry, TunnelRegistryArgs, TunnelRegistryClient};
pub use error::Error;
pub use event::*;
pub use types::*;
