//! Starting, steering and stopping a network from Rust.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stellar_xdr::{AccountId, ContractId, PublicKey, Uint256};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::endpoint::Endpoint;
use crate::faults::FaultSwitches;
use crate::genesis;
use crate::ledger::Ledger;
use crate::ledger::store::{Store, StoreError};
use crate::network::{Closing, Funding, Halted, Network};
use crate::rpc;

/// The passphrase under which clients know a local network (`stellar --network local`).
pub const STANDALONE_PASSPHRASE: &str = "Standalone Network ; February 2017";

/// Ledgers kept for history by default: a week of ledgers of five seconds.
const DEFAULT_RETENTION: u32 = 120_960;

/// Why a network could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}; choose another address")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A network to be started.
#[derive(Clone, Debug)]
pub struct Builder {
    listen: Vec<SocketAddr>,
    state: Option<PathBuf>,
    interval: Option<Duration>,
    passphrase: String,
    retention: u32,
    closing: Closing,
}

impl Builder {
    /// Addresses to listen on, one endpoint each (default: one on 127.0.0.1, any free port).
    pub fn listen(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.listen = addresses.into_iter().collect();
        self
    }

    /// Keeps the network in a directory (default: in memory only).
    pub fn state_directory(mut self, directory: impl AsRef<Path>) -> Self {
        self.state = Some(directory.as_ref().to_owned());
        self
    }

    /// Closes a ledger after this much time without one (default: 5 s).
    pub fn ledger_interval(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// Closes ledgers with transactions and on request only: for tests that count ledgers.
    pub fn no_ledger_interval(mut self) -> Self {
        self.interval = None;
        self
    }

    /// The network's passphrase (default: [`STANDALONE_PASSPHRASE`]).
    pub fn passphrase(mut self, passphrase: impl Into<String>) -> Self {
        self.passphrase = passphrase.into();
        self
    }

    /// Number of ledgers kept for history, at least 1 (default: 120,960).
    pub fn retention(mut self, ledgers: u32) -> Self {
        self.retention = ledgers;
        self
    }

    /// When ledgers close (default: at once with each transaction).
    pub fn closing(mut self, closing: Closing) -> Self {
        self.closing = closing;
        self
    }

    /// Starts the network.
    ///
    /// # Errors
    /// An address cannot be listened on, or the state directory cannot be used.
    pub async fn start(self) -> Result<Localnet, StartError> {
        let mut listeners = Vec::new();
        for address in self.listen {
            let bound =
                TcpListener::bind(address).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
            listeners.push(bound.map_err(|cause| StartError::Listen { address, cause })?);
        }
        let passphrase = self.passphrase.clone();
        let (state, retention) = (self.state, self.retention);
        let opened = tokio::task::spawn_blocking(move || {
            let store = state.as_deref().map(Store::open).transpose()?;
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            Ledger::open(&passphrase, store, retention, now.map_or(0, |since| since.as_secs()))
        });
        let ledger = match opened.await {
            Ok(ledger) => ledger?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let native_contract = ContractId(ledger.native_contract().clone());
        let network = Arc::new(Network::new(self.passphrase, ledger, self.closing));
        let (stop, stopped) = watch::channel(false);
        let endpoints = listeners
            .into_iter()
            .map(|(address, listener)| Endpoint::serve(network.clone(), listener, address, stopped.clone()))
            .collect();
        let closer = self.interval.map(|interval| tokio::spawn(network.clone().keep_closing(interval)));
        Ok(Localnet { network, endpoints, closer, stop, native_contract })
    }
}

/// A running network. Dropped, it stops without waiting.
pub struct Localnet {
    network: Arc<Network>,
    endpoints: Vec<Endpoint>,
    closer: Option<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    native_contract: ContractId,
}

impl Localnet {
    /// A network with the defaults of [`Builder`].
    pub fn builder() -> Builder {
        Builder {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            state: None,
            interval: Some(Duration::from_secs(5)),
            passphrase: STANDALONE_PASSPHRASE.to_owned(),
            retention: DEFAULT_RETENTION,
            closing: Closing::OnSend,
        }
    }

    /// The URL of the first endpoint, for any client of stellar-rpc.
    pub fn url(&self) -> String {
        self.urls().swap_remove(0)
    }

    /// The URLs of all endpoints, in the order of [`Builder::listen`].
    pub fn urls(&self) -> Vec<String> {
        self.addresses().into_iter().map(|address| format!("http://{address}")).collect()
    }

    /// The bound addresses of all endpoints.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.endpoints.iter().map(|endpoint| endpoint.address).collect()
    }

    /// The URL at which the friendbot funds an address (`?addr=G…`).
    pub fn friendbot_url(&self) -> String {
        format!("{}/friendbot", self.url())
    }

    /// The network's passphrase.
    pub fn passphrase(&self) -> &str {
        self.network.passphrase()
    }

    /// The native asset's contract (C…), there from the first ledger on.
    pub fn native_contract(&self) -> String {
        rpc::contract_address(&self.native_contract)
    }

    /// Seed (S…) of the root account, which holds all lumens. It follows from the passphrase: never a secret.
    pub fn root_seed(&self) -> String {
        let key = genesis::root_key(self.passphrase());
        stellar_strkey::ed25519::PrivateKey(key.to_bytes()).as_unredacted().to_string().as_str().to_owned()
    }

    /// Creates the account of an Ed25519 public key with 10,000 lumens. An account that exists is left as it is.
    ///
    /// # Errors
    /// The network stands still, or the root account cannot pay any more.
    pub async fn fund(&self, public_key: [u8; 32]) -> Result<(), FundError> {
        let id = AccountId(PublicKey::PublicKeyTypeEd25519(Uint256(public_key)));
        match self.network.fund(id).await? {
            Funding::Funded { .. } | Funding::AlreadyFunded => Ok(()),
            Funding::Failed(why) => Err(FundError::Refused(why)),
        }
    }

    /// Closes ledgers now, and returns the sequence of the last one.
    ///
    /// # Errors
    /// The network stands still.
    pub async fn advance(&self, ledgers: u32) -> Result<u32, Halted> {
        self.network.advance(ledgers).await
    }

    /// Moves the network's clock ahead of the machine's by this many more seconds; seen with the next ledger.
    pub fn move_clock(&self, seconds: u64) {
        self.network.move_clock(seconds);
    }

    /// Changes when ledgers close.
    pub fn set_closing(&self, closing: Closing) {
        self.network.set_closing(closing);
    }

    /// Switches the faults of an endpoint (0: the first); those not named are off. No such endpoint: nothing happens.
    pub async fn set_faults(&self, endpoint: usize, faults: FaultSwitches) {
        if let Some(endpoint) = self.endpoints.get(endpoint) {
            endpoint.set_faults(faults).await;
        }
    }

    /// Waits until the network stands still, which it does only when a ledger cannot be written.
    pub async fn halted(&self) -> Halted {
        self.network.wait_halted().await
    }

    /// Stops all endpoints and tasks.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if let Some(closer) = self.closer.take() {
            closer.abort();
        }
        for endpoint in std::mem::take(&mut self.endpoints) {
            endpoint.end().await;
        }
    }
}

impl Drop for Localnet {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(closer) = &self.closer {
            closer.abort();
        }
    }
}

/// Why an account could not be funded.
#[derive(Debug, thiserror::Error)]
pub enum FundError {
    /// The network refused.
    #[error("{0}")]
    Refused(String),
    /// The network stands still.
    #[error(transparent)]
    Halted(#[from] Halted),
}
