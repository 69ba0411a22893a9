//! One-shot reads, for commands that do not keep a reader running. They need the same quorum.

use std::sync::Arc;
use std::time::Duration;

use stellar_xdr::{LedgerEntryData, LedgerKey, LedgerKeyAccount};
use tunnler_protocol::Address;
use tunnler_protocol::directory::{Directory, NameRecord};
use tunnler_protocol::name::Label;
use tunnler_protocol::network::Network;

use crate::chain::{Chain, ChainConfig, FollowedNames};
use crate::endpoints::Endpoints;
use crate::error::ChainError;
use crate::rpc::Rpc;
use crate::value::account_id;

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
    let chain = Chain::start(ChainConfig::new(network.clone(), FollowedNames::Chosen))?;
    let directory = chain.handle().follow_and_wait([label.clone()], READ_TIMEOUT).await;
    chain.shutdown().await;
    Ok(directory?.names.get(label).cloned())
}

/// Everything: all relays and all names.
pub async fn read_directory(network: &Network) -> Result<Arc<Directory>, ChainError> {
    read_all(network, FollowedNames::All).await
}

/// All relays and the zone, without names.
pub async fn read_relays(network: &Network) -> Result<Arc<Directory>, ChainError> {
    read_all(network, FollowedNames::Chosen).await
}

async fn read_all(network: &Network, names: FollowedNames) -> Result<Arc<Directory>, ChainError> {
    let chain = Chain::start(ChainConfig::new(network.clone(), names))?;
    let directory = chain.wait_ready(READ_TIMEOUT).await;
    chain.shutdown().await;
    directory
}

/// The account of `address`, from the first endpoint that answers; `None` when it does not exist.
pub async fn read_account(network: &Network, address: &Address) -> Result<Option<Account>, ChainError> {
    account(&Endpoints::of(network)?, address).await
}

pub(crate) async fn account(endpoints: &Endpoints, address: &Address) -> Result<Option<Account>, ChainError> {
    let key = LedgerKey::Account(LedgerKeyAccount { account_id: account_id(address) });
    let question = |rpc: Rpc| {
        let keys = [key.clone()];
        async move { rpc.entries(&keys).await }
    };
    let reply = endpoints.ask(question).await?;
    let entry = reply.entries.into_iter().next().flatten();
    Ok(entry.and_then(|entry| match entry.data {
        LedgerEntryData::Account(account) => Some(Account {
            balance: account.balance,
            home_domain: Some(account.home_domain.to_string()).filter(|domain| !domain.is_empty()),
            sequence: account.seq_num.0,
        }),
        _ => None,
    }))
}
