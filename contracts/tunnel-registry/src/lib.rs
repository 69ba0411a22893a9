//! TunnelRegistry: who is a relay, where it is, and with which stake.
//!
//! The contract lists relays; it never moves traffic, judges quality, or takes a stake.
#![no_std]

mod error;
mod event;
mod types;

pub use error::Error;
pub use event::*;
pub use types::*;
