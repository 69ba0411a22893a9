//! Why reading or writing the chain fails, in words that say what to do next.

use std::path::PathBuf;
use std::time::Duration;

pub use crate::error::contract::ContractError;

mod contract;

/// Why the chain cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// An endpoint's URL cannot be used.
    #[error("{url}: not usable as an RPC endpoint ({problem}); check `rpc` in the network descriptor")]
    Endpoint {
        /// The URL as configured.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The descriptor names no usable contract.
    #[error("{key} in the network descriptor: {text:?} is not a contract id (C…)")]
    ContractId {
        /// `registry` or `namespace`.
        key: &'static str,
        /// The value.
        text: String,
    },
    /// No endpoint gave a usable answer.
    #[error("no RPC endpoint answered: {0}")]
    Unreachable(String),
    /// An endpoint goes on and on with events.
    #[error("an RPC endpoint sent {pages} pages of events and no end; ask another one")]
    Endless {
        /// Pages that it sent.
        pages: u32,
    },
    /// The directory is not complete yet.
    #[error("the chain was not read within {} s: {problem}", waited.as_secs())]
    NotReady {
        /// How long was waited.
        waited: Duration,
        /// What the endpoints last said.
        problem: String,
    },
    /// The state file cannot be written or set aside.
    #[error("{}: {source}; check that the state directory is writable", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The reader has been shut down.
    #[error("the chain reader has stopped")]
    Stopped,
}

/// Why a transaction did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The contract said no. Nothing was changed.
    #[error("{0}")]
    Contract(#[from] ContractError),
    /// The token refused the payment that belongs to the call. Nothing was changed.
    #[error("the payment was refused: {0}")]
    Payment(&'static str),
    /// The call would fail for another reason; nothing was sent.
    #[error("the network would refuse this call: {0}")]
    Simulation(String),
    /// The account that signs and pays does not exist.
    #[error("account {0} does not exist on this network; fund it first")]
    NoAccount(String),
    /// The account cannot pay.
    #[error("account {account} cannot pay {fee} stroops of fees; fund it first")]
    Unpayable {
        /// The paying account.
        account: String,
        /// What the transaction may cost at most, in stroops.
        fee: u64,
    },
    /// The endpoint demands more than any call of these programs costs.
    #[error(
        "the endpoint asks for {0} stroops of fees, more than this program ever pays; try another endpoint"
    )]
    Dear(u64),
    /// Somebody else's signature is needed.
    #[error("the signature of {0} is needed too; pass that key")]
    MissingSigner(String),
    /// An argument cannot be expressed on the ledger.
    #[error("{0}")]
    Argument(String),
    /// The ledger refused the transaction.
    #[error("transaction {hash} failed: {result}")]
    Failed {
        /// Transaction hash in hexadecimal.
        hash: String,
        /// The ledger's result code.
        result: String,
    },
    /// Not included within the time that was allowed; it never will be.
    #[error("the network did not include the transaction in {attempts} attempts; try again later")]
    NotIncluded {
        /// How many transactions were built.
        attempts: u32,
    },
    /// Sent, and no endpoint tells what became of it.
    #[error(
        "transaction {hash} was sent and its outcome is unknown because no endpoint answers ({problem}); \
         look it up before trying again"
    )]
    Unknown {
        /// Transaction hash in hexadecimal.
        hash: String,
        /// What the endpoints last said.
        problem: String,
    },
    /// Reading failed before anything was sent.
    #[error(transparent)]
    Chain(#[from] ChainError),
}
