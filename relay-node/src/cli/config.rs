//! From flags and file to a validated [`Run`]: every mistake is named with what to do about it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tunnler_chain::RelayRegistration;
use tunnler_chain::descriptor::{self, DescriptorError};
use tunnler_chain::key::{self, KeyFileError};
use tunnler_protocol::network::Network;
use tunnler_protocol::{HostName, SecretKey};

use super::Settings;
use super::limits::RawLimits;
use crate::Limits;
use crate::term::supplied::{CertificateFiles, Supplied, SuppliedError};

/// Where operators look unless told otherwise.
const DEFAULT_ADMIN: &str = "127.0.0.1:9154";
const DEFAULT_CAPACITY: u32 = 1000;
/// The registry's usual least stake.
const DEFAULT_STAKE: u64 = 100;
/// A quarter of the time after which a relay counts as gone.
const DEFAULT_HEARTBEAT_HOURS: u64 = 6;
const DEFAULT_DRAIN_SECONDS: u64 = 30;
/// Units of the chain's token in one whole.
const STROOPS: i128 = 10_000_000;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error("configuration {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("configuration {}: {source}", path.display())]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error("no network: pass --network FILE, local or testnet, or set TUNNLER_NETWORK")]
    NoNetwork,
    #[error(transparent)]
    Network(#[from] DescriptorError),
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error("--listen {0} says not where the relay is reached: pass --ipv4 or --ipv6 too")]
    NoAddress(SocketAddr),
    #[error(transparent)]
    Certificate(#[from] SuppliedError),
    #[error("{0}")]
    Value(&'static str),
}

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    network: Option<String>,
    key: Option<PathBuf>,
    operator_key: Option<PathBuf>,
    state: Option<PathBuf>,
    listen: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    redirect: Option<SocketAddr>,
    host: Option<HostName>,
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
    public_port: Option<u16>,
    region: Option<String>,
    capacity: Option<u32>,
    terms: Option<String>,
    stake: Option<u64>,
    heartbeat: Option<u64>,
    drain: Option<u64>,
    json: Option<bool>,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    certificate: Vec<CertificateFiles>,
}

/// Everything the commands need.
pub(super) struct Run {
    pub network: Network,
    pub key: SecretKey,
    pub operator: SecretKey,
    pub state: PathBuf,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub redirect: Option<SocketAddr>,
    /// The record without its ACME account.
    pub record: RelayRegistration,
    /// In the token's smallest units.
    pub stake: i128,
    pub heartbeat: Duration,
    pub drain: Duration,
    pub limits: Limits,
    pub json: bool,
    /// Of names whose TLS this relay ends.
    pub supplied: Supplied,
}

/// Reads files and environment and puts everything together.
pub(super) fn resolve(flags: Settings) -> Result<Run, ConfigError> {
    let file = match &flags.config {
        Some(path) => read(path)?,
        None => RawConfig::default(),
    };
    let network = descriptor::load(&flags.network.or(file.network).ok_or(ConfigError::NoNetwork)?)?;
    let key = key::load(flags.key.or(file.key).as_deref())?;
    let operator = match flags.operator_key.or(file.operator_key) {
        Some(path) => key::load(Some(&path))?,
        None => key.clone(),
    };
    let own_state = || descriptor::state_home().join("relay").join(&network.name);
    let everywhere = || SocketAddr::from((Ipv4Addr::UNSPECIFIED, network.ingress_port));
    let listen = flags.listen.or(file.listen).unwrap_or_else(everywhere);
    let heartbeat = flags.heartbeat.or(file.heartbeat).unwrap_or(DEFAULT_HEARTBEAT_HOURS);
    if !(1..=168).contains(&heartbeat) {
        return Err(ConfigError::Value("heartbeat: between 1 and 168 hours"));
    }
    let capacity = flags.capacity.or(file.capacity).unwrap_or(DEFAULT_CAPACITY);
    if !(1..=1_000_000).contains(&capacity) {
        return Err(ConfigError::Value("capacity: between 1 and 1000000 sessions"));
    }
    let specific = Some(listen.ip()).filter(|ip| !ip.is_unspecified());
    let v4 = specific.and_then(|ip| if let IpAddr::V4(v4) = ip { Some(v4) } else { None });
    let v6 = specific.and_then(|ip| if let IpAddr::V6(v6) = ip { Some(v6) } else { None });
    let port = flags.public_port.or(file.public_port).unwrap_or(listen.port());
    let record = RelayRegistration {
        host: flags.host.or(file.host),
        control_port: port,
        ingress_port: port,
        ipv4: flags.ipv4.or(file.ipv4).or(v4),
        ipv6: flags.ipv6.or(file.ipv6).or(v6),
        region: flags.region.or(file.region).unwrap_or_else(|| "unknown".into()),
        capacity,
        acme: None,
        terms: flags.terms.or(file.terms),
    };
    let beside = flags.config.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
    let supplied = file.certificate.into_iter().map(|files| files.below(&beside)).collect();
    let limits = file.limits.resolve(capacity as usize)?;
    Ok(Run {
        key,
        operator,
        state: flags.state.or(file.state).unwrap_or_else(own_state),
        listen,
        admin: flags.admin.or(file.admin).unwrap_or_else(|| DEFAULT_ADMIN.parse().expect("a socket address")),
        redirect: flags.redirect.or(file.redirect),
        record,
        stake: i128::from(flags.stake.or(file.stake).unwrap_or(DEFAULT_STAKE)) * STROOPS,
        heartbeat: Duration::from_secs(heartbeat * 3600),
        drain: Duration::from_secs(flags.drain.or(file.drain).unwrap_or(DEFAULT_DRAIN_SECONDS)),
        limits,
        json: flags.json || file.json.unwrap_or(false),
        supplied: Supplied::read(supplied)?,
        network,
    })
}

impl Run {
    /// Fails unless the record says where the relay is reached.
    pub fn require_address(&self) -> Result<(), ConfigError> {
        match (self.record.ipv4, self.record.ipv6) {
            (None, None) => Err(ConfigError::NoAddress(self.listen)),
            _ => Ok(()),
        }
    }
}

fn read(path: &Path) -> Result<RawConfig, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text)
        .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.toml");
        std::fs::write(&path, text).unwrap();
        let flags = Settings { config: Some(path), ..Settings::default() };
        resolve(flags).err().unwrap().to_string()
    }

    #[test]
    fn mistakes_are_named() {
        assert!(mistake("colour = \"red\"").contains("unknown field `colour`"));
        assert!(mistake("listen = \"nowhere\"").contains("invalid socket address"));
        assert!(mistake("[[certificate]]\nchain = \"a.pem\"").contains("missing field `key`"));
        assert!(mistake("").contains("--network"));
        assert!(mistake("network = \"/nonexistent/net.toml\"").contains("/nonexistent/net.toml"));
    }
}
