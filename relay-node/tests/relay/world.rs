//! Everything around a relay that the tests need: a directory, clients, visitors, waiting with a deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tunnler_protocol::directory::{AccountHosts, Directory, NameRecord, ZoneConfig};
use tunnler_protocol::instance::{InstanceId, SessionId};
use tunnler_protocol::presence::{self, Presence, Service, ServiceKind, TlsMode};
use tunnler_protocol::{Address, LedgerTime, SecretKey, UnixMillis, UnixSeconds};
use tunnler_relay::{Certificates, Limits, Relay, RelayConfig};
use tunnler_transport::{
    ClientSession, ConnectError, ConnectOptions, IncomingStream, Login, MemoryBudget, RelayTarget,
    SessionEvent, Tap, Workers, connect,
};

use crate::comparison::Tally;

/// Nothing in these tests may take longer.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub struct World {
    pub relay: Relay,
    pub own_host: String,
    pub directory: watch::Sender<Option<Arc<Directory>>>,
    /// What its attackers spend.
    pub attackers: Arc<Tally>,
}

pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

pub fn now() -> UnixMillis {
    UnixMillis(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64)
}

pub fn named(label: &str, target: &SecretKey) -> NameRecord {
    NameRecord {
        label: label.parse().unwrap(),
        owner: target.address().to_string(),
        target: Some(target.address()),
        relays: vec![],
        domains: vec![],
        registered_at: UnixSeconds(0),
        expires_at: UnixSeconds(u64::MAX),
        grace: Duration::ZERO,
        suspended: false,
        serial: 1,
    }
}

pub fn directory(names: Vec<NameRecord>) -> Directory {
    Directory {
        ledger: LedgerTime { sequence: 1, closed_at: now().seconds() },
        registry_revision: 1,
        namespace_revision: 1,
        relays: Default::default(),
        names: names.into_iter().map(|record| (record.label.clone(), Arc::new(record))).collect(),
        heartbeat_ttl: Duration::from_secs(86_400),
        zone: ZoneConfig {
            zone: "tun.test".parse().unwrap(),
            grace: Duration::ZERO,
            servers: vec![],
            account_hosts: AccountHosts::Owners,
            issuers: vec![],
        },
    }
}

/// No workers: everything runs on the test's own thread, which is the one whose metrics it sees.
pub fn here() -> Workers {
    Workers::start(0).unwrap()
}

impl World {
    /// A relay with key 9 in a zone where `mynode` points to key 1.
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut RelayConfig)) -> Self {
        tunnler_transport::tls::install_provider();
        let (sender, receiver) = watch::channel(Some(Arc::new(directory(vec![named("mynode", &key(1))]))));
        let own_host = "relay.example".parse().unwrap();
        let mut config = RelayConfig {
            key: key(9),
            certificates: Certificates::self_signed(&own_host).unwrap(),
            own_host,
            listener: tunnler_relay::listen("127.0.0.1:0".parse().unwrap()).await.unwrap(),
            limits: Limits::default(),
            term_certificates: Default::default(),
            directory: receiver,
            address_policy: tunnler_protocol::directory::AddressPolicy::AllowPrivate,
            dns_port: 53,
            state: None,
            chain: None,
            workers: Workers::start(2).unwrap(),
            tap: None,
        };
        change(&mut config);
        let own_host = config.own_host.to_string();
        let relay = Relay::start(config).unwrap();
        Self { relay, own_host, directory: sender, attackers: Arc::default() }
    }

    pub fn target(&self) -> RelayTarget {
        RelayTarget {
            relay: self.relay.address(),
            host: self.own_host.parse().unwrap(),
            addresses: vec![self.relay.local_addr()],
        }
    }

    pub async fn connect(&self, login: Login) -> Result<ClientSession, ConnectError> {
        connect(&self.target(), login, &options()).await
    }

    /// A session of key 1 that serves `mynode`, and what answers its visitors.
    pub async fn serve_mynode(&self, answer: Answer) -> (tunnler_transport::SessionControl, SiteTask) {
        let session = self.connect(login(1, Some(self.presence(1, 0)))).await.unwrap();
        (session.control.clone(), spawn_site(session, answer))
    }

    pub fn presence(&self, seed: u8, later: u64) -> Presence {
        presence(seed, later, &["mynode"], &[self.relay.address()])
    }

    pub async fn visit(&self, host: &str) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        visit(self.relay.local_addr(), host).await
    }
}

pub fn options() -> ConnectOptions {
    ConnectOptions { roots: None, budget: MemoryBudget::new(64 << 20) }
}

pub fn login(seed: u8, presence: Option<Presence>) -> Login {
    Login {
        key: key(seed),
        instance: InstanceId([seed; 16]),
        session: SessionId([1; 16]),
        services: vec!["web".parse().unwrap()],
        presence,
    }
}

pub fn presence(seed: u8, later: u64, names: &[&str], relays: &[Address]) -> Presence {
    let seq = UnixMillis(now().0 + later);
    presence::Claims {
        iss: key(seed).address(),
        ins: InstanceId([seed; 16]),
        seq,
        exp: seq.seconds().plus(Duration::from_secs(1800)),
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        relays: relays.to_vec(),
        services: vec![Service {
            name: "web".parse().unwrap(),
            kind: ServiceKind::Http,
            tls: TlsMode::Pass,
            port: None,
        }],
        acme: vec![],
        txt: Default::default(),
    }
    .sign(&key(seed))
    .unwrap()
}

/// What a site does with each visitor's TLS stream.
pub type Answer = fn(tokio_rustls::server::TlsStream<tunnler_transport::SessionStream>) -> AnswerFuture;
pub type AnswerFuture = std::pin::Pin<Box<dyn Future<Output = std::io::Result<()>> + Send>>;

/// Sends everything back, then ends.
pub fn echo(mut tls: tokio_rustls::server::TlsStream<tunnler_transport::SessionStream>) -> AnswerFuture {
    Box::pin(async move {
        let (mut read, mut write) = tokio::io::split(&mut tls);
        tokio::io::copy(&mut read, &mut write).await?;
        write.shutdown().await
    })
}

pub struct SiteTask(tokio::task::JoinHandle<()>);

impl Drop for SiteTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The client's part: ends TLS with its own key and answers; keeps the session alive.
pub fn spawn_site(session: ClientSession, answer: Answer) -> SiteTask {
    spawn_site_that(session, answer, |_| {})
}

/// The same, telling of what the relay says.
pub fn spawn_site_that(
    session: ClientSession,
    answer: Answer,
    mut hear: impl FnMut(SessionEvent) + Send + 'static,
) -> SiteTask {
    let ClientSession { control, mut streams, mut events, .. } = session;
    let acceptor = site_acceptor();
    SiteTask(tokio::spawn(async move {
        let _control = control;
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                stream = streams.next() => {
                    let Some(IncomingStream { io, .. }) = stream else { return };
                    let acceptor = acceptor.clone();
                    tasks.spawn(async move {
                        if let Ok(tls) = acceptor.accept(io).await {
                            let _ = answer(tls).await;
                        }
                    });
                }
                event = events.next() => match event {
                    Some(event) => hear(event),
                    None => return,
                },
            }
        }
    }))
}

/// Ends TLS with a certificate of its own.
pub fn site_acceptor() -> TlsAcceptor {
    let site = rcgen::generate_simple_self_signed(["mynode.tun.test".to_string()]).unwrap();
    let certificate: CertificateDer = site.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(site.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

pub async fn visit(
    address: SocketAddr,
    host: &str,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let (config, _) = tunnler_transport::tls::client_config(None);
    let tcp = TcpStream::connect(address).await?;
    let name = host.to_owned().try_into().unwrap();
    timeout(PATIENCE, TlsConnector::from(config).connect(name, tcp)).await.expect("answered in time")
}

/// Writes `sent` and reads as much back.
pub async fn exchange(
    tls: &mut tokio_rustls::client::TlsStream<TcpStream>,
    sent: &[u8],
) -> std::io::Result<Vec<u8>> {
    let (mut read, mut write) = tokio::io::split(tls);
    let mut got = vec![0; sent.len()];
    let both = async {
        let send = async {
            write.write_all(sent).await?;
            write.flush().await
        };
        tokio::try_join!(send, read.read_exact(&mut got))
    };
    timeout(PATIENCE, both).await.expect("answered in time")?;
    Ok(got)
}

/// Polls until `condition` holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Keeps what passes through a relay's splices.
#[derive(Default)]
pub struct Recorder(pub std::sync::Mutex<Vec<u8>>);

impl Tap for Recorder {
    fn pass(&self, _: tunnler_transport::Direction, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
    }
}

/// A connection from an address of this machine's choice.
pub async fn connect_from(from: [u8; 4], to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind((std::net::IpAddr::from(from), 0).into())?;
    socket.connect(to).await
}
