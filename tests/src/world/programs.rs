//! The programs of a network, each with its command line and its way of saying that it is ready.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command;
use tunnler_protocol::{Address, SecretKey};

use super::World;
use crate::ports;
use crate::process::{self, Output, Process, program};

/// How long a program may take until it is ready on a busy two-core machine.
const START: Duration = Duration::from_secs(60);

/// Sessions that a relay takes: enough for the soak.
const CAPACITY: &str = "12000";

/// The local ledger.
#[derive(Debug)]
pub struct Localnet {
    /// The running process.
    pub process: Process,
    address: SocketAddr,
}

/// One of the zone's servers.
#[derive(Debug)]
pub struct DnsServer {
    /// The running process.
    pub process: Process,
    address: SocketAddr,
    admin: SocketAddr,
}

/// A relay.
#[derive(Debug)]
pub struct RelayNode {
    /// The running process.
    pub process: Process,
    /// Its key.
    pub key: SecretKey,
    ingress: SocketAddr,
    public: SocketAddr,
    admin: SocketAddr,
}

/// A publisher's client that serves one name.
#[derive(Debug)]
pub struct Client {
    /// The running process.
    pub process: Process,
    state: PathBuf,
    host: String,
    url: String,
}

impl Localnet {
    /// Starts a ledger with its state below `dir`.
    pub async fn start(dir: &Path) -> Result<Self> {
        let ready = dir.join("localnet.json");
        let mut command = Command::new(program("tunnler-localnet")?);
        command.args(["--listen", "127.0.0.1:0", "--state"]).arg(dir.join("ledger"));
        command.arg("--ready-file").arg(&ready);
        let mut process = Process::spawn("localnet", command, dir)?;
        process.wait_until("ready", START, || std::future::ready(ready.exists())).await?;
        let said: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready)?)?;
        let url = said["rpc"][0].as_str().context("no endpoint in localnet's ready file")?;
        let address = url.trim_start_matches("http://").parse()?;
        Ok(Self { process, address })
    }

    /// The RPC endpoint.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The faucet.
    pub fn friendbot(&self) -> String {
        format!("http://{}/friendbot", self.address)
    }

    /// The passphrase of every standalone network.
    pub fn passphrase(&self) -> &'static str {
        "Standalone Network ; February 2017"
    }
}

impl DnsServer {
    pub(super) async fn start(
        world: &World,
        name: &str,
        address: SocketAddr,
        key: &SecretKey,
    ) -> Result<Self> {
        let key_file = world.dir().join(format!("{name}.key"));
        tunnler_chain::key::create(&key_file, key)?;
        let admin = ports::local()?;
        let mut command = Command::new(program("tunnler-dns")?);
        command.arg("run").arg("--network").arg(world.network_file()).arg("--key").arg(key_file);
        command.arg("--state").arg(world.dir().join(name));
        command.args(["--listen", &address.to_string(), "--admin", &admin.to_string()]);
        let mut process = Process::spawn(name, command, world.dir())?;
        process.wait_until("ready", START, || http_ok(admin, "/ready")).await?;
        Ok(Self { process, address, admin })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }
}

impl RelayNode {
    pub(super) async fn start(
        world: &World,
        name: &str,
        ingress: SocketAddr,
        public: SocketAddr,
        (key, key_file): (SecretKey, PathBuf),
    ) -> Result<Self> {
        let admin = ports::local()?;
        let process = Self::spawn(world, name, [ingress, public, admin], &key_file)?;
        let mut relay = Self { process, key, ingress, public, admin };
        relay.process.wait_until("ready", START, || http_ok(admin, "/ready")).await?;
        Ok(relay)
    }

    /// Starts the relay again after it died, with the same key, state and addresses.
    pub async fn restart(&mut self, world: &World, name: &str) -> Result<()> {
        let key_file = world.dir().join(format!("{name}.key"));
        self.process = Self::spawn(world, name, [self.ingress, self.public, self.admin], &key_file)?;
        let admin = self.admin;
        self.process.wait_until("ready", START, || http_ok(admin, "/ready")).await
    }

    fn spawn(
        world: &World,
        name: &str,
        [ingress, public, admin]: [SocketAddr; 3],
        key: &Path,
    ) -> Result<Process> {
        let mut command = Command::new(program("tunnler-relay")?);
        command.args(["run", "--register"]).arg("--network").arg(world.network_file()).arg("--key").arg(key);
        command.arg("--state").arg(world.dir().join(name));
        command.args(["--listen", &ingress.to_string(), "--admin", &admin.to_string(), "--region", "local"]);
        command.args(["--ipv4", &public.ip().to_string(), "--public-port", &public.port().to_string()]);
        command.args(["--capacity", CAPACITY]);
        Process::spawn(name, command, world.dir())
    }

    /// Its address on chain.
    pub fn relay(&self) -> Address {
        self.key.address()
    }

    /// Where visitors and clients connect.
    pub fn ingress(&self) -> SocketAddr {
        self.ingress
    }

    /// Its admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }
}

impl Client {
    pub(super) async fn start(
        world: &World,
        name: &str,
        key: &Path,
        label: &str,
        (service, arguments): (&str, &[&str]),
    ) -> Result<Self> {
        let state = world.dir().join(format!("{name}-state"));
        let mut command = tunnler(world, key)?;
        command.arg("--state").arg(&state).arg(service).args(arguments).args(["--name", label]);
        let mut process = Process::spawn(name, command, world.dir())?;
        let log = process.log().to_owned();
        let host = format!("{label}.{}", super::ZONE);
        let scheme = if service == "tcp" { "tcp" } else { "https" };
        let said = || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.lines().find(|line| line.starts_with(&format!("{scheme}://{host}"))).map(str::to_owned)
        };
        process.wait_until("serving", START, || std::future::ready(said().is_some())).await?;
        let url = said().context("it said so")?;
        Ok(Self { process, state, host, url })
    }

    /// The host it serves.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The URL it printed first.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }
}

/// The client program with network and key set.
pub fn tunnler(world: &World, key: &Path) -> Result<Command> {
    let mut command = Command::new(program("tunnler")?);
    command.arg("--network").arg(world.network_file()).arg("--key").arg(key);
    Ok(command)
}

/// Runs the client program to its end.
pub async fn tunnler_run(world: &World, key: &Path, arguments: &[&str]) -> Result<Output> {
    process::run(tunnler(world, key)?.args(arguments)).await
}

/// Runs the client program, which must succeed; returns its standard output.
pub async fn tunnler_ok(world: &World, key: &Path, arguments: &[&str]) -> Result<String> {
    process::run_ok(tunnler(world, key)?.args(arguments)).await
}

/// Whether a plain HTTP GET answers 2xx.
pub async fn http_ok(address: SocketAddr, path: &str) -> bool {
    let answer = tokio::time::timeout(Duration::from_secs(2), http_get(address, path)).await;
    matches!(answer, Ok(Ok((200..=299, _))))
}

/// A plain HTTP GET: status and body.
pub async fn http_get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    use http_body_util::BodyExt;
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get(path).header("host", address.to_string());
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok((status, String::from_utf8(body.into()).context("not text")?))
}
