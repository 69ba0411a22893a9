//! What every Tunnler program agrees on: identities, names, signed documents, wire messages, the public
//! directory, and the decisions taken on them.
//!
//! Pure by construction: no sockets, no async runtime, no clock and no randomness source. Time and seeds come in
//! as arguments, actions go out as values.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod address;
pub mod agent;
pub mod challenge;
pub mod control;
pub mod directory;
pub mod feed;
pub mod instance;
pub mod json;
pub mod jws;
pub mod live;
pub mod merge;
pub mod name;
pub mod network;
pub mod ports;
pub mod prefix;
pub mod presence;
pub mod selection;
pub mod stream;
pub mod term;
pub mod time;
pub mod token;

pub use address::{Address, SecretKey};
pub use name::{Host, HostName, Label, PublicName, ServiceName, Zone};
pub use prefix::Prefix;
pub use time::{LedgerTime, UnixMillis, UnixSeconds};
