//! A local Stellar network in one process, for development and tests.
//!
//! It executes real contract code with the host that validators run, behind the JSON-RPC interface of stellar-rpc and
//! a friendbot, so that unmodified clients work against it. It is **not** a validator: there is no consensus, nobody
//! else checks what it says, and its root account's key follows from the public passphrase. It listens on loopback
//! unless told otherwise.
//!
//! ```no_run
//! # async fn example() -> Result<(), tunnler_localnet::StartError> {
//! let localnet = tunnler_localnet::Localnet::builder().start().await?;
//! println!("{}", localnet.url());
//! localnet.shutdown().await;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod appearance;
mod codec;
mod endpoint;
mod events;
mod faults;
mod genesis;
mod ledger;
mod localnet;
mod network;
mod operations;
mod rpc;
mod soroban;
mod transaction;

pub use faults::FaultSwitches;
pub use ledger::store::StoreError;
pub use localnet::{Builder, FundError, Localnet, STANDALONE_PASSPHRASE, StartError};
pub use network::{Closing, Halted};
