//! The programs we are measured against, as `scripts/bench.d` sets them: rathole over plain TCP and over WebSocket and
//! TLS, nginx as upstream and as TLS reverse proxy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::process::Command;

use crate::ports;
use crate::process::{self, Process, source_root};

/// The host of the peers' certificate.
pub const HOST: &str = "bench.test";
const START: Duration = Duration::from_secs(20);

/// How rathole is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settings {
    /// As `scripts/bench.d` says: TCP_NODELAY everywhere.
    Tuned,
    /// The same without a word about TCP_NODELAY.
    AsItComes,
}

/// Both ends of a rathole tunnel.
#[derive(Debug)]
pub struct Rathole {
    /// Where visitors come in.
    pub server: Process,
    /// Where the upstreams are.
    pub client: Process,
    /// Where the page is.
    pub page: SocketAddr,
    /// Where the big bodies are.
    pub bodies: SocketAddr,
}

/// nginx in front of two things.
#[derive(Debug)]
pub struct Proxy {
    _process: Process,
    /// In front of the upstreams.
    pub direct: SocketAddr,
    /// In front of rathole.
    pub tunnelled: SocketAddr,
}

/// Versions of the peers, as they say themselves.
pub async fn versions() -> Result<Vec<String>> {
    let nginx = process::run(Command::new("nginx").arg("-v")).await?;
    let rathole = process::run(Command::new("rathole").arg("--version")).await?;
    let version = |text: &str| {
        let number = text
            .split(|c: char| c.is_whitespace() || c == '/')
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        number.unwrap_or("?").to_owned()
    };
    let rathole = rathole
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("Build Version:"))
        .unwrap_or(&rathole.stdout)
        .to_owned();
    Ok(vec![format!("nginx {}", version(&nginx.stderr)), format!("rathole {}", version(&rathole))])
}

/// Writes a CA, a certificate for [`HOST`] and its key to `dir`, also as PKCS#12.
pub async fn write_certificates(dir: &Path) -> Result<()> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "bench CA");
    let ca_certificate = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec![HOST.to_owned()])?.signed_by(&key, &issuer)?;
    std::fs::write(dir.join("bench-ca.pem"), ca_certificate.pem())?;
    std::fs::write(dir.join("bench-chain.pem"), leaf.pem())?;
    std::fs::write(dir.join("bench-key.pem"), key.serialize_pem())?;
    let mut pack = Command::new("openssl");
    pack.args(["pkcs12", "-export", "-passout", "pass:bench", "-in"]).arg(dir.join("bench-chain.pem"));
    pack.arg("-inkey").arg(dir.join("bench-key.pem")).arg("-certfile").arg(dir.join("bench-ca.pem"));
    process::run_ok(pack.arg("-out").arg(dir.join("bench.p12"))).await.map(drop)
}

/// nginx with the page.
pub async fn upstream(dir: &Path) -> Result<(Process, SocketAddr)> {
    let listen = ports::local()?;
    std::fs::create_dir(dir.join("www"))?;
    std::fs::write(dir.join("www/index.html"), "thirty-two bytes, the whole page")?;
    let process = nginx("nginx-upstream", dir, &[("listen", listen)]).await?;
    Ok((process, listen))
}

impl Rathole {
    /// Starts both ends, set as `scripts/bench.d/NAME-{server,client}.toml` say.
    pub async fn start(
        dir: &Path,
        name: &str,
        settings: Settings,
        page: SocketAddr,
        bodies: SocketAddr,
    ) -> Result<Self> {
        let dir = &match settings {
            Settings::Tuned => dir.to_owned(),
            Settings::AsItComes => dir.join("as-it-comes"),
        };
        let (control, visitors_page, visitors_bodies) = (ports::local()?, ports::local()?, ports::local()?);
        let server = [("control", control), ("page", visitors_page), ("bodies", visitors_bodies)];
        let client = [("control", control), ("page_upstream", page), ("bodies_upstream", bodies)];
        let mut server = rathole(dir, name, "server", settings, &server)?;
        server.wait_until("listening", START, || accepts(control)).await?;
        let mut client = rathole(dir, name, "client", settings, &client)?;
        let serving = || async { accepts(visitors_page).await && accepts(visitors_bodies).await };
        client.wait_until("serving", START, serving).await?;
        Ok(Self { server, client, page: visitors_page, bodies: visitors_bodies })
    }
}

fn rathole(
    dir: &Path,
    name: &str,
    end: &str,
    settings: Settings,
    values: &[(&str, SocketAddr)],
) -> Result<Process> {
    let file = configured(&format!("{name}-{end}.toml"), dir, values)?;
    if settings == Settings::AsItComes {
        let text = std::fs::read_to_string(&file)?;
        let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("nodelay")).collect();
        std::fs::write(&file, kept.join("\n"))?;
    }
    let mut command = Command::new("rathole");
    command.arg(format!("--{end}")).arg(file);
    Process::spawn(&format!("{name}-{end}"), command, dir)
}

impl Proxy {
    /// Starts nginx in front of the upstreams and in front of `rathole`.
    pub async fn start(dir: &Path, page: SocketAddr, bodies: SocketAddr, rathole: &Rathole) -> Result<Self> {
        let (direct, tunnelled) = (ports::local()?, ports::local()?);
        let values = [
            ("direct", direct),
            ("tunnelled", tunnelled),
            ("page", page),
            ("bodies", bodies),
            ("rathole_page", rathole.page),
            ("rathole_bodies", rathole.bodies),
        ];
        Ok(Self { _process: nginx("nginx-proxy", dir, &values).await?, direct, tunnelled })
    }
}

async fn nginx(name: &str, dir: &Path, values: &[(&str, SocketAddr)]) -> Result<Process> {
    let file = configured(&format!("{name}.conf"), dir, values)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir).arg("-e").arg(dir.join(format!("{name}-start.log"))).arg("-c").arg(file);
    let mut process = Process::spawn(name, command, dir)?;
    for (_, address) in values.iter().take(1) {
        process.wait_until("listening", START, || accepts(*address)).await?;
    }
    Ok(process)
}

/// A file of `scripts/bench.d` with its `@…@` filled in, written to `dir`.
fn configured(file: &str, dir: &Path, values: &[(&str, SocketAddr)]) -> Result<PathBuf> {
    let template = source_root().join("scripts/bench.d").join(file);
    let mut text = std::fs::read_to_string(&template).with_context(|| template.display().to_string())?;
    text = text.replace("@dir@", &dir.to_string_lossy());
    for (name, address) in values {
        text = text.replace(&format!("@{name}@"), &address.to_string());
    }
    ensure!(!text.contains('@'), "{file}: something was not filled in");
    let path = dir.join(file);
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Whether something listens.
pub async fn accepts(address: SocketAddr) -> bool {
    tokio::net::TcpStream::connect(address).await.is_ok()
}
