//! The relay: a public host through which clients' services are reached, and which cannot read what it passes on.
//!
//! [`Relay`] is the whole of it; the binary adds the command line, the chain and the CA. It ends TLS for a name only
//! where its client asks for that, never dials anything on behalf of a visitor but a stream in a session, and keeps no
//! state that matters.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod admin;
pub mod certificates;
pub mod cli;
mod clock;
mod failures;
mod feed;
mod forward;
mod grants;
mod ingress;
pub mod limits;
mod login;
mod memory;
pub mod names;
mod own_host;
mod places;
mod prefixes;
mod redirect;
pub mod relay;
mod replay;
mod route;
mod session;
mod sessions;
mod tcp;
pub mod term;
#[cfg(test)]
mod testing;

pub use certificates::Certificates;
pub use limits::Limits;
pub use relay::{ListenError, Relay, RelayConfig, listen};
