//! Authoritative DNS of one Tunnler zone: names follow their live tunnels (DESIGN §7, §8).
//!
//! What is true comes from two contracts, from presences that clients signed, and from the relays' feeds; `answer` is
//! a pure function of an immutable snapshot of it. Never resolves for others, never transfers the zone, and takes
//! nobody's word for a name but its client's.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod answer;
pub mod cli;
pub mod clock;
pub mod dnssec;
pub mod feed;
pub mod http;
pub mod probe;
pub mod serve;
pub mod server;
pub mod snapshot;
pub mod state;
pub mod wire;
pub mod zone;

pub use server::{Config, Server, ServerError};

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod fuzz;
