//! Both contracts through stellar-rpc: a reader that keeps an immutable [`Directory`] up to date from several
//! endpoints that nobody trusts alone, and a [`Writer`] for transactions.
//!
//! [`Chain`] follows and [`ChainHandle`] hands out what it knows; [`read`] has one-shot reads for commands and
//! [`mod@history`] the events for people;
//! [`Writer`] signs and sends; [`deploy`] puts contracts on a network, for tests and the demo. What is on the ledger is
//! decoded from XDR here and becomes the protocol's own types; no Soroban type leaves this crate.
//! It never links `soroban-sdk`, and the reader's decisions read no clock.
//!
//! [`Directory`]: tunnler_protocol::directory::Directory
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod chain;
mod contract;
pub mod deploy;
pub mod descriptor;
mod endpoints;
pub mod error;
mod fetch;
pub mod history;
pub mod key;
pub mod read;
mod reader;
mod rpc;
mod state;
pub mod status;
mod value;
pub mod writer;

pub use chain::{Chain, ChainConfig, ChainHandle, FollowedNames, POLL};
pub use error::{ChainError, ContractError, WriteError};
pub use history::{ChainEvent, EventFeed, Since, history};
pub use read::{Account, read_account, read_directory, read_name};
pub use status::{ChainHealth, ChainStatus, EndpointStatus};
pub use writer::{Cost, Draft, Receipt, RelayRegistration, Writer};
