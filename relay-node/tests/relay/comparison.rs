//! An honest visitor's latencies while others attack, beside those during an equal load that attacks nobody: as many
//! connections and as many bytes in as much time on the same cores, to somebody else who reads and forgets.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;

use crate::world::*;

/// By how much the median visit may take longer under attack than beside an equal load.
const FACTOR: u32 = 4;
const SLACK: Duration = Duration::from_millis(20);
/// An attack is repeated for so long, and until so many visits were made meanwhile.
const LEAST: Duration = Duration::from_millis(300);
const ENOUGH: usize = 9;
/// An equal load takes no longer: that of a longer attack is cut, at the same pace.
const LONGEST: Duration = Duration::from_secs(2);
/// Time between two writes of an equal load.
const STEP: Duration = Duration::from_millis(5);

/// What attackers spend.
#[derive(Debug, Default)]
pub struct Tally {
    connections: AtomicUsize,
    bytes: AtomicUsize,
}

/// What was spent in some time.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    connections: usize,
    bytes: usize,
}

impl Tally {
    pub fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub fn sent(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Everything since the last call.
    pub fn take(&self) -> Effort {
        Effort {
            connections: self.connections.swap(0, Ordering::Relaxed),
            bytes: self.bytes.swap(0, Ordering::Relaxed),
        }
    }
}

/// How long visits took: connection, TLS with the client, an answer.
#[derive(Clone, Debug, Default)]
pub struct Visits(Vec<Duration>);

impl Visits {
    /// Visits `mynode` while `attack` is repeated; each visit must be served, and in time.
    pub async fn while_repeating(world: &World, attack: impl AsyncFn()) -> Self {
        let made = Cell::new(0);
        let start = Instant::now();
        let attacking = async {
            while start.elapsed() < LEAST || made.get() < ENOUGH {
                attack().await;
            }
        };
        Self::during(world, attacking, || made.set(made.get() + 1)).await
    }

    /// Visits until `other` is over, telling of each visit.
    pub async fn during(world: &World, other: impl Future<Output = ()>, mut made: impl FnMut()) -> Self {
        let mut visits = Self::default();
        let visiting = async {
            loop {
                visits.one(world).await;
                made();
            }
        };
        tokio::select! {
            () = other => {}
            () = visiting => unreachable!(),
        }
        visits
    }

    /// So many visits.
    pub async fn some(world: &World, count: usize) -> Self {
        let mut visits = Self::default();
        for _ in 0..count {
            visits.one(world).await;
        }
        visits
    }

    async fn one(&mut self, world: &World) {
        let start = Instant::now();
        let mut tls = world.visit("mynode.tun.test").await.expect("served");
        assert_eq!(exchange(&mut tls, b"hello").await.expect("served"), b"hello");
        self.0.push(start.elapsed());
    }

    fn median(&self) -> Duration {
        let mut times = self.0.clone();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }
}

/// Prints both medians and asserts that the visits under attack bear comparison.
pub fn compare(name: &str, attacked: &Visits, idle: &Visits) {
    let (a, b) = (attacked.median(), idle.median());
    let (m, n) = (attacked.0.len(), idle.0.len());
    eprintln!("{name}: median of {m} visits {a:?}, of {n} beside an equal load {b:?}");
    assert!(m.min(n) >= ENOUGH, "{name}: too few visits to compare");
    assert!(a <= b * FACTOR + SLACK, "{name}: {a:?} under attack, {b:?} beside an equal load");
}

/// Somebody else's TLS server on the same cores, with the site's kind of certificate: does for whoever comes what has to
/// be done, and forgets what it reads.
pub struct Sink {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Sink {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = site_acceptor();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((tcp, _)) = listener.accept() => {
                        connections.spawn(forget(tcp, acceptor.clone()));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self { address, task }
    }

    /// Spends the same `effort` in the same time, in at most [`LONGEST`]: connection after connection, and bytes.
    pub async fn load(&self, effort: Effort, time: Duration) {
        let time = time.max(STEP);
        let cut = time.min(LONGEST);
        let part = |whole: usize| (whole as f64 * cut.as_secs_f64() / time.as_secs_f64()).ceil() as usize;
        let steps = (cut.as_secs_f64() / STEP.as_secs_f64()).ceil() as usize;
        let chunk = vec![7; part(effort.bytes).div_ceil(steps)];
        let connections = part(effort.connections).max(1);
        let (start, mut open) = (Instant::now(), Vec::new());
        for step in 1..=steps {
            while open.len() < (connections * step).div_ceil(steps) {
                open.push(TcpStream::connect(self.address).await.unwrap());
            }
            open.last_mut().expect("one at least").write_all(&chunk).await.unwrap();
            sleep_until(start + STEP * step as u32).await;
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forget(mut tcp: TcpStream, acceptor: TlsAcceptor) -> std::io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    let mut first = [0];
    tcp.peek(&mut first).await?;
    if first == [22] {
        let mut tls = acceptor.accept(tcp).await?;
        while tls.read(&mut buffer).await? > 0 {}
        return Ok(());
    }
    tcp.write_all(&[21, 3, 3, 0, 2, 2, 50]).await?;
    while tcp.read(&mut buffer).await? > 0 {}
    Ok(())
}
