//! A running tunnel: the composition root of the client. Starts the chain reader, the agent's driver and the keepers of
//! certificates, and stops them together.

mod certificates;
mod clock;
mod door;
mod driver;
mod ports;
mod presence;
mod probe;
mod relayed;
mod session;
mod tcp;
mod urls;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tunnler_chain::{Chain, ChainConfig, FollowedNames, POLL};
use tunnler_edge::acme::CertificateAuthority;
use tunnler_edge::proxy::{Backend, HostHeader, Target, Upstream, UpstreamTls};
use tunnler_edge::tls::TlsEnd;
use tunnler_edge::{Certificates, Site};
use tunnler_protocol::agent::{self, State};
use tunnler_protocol::directory::{AccountHosts, Directory, Relay};
use tunnler_protocol::name::PublicName;
use tunnler_protocol::network::Network;
use tunnler_protocol::presence::{self as wire, ServiceKind, TlsMode};
use tunnler_protocol::selection::Policy;
use tunnler_protocol::{Address, HostName, Label, SecretKey, ServiceName, term};
use tunnler_transport::Workers;

use crate::authority;
use crate::error::ClientError;
use crate::state::StateDir;
use crate::status::Status;
use door::Door;
use driver::{Driver, Parts};
use presence::Signer;

pub(crate) use probe::round_trip;
pub use tcp::{Announce, TcpUpstream, TcpUpstreamError};
use urls::Urls;

/// How long the chain may take to be read at start.
const CHAIN_PATIENCE: Duration = Duration::from_secs(30);
/// Events that a slow subscriber may be behind.
const EVENTS: usize = 256;

/// What to publish, and how.
#[derive(Debug)]
pub struct TunnelConfig {
    /// The network.
    pub network: Network,
    /// The client's key.
    pub key: SecretKey,
    /// Its state directory.
    pub state: Arc<StateDir>,
    /// Names to serve; empty: the account host.
    pub labels: Vec<Label>,
    /// What is served, at most 16; the first one answers at the bare name.
    pub services: Vec<Service>,
    /// Sessions to hold (1–4).
    pub sessions: usize,
    /// Relays preferred above all others.
    pub pinned: Vec<Address>,
    /// If not empty, only these relays.
    pub allowed: BTreeSet<Address>,
    /// Never these relays.
    pub denied: BTreeSet<Address>,
    /// Preferred region code.
    pub region: Option<String>,
    /// Relays used before all others, whether or not the chain knows them. Visitors find only those it knows.
    pub named: Vec<Arc<Relay>>,
    /// Where certificates come from.
    pub authority: CertificateAuthority,
}

/// Something local that visitors may reach.
#[derive(Debug)]
pub struct Service {
    /// Its name, the first label of `SERVICE.NAME.ZONE`.
    pub name: ServiceName,
    /// Where it goes.
    pub backend: ServiceBackend,
    /// Who ends the TLS of a web service's visitors.
    pub tls: TlsMode,
}

/// Where a service's visitors go.
#[derive(Clone, Debug)]
pub enum ServiceBackend {
    /// To web servers, by path.
    Http(Arc<Site>),
    /// To a TCP server, as they are.
    Tcp(TcpUpstream),
}

/// What happens to a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TunnelEvent {
    /// The agent's state changed.
    State {
        /// The new state.
        state: State,
    },
    /// A relay serves from now on.
    RelayConnected {
        /// The relay.
        relay: Address,
    },
    /// A relay could not be used.
    RelayFailed {
        /// The relay.
        relay: Address,
        /// Why.
        problem: String,
    },
    /// A session is over.
    RelayLost {
        /// The relay.
        relay: Address,
        /// Why.
        problem: String,
    },
    /// Something happened to a certificate.
    Certificate {
        /// The host.
        host: HostName,
        /// What.
        what: String,
    },
    /// Visitors are served at these URLs.
    Serving {
        /// The URLs, first the main one.
        urls: Vec<String>,
    },
    /// Something the user should know.
    Warning {
        /// What.
        text: String,
    },
}

/// A running tunnel. Dropping it ends everything at once; [`Tunnel::shutdown`] in order.
#[derive(Debug)]
pub struct Tunnel {
    status: watch::Receiver<Status>,
    events: broadcast::Sender<TunnelEvent>,
    stop: CancellationToken,
    door: Arc<Door>,
    driver: JoinHandle<()>,
}

impl TunnelConfig {
    /// Two sessions with whichever relays suit best, the account host, no services yet.
    pub fn new(network: Network, key: SecretKey, state: Arc<StateDir>) -> Self {
        let authority = authority::of_network(&network);
        Self {
            network,
            key,
            state,
            authority,
            labels: Vec::new(),
            services: Vec::new(),
            sessions: agent::SESSIONS,
            pinned: Vec::new(),
            allowed: BTreeSet::new(),
            denied: BTreeSet::new(),
            region: None,
            named: Vec::new(),
        }
    }

    /// The wishes about relays.
    pub fn policy(&self) -> Policy {
        Policy {
            pinned: self.pinned.clone(),
            allowed: self.allowed.clone(),
            denied: self.denied.clone(),
            region: self.region.clone(),
            ingress_port: self.network.ingress_port,
            addresses: self.network.address_policy(),
            named: self.named.clone(),
            labels: self.labels.clone(),
        }
    }
}

impl Service {
    /// A web server at `target` as the service `http`. A local `https` server's certificate is not judged.
    pub fn http(target: Target) -> Self {
        let upstream = Upstream::new(target, &UpstreamTls::AnyCertificate, HostHeader::Keep);
        Self::site(Site::new(Backend::Upstream(upstream)))
    }

    /// A site as the service `http`.
    pub fn site(site: Site) -> Self {
        let name = "http".parse().expect("a service name");
        Self { name, backend: ServiceBackend::Http(Arc::new(site)), tls: TlsMode::Pass }
    }

    /// A TCP server under a name of its own.
    pub fn tcp(name: ServiceName, upstream: TcpUpstream) -> Self {
        Self { name, backend: ServiceBackend::Tcp(upstream), tls: TlsMode::Pass }
    }

    /// The same with its visitors' TLS ended by `tls`.
    #[must_use]
    pub fn ended_by(self, tls: TlsMode) -> Self {
        Self { tls, ..self }
    }

    fn declared(&self) -> wire::Service {
        wire::Service { name: self.name.clone(), kind: self.backend.kind(), tls: self.tls, port: None }
    }
}

impl ServiceBackend {
    fn kind(&self) -> ServiceKind {
        match self {
            Self::Http(_) => ServiceKind::Http,
            Self::Tcp(_) => ServiceKind::Tcp,
        }
    }
}

impl Tunnel {
    /// Reads the chain, checks that the names are this key's, and begins to look for relays. Returns before a relay
    /// is found: see [`Tunnel::wait_connected`].
    pub async fn start(config: TunnelConfig) -> Result<Self, ClientError> {
        if config.services.is_empty() || config.services.len() > wire::MAX_SERVICES {
            return Err(ClientError::Usage("a tunnel serves 1 to 16 services".into()));
        }
        if !(1..=4).contains(&config.sessions) {
            return Err(ClientError::Usage("a tunnel holds 1 to 4 sessions".into()));
        }
        let chain = start_chain(&config)?;
        let directory = chain.handle().follow_and_wait(config.labels.clone(), CHAIN_PATIENCE).await?;
        let hosts = hosts(&config, &directory)?;
        let (events, _) = broadcast::channel(EVENTS);
        let stop = CancellationToken::new();
        let certificates = Arc::new(Certificates::default());
        let declared: Vec<wire::Service> = config.services.iter().map(Service::declared).collect();
        let names = config.labels.iter().cloned().map(PublicName::Label).collect();
        let zone = directory.zone.zone.clone();
        let (key, state) = (config.key.clone(), config.state.clone());
        let signer = Arc::new(Signer::new(key, state, names, declared.clone(), (&zone, chain.handle())));
        let own = certificates::own_hosts(&hosts, &declared);
        let (issuer, allowed) = (&config.authority.issuer, &directory.zone.issuers);
        if !own.is_empty() && !allowed.contains(issuer) {
            let allowed = allowed.join(", ");
            return Err(ClientError::Failed(format!(
                "the zone allows no certificates of {issuer}, only of: {allowed}; see --acme"
            )));
        }
        let relays = wire::MAX_ACME - usize::from(!own.is_empty());
        if !signer.relayed().is_empty() && config.sessions > relays {
            return Err(ClientError::Usage(format!(
                "a tunnel with services whose TLS relays end holds at most {relays} sessions"
            )));
        }
        let tls = TlsEnd::new(certificates.clone());
        let door = Arc::new(Door::new(zone, config.services_by_name(), config.relayed(), tls, stop.clone()));
        let urls =
            Urls { hosts: hosts.clone(), ingress_port: config.network.ingress_port, services: declared };
        let status = watch::Sender::new(Status {
            address: config.key.address(),
            network: config.network.name.clone(),
            state: State::Connecting,
            urls: urls.with(&BTreeMap::new()),
            serving: false,
            relays: Vec::new(),
            certificates: Vec::new(),
            visitors: 0,
            visitors_total: 0,
            ledger: Some(directory.ledger.sequence),
        });
        let followed = status.subscribe();
        let keeping = certificates::Keeping {
            authority: config.authority.clone(),
            dns_port: config.network.dns_port,
            state: config.state.clone(),
            hosts: own,
            signer: signer.clone(),
            chain: chain.handle(),
            certificates: certificates.clone(),
            events: events.clone(),
        };
        let (tells, door_of_driver) = (events.clone(), door.clone());
        let workers = Workers::for_sessions(config.sessions)
            .map_err(|error| ClientError::Failed(format!("cannot start threads: {error}")))?;
        let parts =
            Parts { chain, signer, door: door_of_driver, certificates, urls, events: tells, status, workers };
        let driver = tokio::spawn(Driver::new(&config, parts).run(keeping, stop.clone()));
        Ok(Self { status: followed, events, stop, door, driver })
    }

    /// The present status.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Events from now on. A subscriber that falls far behind misses some.
    pub fn subscribe(&self) -> broadcast::Receiver<TunnelEvent> {
        self.events.subscribe()
    }

    /// Sends new visitors of a service, by its name, somewhere else. Connections that exist keep their backend.
    pub fn replace(&self, service: Service) {
        self.door.replace(&service.name, service.backend);
    }

    /// Waits until a relay serves; fails after `patience`, saying what each relay said. Does not borrow the tunnel.
    pub fn wait_connected(
        &self,
        patience: Option<Duration>,
    ) -> impl Future<Output = Result<(), ClientError>> + use<> {
        let (mut status, last) = (self.status.clone(), self.status.clone());
        async move {
            let connected = status.wait_for(|status| status.state == State::Connected);
            let waited = match patience {
                None => connected.await.map(drop),
                Some(patience) => match tokio::time::timeout(patience, connected).await {
                    Ok(connected) => connected.map(drop),
                    Err(_) => return Err(no_relay(&last.borrow(), patience)),
                },
            };
            waited.map_err(|_| ClientError::Stopped("its task ended".into()))
        }
    }

    /// Waits until a relay serves, every host has its certificate and every TCP service its port; returns the URLs.
    pub async fn wait_serving(&self) -> Result<Vec<String>, ClientError> {
        let mut status = self.status.clone();
        let serving = status.wait_for(|status| status.serving);
        let serving = serving.await.map_err(|_| ClientError::Stopped("its task ended".into()))?;
        Ok(serving.urls.clone())
    }

    /// Tells relays and DNS that this client leaves, lets visitors finish for a while, and ends.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        let _ = (&mut self.driver).await;
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl TunnelConfig {
    fn tcp_services(&self) -> impl Iterator<Item = &ServiceName> {
        let tcp = self.services.iter().filter(|service| service.backend.kind() == ServiceKind::Tcp);
        tcp.map(|service| &service.name)
    }

    /// Services whose TLS relays end.
    fn relayed(&self) -> Vec<ServiceName> {
        let relayed = self.services.iter().filter(|service| term::is_ended_by_relays(&service.declared()));
        relayed.map(|service| service.name.clone()).collect()
    }

    fn services_by_name(&self) -> Vec<(ServiceName, ServiceBackend)> {
        self.services.iter().map(|service| (service.name.clone(), service.backend.clone())).collect()
    }
}

fn start_chain(config: &TunnelConfig) -> Result<Chain, ClientError> {
    let kept = config.state.store().inner("chain").map_err(crate::state::StateError::from)?;
    let following = ChainConfig {
        network: config.network.clone(),
        names: FollowedNames::Chosen,
        state: Some(kept.path("")),
        poll: POLL,
    };
    Ok(Chain::start(following)?)
}

/// The hosts to serve, after a look at whose they are.
fn hosts(config: &TunnelConfig, directory: &Directory) -> Result<Vec<HostName>, ClientError> {
    let mine = config.key.address();
    let zone = &directory.zone;
    if config.labels.is_empty() {
        let host = zone.zone.account_host(&mine);
        return match zone.account_hosts {
            AccountHosts::All | AccountHosts::Owners => Ok(vec![host]),
            AccountHosts::Off => Err(ClientError::NoAccountHost(host.to_string())),
        };
    }
    config
        .labels
        .iter()
        .map(|label| check_name(label, mine, directory).map(|()| zone.zone.host(label)))
        .collect()
}

/// Whether `label` is this key's to serve now.
pub(crate) fn check_name(label: &Label, mine: Address, directory: &Directory) -> Result<(), ClientError> {
    let label = label.clone();
    let Some(record) = directory.names.get(&label) else { return Err(ClientError::Unregistered { label }) };
    if directory.ledger.closed_at >= record.expires_at {
        return Err(ClientError::Expired { label });
    }
    if record.suspended {
        return Err(ClientError::Suspended { label });
    }
    if record.target != Some(mine) {
        return Err(ClientError::NotOurs { label, target: record.target, mine });
    }
    Ok(())
}

fn no_relay(status: &Status, waited: Duration) -> ClientError {
    let problems: Vec<&str> =
        status.relays.iter().map(|relay| relay.problem.as_str()).filter(|text| !text.is_empty()).collect();
    let problems = match (problems.is_empty(), status.relays.is_empty()) {
        (false, _) => problems.join("; "),
        (true, true) => "no usable relay is registered; see: tunnler relays".into(),
        (true, false) => "no relay answered in time".into(),
    };
    ClientError::NoRelay { waited, problems }
}
