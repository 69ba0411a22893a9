//! A relay put together: listeners, sessions, watchers. [`Relay::start`] starts it, [`Relay::shutdown`] ends it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tunnler_chain::ChainHandle;
use tunnler_edge::Store;
use tunnler_protocol::control::{CloseCode, Closing};
use tunnler_protocol::directory::{AddressPolicy, Directory};
use tunnler_protocol::instance::{BootId, InstanceId};
use tunnler_protocol::{Address, HostName, SecretKey};
use tunnler_transport::{BufferPool, MemoryBudget, SpliceContext, Tap, Workers, tls};

use crate::certificates::Certificates;
use crate::clock;
use crate::feed::Slots;
use crate::forward::arrivals::Forwarders;
use crate::forward::asked::Asked;
use crate::forward::lines::Lines;
use crate::forward::served::Served;
use crate::grants::Grants;
use crate::ingress;
use crate::limits::Limits;
use crate::limits::shares::Shares;
use crate::login::Gate;
use crate::memory::Memory;
use crate::names::{ListedNames, Names};
use crate::own_host::ACME_ALPN;
use crate::prefixes::Prefixes;
use crate::session::Line;
use crate::sessions::Sessions;
use crate::tcp::TcpPorts;
use crate::term::TermEnd;
use crate::term::clients::Clients;

/// What a relay is made of.
pub struct RelayConfig {
    /// The relay's key.
    pub key: SecretKey,
    /// Its own host.
    pub own_host: HostName,
    /// Where visitors, clients and feed readers connect ([`listen`]).
    pub listener: TcpListener,
    /// Bounds.
    pub limits: Limits,
    /// Certificates of the own host.
    pub certificates: Certificates,
    /// Certificates of hosts whose TLS this relay ends for their clients; others put them in and take them out.
    pub term_certificates: Arc<tunnler_edge::Certificates>,
    /// The newest directory.
    pub directory: watch::Receiver<Option<Arc<Directory>>>,
    /// Which addresses of other relays and of the zone's servers may be dialled.
    pub address_policy: AddressPolicy,
    /// Port of the zone's servers.
    pub dns_port: u16,
    /// Where ports that are held and clients that were served are remembered; `None` forgets them at the end.
    pub state: Option<Store>,
    /// How well the chain can be read, for `/health`; `None` without a chain.
    pub chain: Option<ChainHandle>,
    /// On which threads sessions and visitors live.
    pub workers: Workers,
    /// Sees every byte that is passed on. For tests that show what a relay can see.
    pub tap: Option<Arc<dyn Tap>>,
}

/// What the parts of a relay share.
pub(crate) struct Shared {
    pub(crate) memory: Memory,
    pub(crate) address: Address,
    pub(crate) key: SecretKey,
    pub(crate) own_host: HostName,
    pub(crate) public_port: u16,
    pub(crate) ingress_ip: IpAddr,
    pub(crate) tcp_ports: TcpPorts,
    pub(crate) boot: BootId,
    pub(crate) limits: Limits,
    pub(crate) directory: watch::Receiver<Option<Arc<Directory>>>,
    pub(crate) names: Names,
    pub(crate) sessions: Arc<Sessions<Line>>,
    pub(crate) grants: Grants,
    pub(crate) gate: Gate,
    pub(crate) feed_slots: Slots,
    pub(crate) newcomers: Arc<Semaphore>,
    pub(crate) newcomers_by_prefix: Arc<Prefixes>,
    pub(crate) shares: Shares,
    pub(crate) address_policy: AddressPolicy,
    pub(crate) dns_port: u16,
    pub(crate) served: Served,
    pub(crate) lines: Lines,
    pub(crate) asked: Asked,
    pub(crate) forwarders: Forwarders,
    pub(crate) splices: SpliceContext,
    pub(crate) budget: Arc<MemoryBudget>,
    pub(crate) tls: TlsAcceptor,
    pub(crate) certificates: Certificates,
    pub(crate) term: TermEnd,
    pub(crate) chain: Option<ChainHandle>,
    pub(crate) tasks: TaskTracker,
    /// No new sessions any more.
    pub(crate) draining: CancellationToken,
    /// No new visitors any more.
    pub(crate) stopping: CancellationToken,
    /// Streams that still run are cut.
    pub(crate) aborting: CancellationToken,
    /// Everything ends.
    pub(crate) stopped: CancellationToken,
}

/// One session, for the operator.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SessionSummary {
    /// The client.
    pub client: Address,
    /// Which running copy of it.
    pub ins: InstanceId,
    /// Connections of the session.
    pub connections: usize,
    /// Streams open now.
    pub streams: usize,
}

/// Looks at a relay without owning it.
#[derive(Clone)]
pub struct Observer(Arc<Shared>);

impl Observer {
    /// Every session.
    pub fn sessions(&self) -> Vec<SessionSummary> {
        let list = self.0.sessions.list().into_iter();
        list.map(|(identity, connections, streams)| SessionSummary {
            client: identity.client,
            ins: identity.ins,
            connections,
            streams,
        })
        .collect()
    }

    /// How many sessions there are.
    pub fn session_count(&self) -> usize {
        self.0.sessions.count()
    }

    /// Time since the newest known ledger closed.
    pub fn ledger_age(&self) -> Option<Duration> {
        let directory = self.0.directory.borrow();
        directory.as_ref().map(|directory| clock::seconds().since(directory.ledger.closed_at))
    }

    /// Whether the own host has a CA's certificate.
    pub fn has_certificate(&self) -> bool {
        self.0.certificates.has_certificate()
    }

    /// Time since the own host's certificate of a CA became valid.
    pub fn certificate_age(&self) -> Option<Duration> {
        self.0.certificates.issued().map(|since| clock::seconds().since(since))
    }

    /// Bytes that lie unread in all sessions.
    pub fn unread_bytes(&self) -> usize {
        self.0.budget.used()
    }
}

/// Listens at `address`; port 0 takes a free one.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    bind(address).map_err(|source| ListenError { address, source })
}

/// Connections that may wait to be accepted; beyond that the system resets some of a burst.
const BACKLOG: u32 = 4096;

pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A running relay. Dropping it stops everything abruptly.
pub struct Relay {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    /// Not in what is shared: tasks that run on them hold that.
    _workers: Arc<Workers>,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// How often authority is rechecked even if the directory did not change: names expire by the clock.
const RECHECK: Duration = Duration::from_secs(5);
/// How often presences that no longer matter are forgotten.
const SWEEP: Duration = Duration::from_secs(60);
/// How long it takes the zone's servers to stop naming a relay whose feed says that it drains, and as much again.
const HEARD_OF: Duration = Duration::from_secs(1);
/// How long connections get to say goodbye at the end.
const GOODBYE: Duration = Duration::from_secs(2);

impl Relay {
    /// Begins to serve. Needs a tokio runtime and a process-wide rustls provider.
    pub fn start(config: RelayConfig) -> io::Result<Self> {
        let listener = config.listener;
        let local_addr = listener.local_addr()?;
        let mut tls = tls::server_config(config.certificates.resolver());
        tls.alpn_protocols.push(ACME_ALPN.to_vec());
        let (limits, address) = (config.limits, config.key.address());
        let memory = Memory::new(config.state);
        let served = memory.served();
        let shared = Arc::new(Shared {
            memory,
            address,
            key: config.key,
            own_host: config.own_host,
            public_port: local_addr.port(),
            ingress_ip: local_addr.ip(),
            tcp_ports: TcpPorts::default(),
            boot: BootId(rand::random()),
            limits,
            directory: config.directory,
            names: Names::default(),
            sessions: Sessions::new(address, limits.sessions, limits.connections as usize),
            grants: Grants::default(),
            gate: Gate::new(address),
            feed_slots: Slots::new(limits.feed_readers),
            newcomers: Arc::new(Semaphore::new(limits.newcomers)),
            newcomers_by_prefix: Arc::default(),
            shares: Shares::new(limits),
            address_policy: config.address_policy,
            dns_port: config.dns_port,
            served,
            lines: Lines::default(),
            asked: Asked::default(),
            forwarders: Forwarders::default(),
            splices: SpliceContext { buffers: BufferPool::new(256), tap: config.tap },
            budget: MemoryBudget::new(limits.memory_budget),
            tls: TlsAcceptor::from(Arc::new(tls)),
            certificates: config.certificates,
            term: TermEnd::new(config.term_certificates),
            chain: config.chain,
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            aborting: CancellationToken::new(),
            stopped: CancellationToken::new(),
        });
        shared.remember();
        let workers = Arc::new(config.workers);
        shared.tasks.spawn(ingress::serve(shared.clone(), listener, workers.clone()));
        shared.tasks.spawn(watch_authority(shared.clone()));
        shared.tasks.spawn(sweep(shared.clone()));
        tracing::info!(relay = %shared.address, host = %shared.own_host, listen = %local_addr, "serving");
        Ok(Self { shared, local_addr, _workers: workers })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Its address on chain.
    pub fn address(&self) -> Address {
        self.shared.address
    }

    /// The names that attached clients list: those whose records the directory must hold.
    pub fn listed_names(&self) -> watch::Receiver<ListedNames> {
        self.shared.names.subscribe()
    }

    /// The clients whose visitors' TLS it ends.
    pub fn term_clients(&self) -> Clients {
        Clients::new(self.shared.clone())
    }

    /// For the operator.
    pub fn observer(&self) -> Observer {
        Observer(self.shared.clone())
    }

    /// Stops in order: tells every client, serves on until all have left or `within` has passed, closes.
    pub async fn shutdown(self, within: Duration) {
        let shared = &self.shared;
        let deadline = Instant::now() + within;
        let lines = shared.begin_draining(clock::seconds().plus(within));
        tracing::info!(sessions = lines.len(), seconds = within.as_secs(), "draining");
        // Clients leave when they are published elsewhere; those that have nowhere to go stay until the deadline. Even
        // if all left at once, visitors may come until the zone's servers have heard of it.
        let gone = async {
            let heard_of = if lines.is_empty() { Duration::ZERO } else { HEARD_OF };
            sleep(heard_of).await;
            for line in &lines {
                line.ended().await;
            }
        };
        let _ = timeout_at(deadline, gone).await;
        shared.stopping.cancel();
        // Those that were handed to another relay are still carried by this one.
        let _ = timeout_at(deadline, shared.shares.everybody_left()).await;
        for line in &lines {
            let closing = Closing { code: CloseCode::ShuttingDown, text: "this relay stops".into() };
            line.close(closing, Duration::ZERO);
        }
        let closed = async {
            for line in &lines {
                line.ended().await;
            }
        };
        let _ = timeout_at(deadline + GOODBYE, closed).await;
        shared.forwarders.close();
        shared.aborting.cancel();
        shared.stopped.cancel();
        shared.write_memory();
        shared.tasks.close();
        let _ = timeout_at(Instant::now() + GOODBYE, shared.tasks.wait()).await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        for token in
            [&self.shared.draining, &self.shared.stopping, &self.shared.aborting, &self.shared.stopped]
        {
            token.cancel();
        }
        self.shared.forwarders.close();
        for line in self.shared.sessions.drain() {
            let closing = Closing { code: CloseCode::ShuttingDown, text: "this relay stops".into() };
            line.session.close(closing, Duration::ZERO);
        }
    }
}

/// Resets the streams of whoever lost the authority that they were opened under.
async fn watch_authority(shared: Arc<Shared>) {
    let mut directory = shared.directory.clone();
    loop {
        tokio::select! {
            Ok(()) = directory.changed() => {}
            () = sleep(RECHECK) => {}
            () = shared.stopped.cancelled() => return,
        }
        shared.grants.recheck(|client, name| shared.authorises(client, name));
        shared.forwarders.recheck(|relay| shared.is_active_relay(relay));
    }
}

async fn sweep(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = sleep(SWEEP) => {}
            () = shared.stopped.cancelled() => return,
        }
        shared.sessions.sweep(clock::millis());
        shared.sweep_ports();
        shared.shares.sweep(std::time::Instant::now());
        shared.lines.sweep();
        shared.asked.sweep(std::time::Instant::now());
        shared.served.sweep(clock::seconds());
        shared.names.retain(|client, ins| {
            shared.sessions.presence(client, ins).is_some() || shared.served.remembers(client, ins)
        });
        shared.write_memory();
    }
}
