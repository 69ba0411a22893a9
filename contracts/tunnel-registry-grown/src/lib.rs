//! The registry with one more optional field in its record: the same sources, with types that `build.rs` grows. The
//! upgrade test proves with it that records written by the released code stay readable. Never deployed.
#![no_std]

#[path = "../../tunnel-registry/src/contract.rs"]
mod contract;
#[path = "../../tunnel-registry/src/error.rs"]
mod error;
#[path = "../../tunnel-registry/src/event.rs"]
mod event;
#[path = "../../tunnel-registry/src/record.rs"]
mod record;
#[path = "../../tunnel-registry/src/storage.rs"]
mod storage;
mod types {
    include!(concat!(env!("OUT_DIR"), "/types.rs"));
}

pub use contract::{TunnelRegistry, TunnelRegistryArgs, TunnelRegistryClient};
pub use error::Error;
pub use event::*;
pub use types::*;
