//! One-shot reads, for commands that do not keep a reader running. They need the same quorum, and give up soon when
//! every endpoint fails.

use std::sync::Arc;
use std::time::Duration;

use stellar_xdr::{LedgerEntryData, LedgerKey, LedgerKeyAccount};
use tokio::time::Instant;
use tunnler_protocol::Address;
use tunnler_protocol::directory::{Directory, NameRecord};
use tunnler_protocol::name::Label;
use tunnler_protocol::network::Network;

use crate::chain::{Chain, ChainConfig, ChainHandle, FollowedNames};
use crate::endpoints::Endpoints;
use crate::error::ChainError;
use crate::rpc::Rpc;
use crate::value::account_id;

/// How long a one-shot read of a few records may take.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long reading every name may take: a page of 200 a call, and endpoints limit calls.
const READ_ALL_TIMEOUT: Duration = Duration::from_secs(600);
/// How long endpoints that all fail are given to come back.
pub const SECOND_CHANCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(50);

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
    let handle = chain.handle();
    let directory = unless_hopeless(&handle, handle.follow_and_wait([label.clone()], READ_TIMEOUT)).await;
    chain.shutdown().await;
    Ok(directory?.names.get(label).cloned())
}

/// Everything: all relays and all names.
pub async fn read_directory(network: &Network) -> Result<Arc<Directory>, ChainError> {
    read_all(network, FollowedNames::All, READ_ALL_TIMEOUT).await
}

/// All relays and the zone, without names.
pub async fn read_relays(network: &Network) -> Result<Arc<Directory>, ChainError> {
    read_all(network, FollowedNames::Chosen, READ_TIMEOUT).await
}

async fn read_all(
    network: &Network,
    names: FollowedNames,
    timeout: Duration,
) -> Result<Arc<Directory>, ChainError> {
    let chain = Chain::start(ChainConfig::new(network.clone(), names))?;
    let directory = unless_hopeless(&chain.handle(), chain.wait_ready(timeout)).await;
    chain.shutdown().await;
    directory
}

/// What `read` says, unless every endpoint fails for [`SECOND_CHANCE`] on end.
async fn unless_hopeless<T>(
    chain: &ChainHandle,
    read: impl Future<Output = Result<T, ChainError>>,
) -> Result<T, ChainError> {
    let started = Instant::now();
    let hopeless = async {
        let mut failing_since = None;
        loop {
            match chain.status().lacks_quorum() {
                true if failing_since.get_or_insert_with(Instant::now).elapsed() > SECOND_CHANCE => break,
                true => {}
                false => failing_since = None,
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        read = read => read,
        () = hopeless => Err(ChainError::NotReady { waited: started.elapsed(), problem: chain.status().problem() }),
    }
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
