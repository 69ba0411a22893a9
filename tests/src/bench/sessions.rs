//! Many sessions at one relay: attach, idle, carry bytes, idle. What they cost the relay, and whether any is lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use rustls_pki_types::ServerName;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tunnler_protocol::instance::{InstanceId, SessionId};
use tunnler_protocol::presence::{Claims, Presence, Service, ServiceKind, TlsMode};
use tunnler_protocol::{Address, SecretKey, ServiceName, UnixMillis};
use tunnler_transport::{
    ClientSession, ConnectOptions, IncomingStream, Login, MemoryBudget, RelayTarget, SessionEvent, connect,
};

use super::usage::{processor_time, resident};
use crate::process::Scratch;
use crate::world::programs::RelayNode;
use crate::world::{Layout, World, ZONE};

/// Logins, and visitors, at once.
const AT_ONCE: usize = 32;
/// What each session carries each way.
const CARRIED: usize = 1 << 20;
/// How long memory may take to be given back.
const SETTLE: Duration = Duration::from_secs(5);
/// The bar for the relay's share of a core while idle.
const SHARE: f64 = 0.03;
/// Aims for its resident memory per session, in bytes.
const FRESH: usize = 40 * 1024;
const USED: usize = 96 * 1024;

/// Sessions of different clients, alive until this is dropped.
#[derive(Debug)]
pub struct Crowd {
    clients: Vec<SecretKey>,
    lost: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Found {
    /// Sessions attached.
    pub sessions: usize,
    /// Sessions lost before the end.
    pub lost: usize,
    /// Seconds idle before, and again after, each session carried 1 MiB both ways.
    pub idle_seconds: u64,
    /// Relay's resident bytes per session, all idle since they attached.
    pub fresh_bytes: usize,
    /// The same after each carried 1 MiB both ways.
    pub used_bytes: usize,
    /// Relay's share of a core while idle, before and after.
    pub idle_share: [f64; 2],
    /// Seconds that the logins took.
    pub login_seconds: f64,
    /// Seconds that carrying took.
    pub carry_seconds: f64,
    /// Whether no session was lost and the relay's share of a core was small, before and after.
    pub holds: bool,
    /// Whether memory stays within the aims.
    pub aims_hold: bool,
}

impl Crowd {
    /// Attaches `count` sessions, each of a client of its own, to `node`.
    pub async fn attach(node: &RelayNode, count: usize) -> Result<Self> {
        let target = RelayTarget {
            relay: node.relay(),
            host: format!("{}.relay.{ZONE}", node.relay().label()).parse()?,
            addresses: vec![node.ingress()],
        };
        let options = ConnectOptions { roots: None, budget: MemoryBudget::new(256 << 20) };
        let clients: Vec<SecretKey> = (0..count).map(client).collect();
        let sessions = stream::iter(clients.clone())
            .map(|key| attach(&target, &options, key))
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        let lost = Arc::<AtomicUsize>::default();
        let mut tasks = JoinSet::new();
        for session in sessions {
            tasks.spawn(serve(session, lost.clone()));
        }
        Ok(Self { clients, lost, _tasks: tasks })
    }

    /// Lets every session carry [`CARRIED`] bytes each way, a few sessions at once.
    async fn carry(&self, ingress: SocketAddr) -> Result<()> {
        let visits = stream::iter(&self.clients).map(|key| carry(ingress, key));
        visits.buffer_unordered(AT_ONCE).try_collect::<()>().await
    }

    fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Attaches `count` sessions and leaves them idle for `idle`, half of it fresh, half of it after each carried bytes.
pub async fn soak(count: usize, idle: Duration) -> Result<Found> {
    let scratch = Scratch::new()?;
    let begun = Instant::now();
    let say = |what: &str| eprintln!("{:>6.1} s  {what}", begun.elapsed().as_secs_f64());
    let layout = Layout { relays: 1, ..Layout::default() };
    let world = World::start(scratch.path(), &layout, say).await?;
    let relay = world.relays[0].process.id().context("the relay ended")?;
    let empty = resident(relay)?;
    say(&format!("{count} clients log in"));
    let started = Instant::now();
    let crowd = Crowd::attach(&world.relays[0], count).await?;
    let login_seconds = started.elapsed().as_secs_f64();
    let each = |resident: usize| resident.saturating_sub(empty) / count;

    say("idle");
    tokio::time::sleep(SETTLE).await;
    let fresh_bytes = each(resident(relay)?);
    let before = idle_share(relay, idle / 2).await?;
    ensure!(crowd.lost() == 0, "{} sessions were lost, fresh and idle", crowd.lost());
    say(&format!("{} KiB a session; each carries {CARRIED} bytes both ways", fresh_bytes / 1024));
    let started = Instant::now();
    crowd.carry(world.relays[0].ingress()).await?;
    let carry_seconds = started.elapsed().as_secs_f64();
    say("idle again");
    tokio::time::sleep(SETTLE).await;
    let after = idle_share(relay, idle / 2).await?;
    let used_bytes = each(resident(relay)?);
    let lost = crowd.lost();
    drop(crowd);
    drop(world);
    scratch.done();
    let idle_share = [before, after];
    Ok(Found {
        sessions: count,
        lost,
        idle_seconds: idle.as_secs(),
        fresh_bytes,
        used_bytes,
        idle_share,
        login_seconds,
        carry_seconds,
        holds: lost == 0 && idle_share.iter().all(|share| *share < SHARE),
        aims_hold: fresh_bytes <= FRESH && used_bytes <= USED,
    })
}

/// The relay's share of a core over `span`.
async fn idle_share(relay: u32, span: Duration) -> Result<f64> {
    let (begun, before) = (Instant::now(), processor_time(relay)?);
    tokio::time::sleep(span).await;
    Ok((processor_time(relay)? - before).as_secs_f64() / begun.elapsed().as_secs_f64())
}

fn client(index: usize) -> SecretKey {
    let mut seed = [b'S'; 32];
    seed[..8].copy_from_slice(&(index as u64).to_le_bytes());
    SecretKey::from_seed(&seed)
}

fn service() -> ServiceName {
    "http".parse().expect("a service name")
}

/// A presence that lives at the account host.
fn presence(key: &SecretKey, ins: InstanceId, relay: Address) -> Result<Presence> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let seq = UnixMillis(u64::try_from(since.as_millis())?);
    let claims = Claims {
        iss: key.address(),
        ins,
        seq,
        exp: seq.seconds().plus(Duration::from_secs(3600)),
        names: vec![],
        relays: vec![relay],
        services: vec![Service { name: service(), kind: ServiceKind::Http, tls: TlsMode::Pass, port: None }],
        acme: vec![],
        txt: Default::default(),
    };
    Ok(claims.sign(key)?)
}

async fn attach(target: &RelayTarget, options: &ConnectOptions, key: SecretKey) -> Result<ClientSession> {
    let instance = InstanceId(rand::random());
    let presence = Some(presence(&key, instance, target.relay)?);
    let login =
        Login { key, instance, session: SessionId(rand::random()), services: vec![service()], presence };
    Ok(connect(target, login, options).await?)
}

/// Swallows what a visitor sends, then sends as much back.
async fn serve(session: ClientSession, lost: Arc<AtomicUsize>) {
    let ClientSession { control, mut streams, mut events, .. } = session;
    let _control = control;
    let mut visitors = JoinSet::new();
    loop {
        tokio::select! {
            Some(IncomingStream { mut io, .. }) = streams.next() => {
                visitors.spawn(async move {
                    let mut buffer = vec![0; 16 * 1024];
                    while io.read(&mut buffer).await? > 0 {}
                    for _ in 0..CARRIED / buffer.len() {
                        io.write_all(&buffer).await?;
                    }
                    io.shutdown().await
                });
            }
            Some(_) = visitors.join_next() => {}
            event = events.next() => if matches!(event, None | Some(SessionEvent::Lost(_))) {
                lost.fetch_add(1, Ordering::Relaxed);
                return;
            },
        }
    }
}

/// One visitor: names the client's host in a ClientHello, which is all that the relay reads, then moves plain bytes.
async fn carry(ingress: SocketAddr, key: &SecretKey) -> Result<()> {
    let name = ServerName::try_from(format!("{}.{ZONE}", key.address().label()))?;
    let mut hello = Vec::new();
    let (config, _) = tunnler_transport::tls::client_config(None);
    rustls::ClientConnection::new(config, name)?.write_tls(&mut hello)?;
    let mut tcp = TcpStream::connect(ingress).await?;
    tcp.write_all(&hello).await?;
    let mut buffer = vec![0; 16 * 1024];
    for _ in 0..CARRIED / buffer.len() {
        tcp.write_all(&buffer).await?;
    }
    tcp.shutdown().await?;
    let mut got = 0;
    loop {
        match tcp.read(&mut buffer).await? {
            0 => break,
            n => got += n,
        }
    }
    ensure!(got == CARRIED, "{got} bytes came back");
    Ok(())
}
