//! Certificates of the hosts served: one ACME account, one keeper per host, challenges shown through the presence.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::sync::{broadcast, watch};
use tunnler_chain::ChainHandle;
use tunnler_edge::acme::{
    Account, AcmeError, CertificateAuthority, Challenge, Dns01, Hosts, Keeper, KeeperState, order,
};
use tunnler_edge::propagation::{self, NotVisible};
use tunnler_edge::store::StoreError;
use tunnler_edge::{Certificates, Store};
use tunnler_protocol::HostName;
use tunnler_protocol::network::Network;

use super::TunnelEvent;
use super::presence::Signer;
use crate::state::StateDir;
use crate::status::CertificateStatus;

/// Where certificates lie in the state directory: `certs/HOST/{key,chain}.pem`.
const CERTIFICATES: &str = "certs";
const ACCOUNT: &str = "acme";
/// Pause after the CA could not be used at all.
const PAUSE: Duration = Duration::from_secs(15);

/// What keeping certificates needs.
pub(super) struct Keeping {
    pub(super) network: Network,
    pub(super) state: Arc<StateDir>,
    pub(super) hosts: Vec<HostName>,
    pub(super) signer: Arc<Signer>,
    pub(super) chain: ChainHandle,
    pub(super) certificates: Arc<Certificates>,
    pub(super) events: broadcast::Sender<TunnelEvent>,
}

/// What is known of each host's certificate.
pub(super) type Overview = watch::Receiver<Vec<CertificateStatus>>;

impl Keeping {
    /// Puts what is on disk to use and returns the beginning of the overview.
    pub(super) fn load(&self) -> Result<watch::Sender<Vec<CertificateStatus>>, AcmeError> {
        let mut overview = Vec::new();
        for host in &self.hosts {
            let hosts = Hosts { host: host.clone(), wildcard: true };
            let found = order::load(&self.store(host)?, &hosts)?;
            if let Some(certificate) = &found {
                self.certificates.install(certificate);
            }
            overview.push(CertificateStatus {
                host: host.to_string(),
                not_after: found.map_or(0, |certificate| certificate.not_after().0),
                state: "starting".into(),
            });
        }
        Ok(watch::Sender::new(overview))
    }

    /// Keeps all certificates valid until dropped.
    pub(super) async fn run(self, overview: watch::Sender<Vec<CertificateStatus>>) {
        loop {
            let Err(error) = self.keep(&overview).await;
            self.warn(&error);
            if matches!(error, AcmeError::AccountGone) {
                let forgotten = self.state.store().inner(ACCOUNT).map_err(AcmeError::from);
                if let Err(error) = forgotten.and_then(|store| Account::forget(&store)) {
                    self.warn(&error);
                }
            }
            // Also then: a CA that forgets every account at once would otherwise be asked for new ones without end.
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn keep(
        &self,
        overview: &watch::Sender<Vec<CertificateStatus>>,
    ) -> Result<std::convert::Infallible, AcmeError> {
        let acme = &self.network.acme;
        let authority = CertificateAuthority {
            directory: acme.directory.clone(),
            issuer: acme.issuer.clone(),
            root: acme.root.clone().map(Into::into),
        };
        let account = Account::open(&self.state.store().inner(ACCOUNT)?, &authority).await?;
        self.signer.allow_account(account.identity().clone());
        let keepers = self.hosts.iter().map(|host| async {
            let state = watch::Sender::new(KeeperState::Starting);
            let told = self.tell(host, state.subscribe(), overview);
            let keeper = Keeper {
                account: account.clone(),
                hosts: Hosts { host: host.clone(), wildcard: true },
                store: self.store(host)?,
                dns: ThroughPresence {
                    signer: self.signer.clone(),
                    chain: self.chain.clone(),
                    dns_port: self.network.dns_port,
                },
                certificates: self.certificates.clone(),
                state,
            };
            tokio::select! {
                ended = keeper.run() => ended,
                never = told => match never {},
            }
        });
        let mut ended = try_join_all(keepers).await?;
        match ended.pop() {
            Some(never) => match never {},
            None => std::future::pending().await,
        }
    }

    /// Passes a keeper's states on.
    async fn tell(
        &self,
        host: &HostName,
        mut states: watch::Receiver<KeeperState>,
        overview: &watch::Sender<Vec<CertificateStatus>>,
    ) -> std::convert::Infallible {
        loop {
            let state = states.borrow_and_update().clone();
            let (what, not_after) = describe(&state);
            overview.send_modify(|all| {
                if let Some(entry) = all.iter_mut().find(|entry| entry.host == host.as_str()) {
                    entry.state.clone_from(&what);
                    entry.not_after = not_after.unwrap_or(entry.not_after);
                }
            });
            if state != KeeperState::Starting {
                let _ = self.events.send(TunnelEvent::Certificate { host: host.clone(), what });
            }
            if states.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn store(&self, host: &HostName) -> Result<Store, StoreError> {
        self.state.store().inner(CERTIFICATES)?.inner(host.as_str())
    }

    fn warn(&self, error: &AcmeError) {
        tracing::warn!(%error, "certificates");
        let _ = self.events.send(TunnelEvent::Warning { text: error.to_string() });
    }
}

fn describe(state: &KeeperState) -> (String, Option<u64>) {
    match state {
        KeeperState::Starting => ("starting".into(), None),
        KeeperState::Ordering => ("ordering".into(), None),
        KeeperState::Valid { not_after, .. } => ("valid".into(), Some(not_after.0)),
        KeeperState::Failed { problem, next } => (format!("{problem}; next attempt at {}", next.0), None),
    }
}

/// DNS-01 by signing the values into the presence.
struct ThroughPresence {
    signer: Arc<Signer>,
    chain: ChainHandle,
    dns_port: u16,
}

impl ThroughPresence {
    fn servers(&self) -> Vec<SocketAddr> {
        let Some(directory) = self.chain.directory() else { return Vec::new() };
        let servers = directory.zone.servers.iter();
        let one_each = servers.filter_map(|server| {
            server
                .ipv4
                .map(Into::into)
                .or(server.ipv6.map(Into::into))
                .map(|ip| SocketAddr::new(ip, self.dns_port))
        });
        one_each.collect()
    }
}

impl Dns01 for ThroughPresence {
    async fn present(&self, challenge: &Challenge) -> Result<(), NotVisible> {
        self.signer.show_values(challenge.host.clone(), challenge.values.clone());
        propagation::until_visible(&self.servers(), challenge, propagation::PATIENCE).await
    }

    async fn withdraw(&self, host: &HostName) {
        self.signer.withdraw_values(host);
    }
}
