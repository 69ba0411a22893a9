//! TunnelNamespace: who owns a name, and to which client key it points.
//!
//! The contract says what a name means; where it is live now is said by presences, off chain.
#![no_std]

mod error;
mod event;
mod types;

pub use error::Error;
pub use event::*;
pub use types::*;
