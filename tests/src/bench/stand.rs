//! Everything that is measured, running: upstreams, our network with its publishers, the peers.

use std::net::SocketAddr;
use std::path::Path as FilePath;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::link;
use super::peers::{self, Proxy, Rathole, Settings, accepts};
use super::report::Report;
use super::sessions::Crowd;
use super::usage::resident;
use super::visits::Entrance;
use crate::ports;
use crate::process::Process;
use crate::world::programs::Client;
use crate::world::{Layout, World, ZONE};

/// The upstreams themselves.
pub const DIRECT: &str = "no tunnel";
/// Our TCP service.
pub const TCP: &str = "tunnler, TCP service";
/// rathole over WebSocket and TLS.
pub const RATHOLE_WS: &str = "rathole, WebSocket and TLS";
/// rathole over TCP.
pub const RATHOLE: &str = "rathole, plain";
/// The same two without a word about TCP_NODELAY, as many run them.
pub const RATHOLE_WS_AS_IT_COMES: &str = "rathole, WebSocket, as it comes";
/// See [`RATHOLE_WS_AS_IT_COMES`].
pub const RATHOLE_AS_IT_COMES: &str = "rathole, plain, as it comes";
/// The core of a tunnel alone: see [`super::bare`].
pub const BARE: &str = "bare yamux, WebSocket and TLS";
/// HTTPS through a relay to the client's TLS end.
pub const PASS: &str = "tunnler, HTTPS";
/// HTTPS that the relay ends itself, for a service in term mode.
pub const TERM: &str = "tunnler, HTTPS in term mode";
/// nginx in front of rathole.
pub const NGINX_RATHOLE: &str = "nginx TLS, rathole plain";
/// The client's TLS end and proxy alone.
pub const EDGE: &str = "tunnler's TLS end alone";
/// nginx alone.
pub const NGINX: &str = "nginx TLS alone";
/// Our TCP service with 100 ms between relay and client.
pub const FAR: &str = "tunnler, TCP service, 100 ms away";

/// One way for 100 ms there and back.
const ONE_WAY: Duration = Duration::from_millis(50);
const START: Duration = Duration::from_secs(20);
/// Sessions attached to see what one more costs.
const SESSIONS: usize = 1000;

/// What is measured on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measured {
    /// Everything.
    All,
    /// Requests over a few connections.
    Requests,
    /// One big body each way.
    Bodies,
}

/// One way from a visitor to the upstreams.
#[derive(Debug)]
pub struct Path {
    /// What it is.
    pub name: &'static str,
    /// What is measured on it.
    pub measured: Measured,
    /// Where the page is asked for.
    pub page: Entrance,
    /// Where big bodies go.
    pub bodies: Entrance,
}

/// Everything that is measured.
#[derive(Debug)]
pub struct Stand {
    /// The paths in the order they are measured.
    pub paths: Vec<Path>,
    world: World,
    tcp_page: Client,
    clients: Vec<Client>,
    rathole: Rathole,
    rathole_ws: Rathole,
    _as_it_comes: [Rathole; 2],
    _proxy: Proxy,
    _processes: Vec<Process>,
    _others: [Client; 3],
    _cable: Task,
}

#[derive(Debug)]
struct Task(JoinHandle<Result<()>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Stand {
    /// Starts it all below `dir`.
    pub async fn start(dir: &FilePath, say: impl Fn(&str)) -> Result<Self> {
        let layout = Layout { relays: 1, ..Layout::default() };
        let mut world = World::start(&dir.join("network"), &layout, &say).await?;
        say("peers");
        peers::write_certificates(dir).await?;
        let (upstream, page) = peers::upstream(dir).await?;
        let (bodies_server, bodies) = role(dir, "bodies", &[]).await?;
        let rathole = Rathole::start(dir, "rathole", Settings::Tuned, page, bodies).await?;
        let rathole_ws = Rathole::start(dir, "rathole-websocket", Settings::Tuned, page, bodies).await?;
        let as_it_comes = dir.join("as-it-comes");
        std::fs::create_dir(&as_it_comes)?;
        peers::write_certificates(&as_it_comes).await?;
        let as_it_comes = [
            Rathole::start(dir, "rathole-websocket", Settings::AsItComes, page, bodies).await?,
            Rathole::start(dir, "rathole", Settings::AsItComes, page, bodies).await?,
        ];
        let proxy = Proxy::start(dir, page, bodies, &rathole).await?;
        let pem = |name: &str| dir.join(name).to_string_lossy().into_owned();
        let certificate =
            ["--chain", &pem("bench-chain.pem"), "--tls-key", &pem("bench-key.pem")].map(str::to_owned);
        let (edge_page_server, edge_page) = edge(dir, "edge-page", &certificate, page).await?;
        let (edge_bodies_server, edge_bodies) = edge(dir, "edge-bodies", &certificate, bodies).await?;
        let control = ports::local()?;
        let bare = [certificate.to_vec(), vec!["--control".into(), control.to_string()]].concat();
        let (bare_server, bare) = role(dir, "bare-server", &bare).await?;
        let mut bare_client = Command::new(std::env::current_exe()?);
        bare_client.args(["bare-client", "--control", &control.to_string(), "--upstream", &page.to_string()]);
        let bare_client = Process::spawn("bare-client", bare_client, dir)?;

        say("publishing");
        let relay = world.relays[0].ingress();
        // A relay that the world believes to be at the near end of a long cable.
        let far_end = SocketAddr::new([127, 0, 2, 2].into(), relay.port());
        let near_end = SocketAddr::new([127, 0, 3, 2].into(), relay.port());
        let cable = TcpListener::bind(near_end).await?;
        let cable = Task(tokio::spawn(link::carry(cable, far_end, ONE_WAY)));
        world.add_relay("relay-far", far_end, near_end).await?;
        let (tcp_page, page_port) = publish_tcp(&mut world, "tcp-page", 0, page).await?;
        let (tcp_bodies, bodies_port) = publish_tcp(&mut world, "tcp-bodies", 0, bodies).await?;
        let (far_page, far_page_port) = publish_tcp(&mut world, "far-page", 1, page).await?;
        let (far_bodies, far_bodies_port) = publish_tcp(&mut world, "far-bodies", 1, bodies).await?;
        let mut clients = Vec::new();
        for (label, upstream, mode) in [
            ("page", page, "pass"),
            ("bodies", bodies, "pass"),
            ("term-page", page, "term"),
            ("term-bodies", bodies, "term"),
        ] {
            clients.push(publish_https(&mut world, label, upstream, mode).await?);
            let entrance = Entrance::tls(relay, format!("{label}.{ZONE}"));
            World::wait_for("a certificate", Duration::from_secs(30), || async {
                entrance.connect().await.is_ok()
            })
            .await?;
        }
        let measured = |measured, name, page, bodies| Path {
            name,
            measured,
            page: Entrance::plain(page),
            bodies: Entrance::plain(bodies),
        };
        let plain = |name, page, bodies| measured(Measured::All, name, page, bodies);
        let tls = |name, page, bodies| Path {
            name,
            measured: Measured::All,
            page: Entrance::tls(page, peers::HOST),
            bodies: Entrance::tls(bodies, peers::HOST),
        };
        let https = |name, page: &str, bodies: &str| Path {
            name,
            measured: Measured::All,
            page: Entrance::tls(relay, format!("{page}.{ZONE}")),
            bodies: Entrance::tls(relay, format!("{bodies}.{ZONE}")),
        };
        let paths = vec![
            plain(DIRECT, page, bodies),
            plain(TCP, page_port, bodies_port),
            plain(RATHOLE_WS, rathole_ws.page, rathole_ws.bodies),
            plain(RATHOLE, rathole.page, rathole.bodies),
            measured(Measured::Requests, RATHOLE_WS_AS_IT_COMES, as_it_comes[0].page, as_it_comes[0].bodies),
            measured(Measured::Requests, RATHOLE_AS_IT_COMES, as_it_comes[1].page, as_it_comes[1].bodies),
            measured(Measured::Requests, BARE, bare, bare),
            https(PASS, "page", "bodies"),
            https(TERM, "term-page", "term-bodies"),
            tls(NGINX_RATHOLE, proxy.tunnelled, proxy.tunnelled),
            tls(EDGE, edge_page, edge_bodies),
            tls(NGINX, proxy.direct, proxy.direct),
            measured(Measured::Bodies, FAR, far_page_port, far_bodies_port),
        ];
        Ok(Self {
            paths,
            world,
            tcp_page,
            clients,
            rathole,
            rathole_ws,
            _as_it_comes: as_it_comes,
            _proxy: proxy,
            _processes: vec![
                upstream,
                bodies_server,
                edge_page_server,
                edge_bodies_server,
                bare_server,
                bare_client,
            ],
            _others: [tcp_bodies, far_page, far_bodies],
            _cable: cable,
        })
    }

    /// What one more session costs a relay that has carried nothing yet: the far one.
    pub async fn memory_of_a_session(&self, report: &mut Report) -> Result<()> {
        let relay = &self.world.relays[1];
        let before = resident(pid(&relay.process)?)?;
        let _crowd = Crowd::attach(relay, SESSIONS).await?;
        let each = resident(pid(&relay.process)?)?.saturating_sub(before) as f64 / SESSIONS as f64;
        report.add("memory of one more idle session", "KiB", "tunnler-relay", each / 1024.0);
        Ok(())
    }

    /// Memory of the processes after all this work.
    pub fn memory(&self, report: &mut Report) -> Result<()> {
        const RESIDENT: &str = "resident memory after the rounds";
        let mut megabytes = |path, pid| {
            report.add(RESIDENT, "MB", path, resident(pid)? as f64 / 1e6);
            anyhow::Ok(())
        };
        megabytes("tunnler-relay", pid(&self.world.relays[0].process)?)?;
        megabytes("tunnler (TCP service)", pid(&self.tcp_page.process)?)?;
        megabytes("tunnler (HTTPS)", pid(&self.clients[0].process)?)?;
        megabytes("rathole server, plain", pid(&self.rathole.server)?)?;
        megabytes("rathole client, plain", pid(&self.rathole.client)?)?;
        megabytes("rathole server, WebSocket and TLS", pid(&self.rathole_ws.server)?)?;
        megabytes("rathole client, WebSocket and TLS", pid(&self.rathole_ws.client)?)?;
        Ok(())
    }
}

/// Starts this program in one of its other roles, listening.
async fn role(dir: &FilePath, role: &str, arguments: &[String]) -> Result<(Process, SocketAddr)> {
    named_role(dir, role, role, arguments).await
}

async fn edge(
    dir: &FilePath,
    name: &str,
    certificate: &[String],
    upstream: SocketAddr,
) -> Result<(Process, SocketAddr)> {
    let arguments: Vec<String> =
        certificate.iter().cloned().chain(["--upstream".into(), upstream.to_string()]).collect();
    named_role(dir, "edge", name, &arguments).await
}

async fn named_role(
    dir: &FilePath,
    role: &str,
    name: &str,
    arguments: &[String],
) -> Result<(Process, SocketAddr)> {
    let listen = ports::local()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(role).args(["--listen", &listen.to_string()]).args(arguments);
    let mut process = Process::spawn(name, command, dir)?;
    process.wait_until("listening", START, || accepts(listen)).await?;
    Ok((process, listen))
}

/// Publishes `upstream` as a TCP service on relay `index` alone; returns where visitors find it.
async fn publish_tcp(
    world: &mut World,
    label: &str,
    index: usize,
    upstream: SocketAddr,
) -> Result<(Client, SocketAddr)> {
    let (_, key) = world.funded_key(label).await?;
    world.register_name(&key, label).await?;
    let relay = &world.relays[index];
    let (only, ip) = (relay.relay().to_string(), relay.ingress().ip());
    let arguments = [&upstream.to_string(), "--only", &only];
    let client = world.publish_with(&format!("client-{label}"), &key, label, "tcp", &arguments).await?;
    let port = client.url().rsplit(':').next().context("a URL without port")?.parse()?;
    Ok((client, SocketAddr::new(ip, port)))
}

/// Publishes `upstream` by HTTPS on the first relay alone.
async fn publish_https(world: &mut World, label: &str, upstream: SocketAddr, mode: &str) -> Result<Client> {
    let (_, key) = world.funded_key(label).await?;
    world.register_name(&key, label).await?;
    let only = world.relays[0].relay().to_string();
    let arguments = [&upstream.to_string(), "--tls", mode, "--only", &only];
    world.publish_with(&format!("client-{label}"), &key, label, "http", &arguments).await
}

fn pid(process: &Process) -> Result<u32> {
    process.id().context("a process has ended")
}
