//! slowhttptest, which is nobody's test code, against both ends of TLS: the client's and the relay's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{any, get};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tunnler_tests::process::{Process, Scratch, run_ok};
use tunnler_tests::sni::Wrapper;
use tunnler_tests::visitor::Tls;
use tunnler_tests::world::programs::tunnler;
use tunnler_tests::world::{Layout, World};

/// Where the attack comes from, and where the others do: networks of their own.
const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 9, 1));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 8, 1));
/// A service whose TLS ends at the client, and one whose TLS ends at the relay.
const PASS: &str = "mynode.tun.test";
const TERM: &str = "public.mynode.tun.test";
/// How many attack at once, more than a client has places, and for how long in seconds.
const CROWD: usize = 300;
const LASTS: u64 = 15;
/// How much that may add to a program's memory, in KiB: 80 a connection.
const GROWTH: u64 = CROWD as u64 * 80;
/// The same for each of those who read slowly: yamux lets 256 KiB of a stream be under way, whoever reads them, and each
/// hop on the way has its buffers. What all may take is bounded by the relay's memory budget.
const GROWTH_PER_READER: u64 = 768;
/// How many of them come in a second.
const RATE: usize = 75;
/// How long a visit may take on a machine that is busy with attackers' handshakes.
const PATIENCE: Duration = Duration::from_secs(10);

/// A run of slowhttptest.
struct Attack {
    name: &'static str,
    options: &'static [&'static str],
    path: &'static str,
    /// How much it may add to a program's memory, in KiB.
    growth: u64,
}

const ATTACKS: [Attack; 3] = [
    Attack { name: "slow headers", options: &["-H", "-i", "3", "-x", "24"], path: "/", growth: GROWTH },
    Attack {
        name: "slow bodies",
        options: &["-B", "-i", "3", "-x", "24", "-s", "1000000"],
        path: "/upload",
        growth: GROWTH,
    },
    Attack {
        name: "slow readers",
        options: &["-X", "-n", "2", "-z", "16", "-w", "256", "-y", "1024", "-k", "1"],
        path: "/much",
        growth: CROWD as u64 * GROWTH_PER_READER,
    },
];

/// A web server that takes every body to its end and has much to say.
async fn web() -> Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let much = || async {
        let part = Bytes::from_static(&[b'x'; 64 << 10]);
        let parts = futures::stream::iter((0..1024).map(move |_| Ok::<_, std::io::Error>(part.clone())));
        Body::from_stream(parts)
    };
    let upload = |body: Body| async {
        let mut parts = body.into_data_stream();
        while let Some(Ok(_)) = parts.next().await {}
        "taken"
    };
    let app = Router::new().route("/", get("hello")).route("/much", get(much)).route("/upload", any(upload));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

/// A network with one relay, and a client with a service of each kind.
struct Stage {
    world: World,
    client: Process,
    tls: Tls,
}

impl Stage {
    async fn set(dir: &std::path::Path) -> Result<Self> {
        tunnler_transport::tls::install_provider();
        let layout = Layout { relays: 1, ..Layout::default() };
        let mut world = World::start(dir, &layout, |step| println!("{step}")).await?;
        let target = web().await?.to_string();
        let (_, key) = world.funded_key("publisher").await?;
        world.register_name(&key, "mynode").await?;
        let service = |name: &str, mode: &str| {
            format!("[[service]]\nname = \"{name}\"\ntarget = \"{target}\"\ntls = \"{mode}\"\n")
        };
        let services = [service("http", "pass"), service("public", "term")].concat();
        let file = world.dir().join("tunnler.toml");
        std::fs::write(&file, format!("names = [\"mynode\"]\n{services}"))?;
        let mut up = tunnler(&world, &key)?;
        up.arg("--state").arg(world.dir().join("client-state")).arg("up").arg(&file);
        let client = Process::spawn("client", up, world.dir())?;
        let tls = world.visitor().await?.tls().clone();
        let it = Self { world, client, tls };
        for host in [PASS, TERM] {
            World::wait_for(host, Duration::from_secs(60), || async { it.visit(host).await.is_ok() }).await?;
        }
        Ok(it)
    }

    fn relay(&self) -> SocketAddr {
        self.world.relays[0].ingress()
    }

    /// Visits once, from another network than the attack's.
    async fn visit(&self, host: &str) -> Result<()> {
        let exchange = async {
            let mut stream = self.tls.connect_from(OTHER, self.relay(), host).await?;
            let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            ensure!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
            Ok(())
        };
        tokio::time::timeout(PATIENCE, exchange).await.context("no answer in time")?
    }

    /// Resident memory of relay and client in KiB.
    fn memory(&self) -> Result<[u64; 2]> {
        Ok([self.world.relays[0].process.resident_kib()?, self.client.resident_kib()?])
    }

    /// Runs one attack on one host and watches.
    async fn attack(&self, host: &str, attack: &Attack) -> Result<()> {
        let Attack { name, options, path, growth } = attack;
        let wrapper = Wrapper::start(ATTACKER, self.relay(), host, self.tls.clone()).await?;
        let before = self.memory()?;
        let over = AtomicBool::new(false);
        let attacking = async {
            let mut command = Command::new("slowhttptest");
            command.args(*options).args(["-c", &CROWD.to_string(), "-r", &RATE.to_string()]);
            command.args(["-l", &LASTS.to_string(), "-p", "10", "-d", &wrapper.address().to_string()]);
            // As a proxy, because only so it asks for a host that it does not resolve.
            let said = run_ok(command.arg("-u").arg(format!("http://{host}{path}"))).await;
            over.store(true, Ordering::Relaxed);
            said
        };
        let (said, watched) = tokio::join!(attacking, self.watch(host, &over));
        let (said, watched) = (said?, watched.with_context(|| format!("{host}, {name}"))?);
        let grown = [0, 1].map(|program| watched.most[program].saturating_sub(before[program]));
        println!("{host}, {name}: relay +{} KiB, client +{} KiB, {watched:?}", grown[0], grown[1]);
        // It must have been an attack: everybody in, and there until its end.
        ensure!(said.contains("Hit test time limit"), "{host}, {name} ended early: {said}");
        let connected = most_connected(&said).with_context(|| said.clone())?;
        ensure!(connected >= CROWD / 2, "{host}, {name}: only {connected} got in: {said}");
        ensure!(grown.iter().all(|grown| grown < growth), "{host}, {name}: memory grew by {grown:?} KiB");
        ensure!(watched.visits > 10, "{host}, {name}: {watched:?}");
        Ok(())
    }

    /// Visits and looks at memory until the attack is over; every visit must succeed.
    async fn watch(&self, host: &str, over: &AtomicBool) -> Result<Watched> {
        let mut watched = Watched::default();
        while !over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            self.visit(host).await.with_context(|| format!("after {} visits", watched.visits))?;
            watched.visits += 1;
            watched.slowest = watched.slowest.max(begun.elapsed());
            for (most, now) in watched.most.iter_mut().zip(self.memory()?) {
                *most = now.max(*most);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(watched)
    }
}

/// What was seen during an attack.
#[derive(Debug, Default)]
struct Watched {
    visits: usize,
    slowest: Duration,
    /// Most resident memory of relay and client in KiB.
    most: [u64; 2],
}

/// The highest number of connections that slowhttptest reports.
fn most_connected(said: &str) -> Option<usize> {
    let counts = said.lines().filter_map(|line| line.split_once("connected:"));
    // Between codes for colours.
    counts.filter_map(|(_, rest)| rest.split_whitespace().find_map(|word| word.parse().ok())).max()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slowhttptest_takes_little_and_nobody_elses_place_where_the_client_ends_tls() -> Result<()> {
    withstands(PASS).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slowhttptest_takes_little_and_nobody_elses_place_where_the_relay_ends_tls() -> Result<()> {
    withstands(TERM).await
}

async fn withstands(host: &str) -> Result<()> {
    let scratch = Scratch::new()?;
    let it = Stage::set(scratch.path()).await?;
    for attack in &ATTACKS {
        it.attack(host, attack).await?;
    }
    drop(it);
    scratch.done();
    Ok(())
}
