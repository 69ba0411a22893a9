//! Certificates of the hosts served: one ACME account, one keeper per host, challenges shown through the presence.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::sync::{broadcast, watch};
use tunnler_chain::ChainHandle;
use tunnler_edge::acme::{
    Account, AcmeError, CertificateAuthority, Challenge, Dns01, Hosts, Keeper, KeeperState, order,
};
use tunnler_edge::https;
use tunnler_edge::propagation::{self, NotVisible, ZoneServer};
use tunnler_edge::store::StoreError;
use tunnler_edge::{Certificates, Store};
use tunnler_protocol::HostName;
use tunnler_protocol::presence::{Service, ServiceKind, TlsMode};
use tunnler_protocol::term;

use super::TunnelEvent;
use super::presence::{Signer, now};
use crate::state::StateDir;
use crate::status::CertificateStatus;

/// Where certificates lie in the state directory: `certs/HOST/{key,chain}.pem`.
const CERTIFICATES: &str = "certs";
const ACCOUNT: &str = "acme";
/// Where the zone's servers speak HTTPS, if they do.
const HTTPS_PORT: u16 = 443;
/// The relays have this long to get a presence into DNS; then it is taken there as often past them.
const INSIST_AFTER: Duration = Duration::from_secs(20);
/// Pause after the CA could not be used at all; twice as long each time.
const PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_secs(900);

/// What keeping certificates needs.
pub(super) struct Keeping {
    pub(super) authority: CertificateAuthority,
    pub(super) dns_port: u16,
    pub(super) state: Arc<StateDir>,
    /// Those whose TLS ends here.
    pub(super) hosts: Vec<Hosts>,
    pub(super) signer: Arc<Signer>,
    pub(super) chain: ChainHandle,
    pub(super) certificates: Arc<Certificates>,
    pub(super) events: broadcast::Sender<TunnelEvent>,
}

/// What this client needs certificates for: every name with all its services, unless relays end the TLS of the bare
/// name; then each service that is its own. Raw TCP needs none.
pub(super) fn own_hosts(hosts: &[HostName], services: &[Service]) -> Vec<Hosts> {
    let own = |service: &&Service| service.kind == ServiceKind::Http && service.tls == TlsMode::Pass;
    if !services.iter().any(|service| own(&service)) {
        return Vec::new();
    }
    if !services.first().is_some_and(term::is_ended_by_relays) {
        return hosts.iter().map(|host| Hosts { host: host.clone(), wildcard: true }).collect();
    }
    let below = |host: &HostName| {
        let names = services.iter().filter(own).filter_map(|s| format!("{}.{host}", s.name).parse().ok());
        names.map(|host| Hosts { host, wildcard: false }).collect::<Vec<_>>()
    };
    hosts.iter().flat_map(below).collect()
}

/// Puts what is known of one host into the overview; says whether it was news. `not_after` is left alone without one.
pub(super) fn update(
    all: &mut [CertificateStatus],
    host: &HostName,
    what: &str,
    not_after: Option<u64>,
) -> bool {
    let Some(entry) = all.iter_mut().find(|entry| entry.host == host.as_str()) else { return false };
    let new = CertificateStatus {
        host: entry.host.clone(),
        not_after: not_after.unwrap_or(entry.not_after),
        state: what.to_owned(),
    };
    let changed = *entry != new;
    *entry = new;
    changed
}

/// What is known of each host's certificate.
pub(super) type Overview = watch::Receiver<Vec<CertificateStatus>>;

impl Keeping {
    /// Puts what is on disk to use and returns the beginning of the overview.
    pub(super) fn load(&self) -> Result<watch::Sender<Vec<CertificateStatus>>, AcmeError> {
        let mut overview = Vec::new();
        for hosts in &self.hosts {
            let found = order::load(&self.store(&hosts.host)?, hosts)?;
            if let Some(certificate) = &found {
                self.certificates.install(certificate);
            }
            overview.push(CertificateStatus {
                host: hosts.host.to_string(),
                not_after: found.map_or(0, |certificate| certificate.not_after().0),
                state: "starting".into(),
            });
        }
        for host in self.signer.relayed() {
            let state = "TLS ends at relays".into();
            overview.push(CertificateStatus { host: host.to_string(), not_after: 0, state });
        }
        Ok(watch::Sender::new(overview))
    }

    /// Keeps all certificates valid until dropped.
    pub(super) async fn run(self, overview: Arc<watch::Sender<Vec<CertificateStatus>>>) {
        if self.hosts.is_empty() {
            return;
        }
        let mut pause = PAUSE / 2;
        loop {
            let begun = tokio::time::Instant::now();
            let Err(error) = self.keep(&overview).await;
            self.warn(&error);
            pause = match error {
                // The keepers wait for such things themselves; here it was said about the account.
                AcmeError::Limited { until, .. } => until.since(now().seconds()).max(PAUSE),
                _ if begun.elapsed() > LONGEST_PAUSE => PAUSE,
                _ => (pause * 2).min(LONGEST_PAUSE),
            };
            if matches!(error, AcmeError::AccountGone) {
                let forgotten = self.state.store().inner(ACCOUNT).map_err(AcmeError::from);
                if let Err(error) = forgotten.and_then(|store| Account::forget(&store)) {
                    self.warn(&error);
                }
            }
            // Also then: a CA that forgets every account at once would otherwise be asked for new ones without end.
            tokio::time::sleep(pause).await;
        }
    }

    async fn keep(
        &self,
        overview: &watch::Sender<Vec<CertificateStatus>>,
    ) -> Result<std::convert::Infallible, AcmeError> {
        let account = Account::open(&self.state.store().inner(ACCOUNT)?, &self.authority).await?;
        self.signer.allow_account(account.identity().clone());
        let keepers = self.hosts.iter().map(|hosts| async {
            let host = &hosts.host;
            let state = watch::Sender::new(KeeperState::Starting);
            let told = self.tell(host, state.subscribe(), overview);
            let keeper = Keeper {
                account: account.clone(),
                hosts: hosts.clone(),
                store: self.store(host)?,
                dns: ThroughPresence {
                    signer: self.signer.clone(),
                    chain: self.chain.clone(),
                    dns_port: self.dns_port,
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
            overview.send_if_modified(|all| update(all, host, &what, not_after));
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
    fn servers(&self) -> Vec<ZoneServer> {
        let Some(directory) = self.chain.directory() else { return Vec::new() };
        let servers = directory.zone.servers.iter();
        let addresses = servers.filter_map(|server| {
            let v4 = server.ipv4.map(IpAddr::V4);
            v4.or(server.ipv6.map(IpAddr::V6))
        });
        let server = |ip| ZoneServer {
            dns: SocketAddr::new(ip, self.dns_port),
            https: Some(SocketAddr::new(ip, HTTPS_PORT)),
        };
        addresses.map(server).collect()
    }

    /// Takes the presence to the zone's servers itself, for the case that the relays in use do not pass it on.
    async fn insist(&self, servers: &[ZoneServer]) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(INSIST_AFTER).await;
            let Some(presence) = self.signer.last() else { continue };
            for server in servers.iter().filter_map(|server| server.https) {
                let body = presence.text().as_bytes().to_vec();
                match https::post(server, "/v1/presence", "application/jose", body).await {
                    Ok((status, _)) => tracing::info!(%server, %status, "presence sent past the relays"),
                    Err(error) => tracing::info!(%server, %error, "presence not sent past the relays"),
                }
            }
        }
    }
}

impl Dns01 for ThroughPresence {
    async fn present(&self, challenge: &Challenge) -> Result<(), NotVisible> {
        self.signer.show_values(challenge.host.clone(), challenge.values.clone());
        let servers = self.servers();
        tokio::select! {
            seen = propagation::until_visible(&servers, challenge, propagation::PATIENCE) => seen,
            never = self.insist(&servers) => match never {},
        }
    }

    async fn withdraw(&self, host: &HostName) {
        self.signer.withdraw_values(host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_certificate_is_ordered_for_what_relays_or_tcp_servers_end() {
        use ServiceKind::{Http, Tcp};
        use TlsMode::{Pass, Term};
        let hosts: Vec<HostName> = vec!["mynode.tun.test".parse().unwrap()];
        let of = |services: &[(&str, ServiceKind, TlsMode)]| {
            let service = |(name, kind, tls): &(&str, _, _)| Service {
                name: name.parse().unwrap(),
                kind: *kind,
                tls: *tls,
                port: None,
            };
            let services: Vec<Service> = services.iter().map(service).collect();
            let own = own_hosts(&hosts, &services).into_iter();
            own.map(|own| (own.host.to_string(), own.wildcard)).collect::<Vec<_>>()
        };
        let bare = || vec![("mynode.tun.test".to_owned(), true)];
        assert_eq!(of(&[("http", Http, Pass), ("api", Http, Term)]), bare());
        assert_eq!(of(&[("ssh", Tcp, Pass), ("api", Http, Pass)]), bare());
        assert_eq!(of(&[("http", Http, Term)]), []);
        assert_eq!(of(&[("ssh", Tcp, Pass), ("api", Http, Term)]), []);
        let mixed = of(&[("http", Http, Term), ("api", Http, Pass), ("ssh", Tcp, Pass)]);
        assert_eq!(mixed, [("api.mynode.tun.test".to_owned(), false)]);
    }
}
