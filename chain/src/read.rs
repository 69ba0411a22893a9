//! One-shot reads, for commands that do not keep a reader running. They need the same quorum.

use std::sync::Arc;
use std::time::Duration;

use tunnler_protocol::Address;
use tunnler_protocol::directory::{Directory, NameRecord};
use tunnler_protocol::name::Label;
use tunnler_protocol::network::Network;

use crate::error::ChainError;

/// How long a one-shot read may take.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// An account of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Native balance in stroops (10,000,000 stroops = 1 XLM).
    pub balance: i64,
    /// Its `home_domain`; `None` when empty.
    pub home_domain: Option<String>,
    /// Its last used sequence number.
    pub sequence: i64,
}

/// The record of `label`; `None` when it was never registered. It may have expired: see [`NameRecord::live_target`].
pub async fn read_name(network: &Network, label: &Label) -> Result<Option<Arc<NameRecord>>, ChainError> {
    let _ = (network, label);
    Err(ChainError::Stopped)
}

/// Everything: all relays and all names.
pub async fn read_directory(network: &Network) -> Result<Arc<Directory>, ChainError> {
    let _ = network;
    Err(ChainError::Stopped)
}

/// All relays and the zone, without names.
pub async fn read_relays(network: &Network) -> Result<Arc<Directory>, ChainError> {
    let _ = network;
    Err(ChainError::Stopped)
}

/// The account of `address`, from the first endpoint that answers; `None` when it does not exist.
pub async fn read_account(network: &Network, address: &Address) -> Result<Option<Account>, ChainError> {
    let _ = (network, address);
    Err(ChainError::Stopped)
}
