//! TunnelNamespace: who owns a name, and to which client key it points.
//!
//! The contract says what a name means; where it is live now is said by presences, off chain.
#![no_std]

mod commitment;
mod config;
mod contract;
mod domain;
mod error;
mod event;
mod label;
mod lease;
mod registration;
mod storage;
mod types;

pub use contract::{TunnelNamespace, TunnelNamespaceArgs, TunnelNamespaceClient};
pub use error::Error;
pub use event::*;
pub use types::*;
