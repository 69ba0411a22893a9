//! From flags and file to a [`Config`]: every mistake is named with what to do about it.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tunnler_chain::descriptor::{self, DescriptorError};
use tunnler_chain::key::{self, KeyFileError};
use tunnler_protocol::network::Network;

use super::RunArguments;
use crate::Config;
use crate::probe::Probing;
use crate::serve::limit::Rate;
use crate::serve::tls::CertificateFiles;
use crate::snapshot::Terms;
use crate::zone::Gate;

/// Where operators look unless told otherwise.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:9153";
/// Answers per second and network: a resolver farm's worth.
const DEFAULT_RATE: u32 = 1000;
/// A week: longer than any outage of RPC servers that nobody mends.
const DEFAULT_STALENESS_HOURS: u64 = 7 * 24;
/// Light enough for a thousand relays, and a dead ingress is seen within two minutes.
const DEFAULT_PROBE_SECONDS: u64 = 30;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The configuration file is not what it should be.
    #[error("configuration {}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<toml::de::Error>,
    },
    /// No network was named.
    #[error("no network: pass --network FILE, local or testnet, or set TUNNLER_NETWORK")]
    NoNetwork,
    /// The network cannot be used.
    #[error(transparent)]
    Network(#[from] DescriptorError),
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// No address to serve.
    #[error("no address: pass --listen IP:PORT, for example --listen 192.0.2.1:53")]
    NoAddress,
}

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    network: Option<String>,
    key: Option<PathBuf>,
    state: Option<PathBuf>,
    #[serde(default)]
    listen: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    http: Option<SocketAddr>,
    rate: Option<u32>,
    staleness: Option<u64>,
    new_names: Option<u32>,
    zone_keys: Option<PathBuf>,
    dot: Option<SocketAddr>,
    doh: Option<SocketAddr>,
    tls_chain: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    probe: Option<u64>,
}

/// What `run` runs.
#[derive(Debug)]
pub(super) struct Run {
    pub network: Network,
    pub state: PathBuf,
    pub server: Config,
}

/// Reads files and environment and puts everything together.
pub(super) fn resolve(arguments: RunArguments) -> Result<Run, ConfigError> {
    let raw = match &arguments.config {
        Some(path) => read(path)?,
        None => RawConfig::default(),
    };
    let network = arguments.network.or(raw.network).ok_or(ConfigError::NoNetwork)?;
    let network = descriptor::load(&network)?;
    let listen = if arguments.listen.is_empty() { raw.listen } else { arguments.listen };
    if listen.is_empty() {
        return Err(ConfigError::NoAddress);
    }
    let key = key::load(arguments.key.or(raw.key).as_deref())?;
    let own_state = || descriptor::state_home().join("dns").join(&network.name);
    let state = arguments.state.or(raw.state).unwrap_or_else(own_state);
    let admin = arguments.admin.or(raw.admin);
    let rate = match arguments.rate.or(raw.rate).unwrap_or(DEFAULT_RATE) {
        0 => Rate::Unlimited,
        rate => Rate::PerSecond(rate),
    };
    let hours = arguments.staleness.or(raw.staleness).unwrap_or(DEFAULT_STALENESS_HOURS);
    let terms = Terms {
        policy: network.address_policy(),
        ingress_port: network.ingress_port,
        staleness: Duration::from_secs(hours.saturating_mul(3600)),
        gate: match NonZeroU32::new(arguments.new_names.or(raw.new_names).unwrap_or(0)) {
            None => Gate::Open,
            Some(most) => Gate::PerWeek(most),
        },
    };
    let chain = arguments.tls_chain.or(raw.tls_chain);
    let key_file = arguments.tls_key.or(raw.tls_key);
    let server = Config {
        terms,
        key,
        listen,
        workers: std::thread::available_parallelism().map_or(1, usize::from),
        rate,
        admin: Some(admin.unwrap_or_else(|| DEFAULT_ADMIN.parse().expect("a socket address"))),
        http: arguments.http.or(raw.http),
        state: Some(state.clone()),
        certificate: chain.zip(key_file).map(|(chain, key)| CertificateFiles { chain, key }),
        dot: arguments.dot.or(raw.dot),
        doh: arguments.doh.or(raw.doh),
        probing: match arguments.probe.or(raw.probe).unwrap_or(DEFAULT_PROBE_SECONDS) {
            0 => Probing::Off,
            seconds => Probing::Every(Duration::from_secs(seconds)),
        },
        zone_keys: arguments.zone_keys.or(raw.zone_keys),
        chain: None,
        metrics: None,
    };
    Ok(Run { network, state, server })
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

    fn mistake(text: &str, change: impl FnOnce(&mut RunArguments)) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dns.toml");
        std::fs::write(&path, text).unwrap();
        let mut arguments = RunArguments { config: Some(path), ..RunArguments::default() };
        change(&mut arguments);
        resolve(arguments).unwrap_err().to_string()
    }

    #[test]
    fn mistakes_are_named() {
        assert!(mistake("speed = 3", |_| {}).contains("unknown field `speed`"));
        assert!(mistake("listen = [\"nowhere\"]", |_| {}).contains("invalid socket address"));
        assert!(mistake("", |_| {}).contains("--network"));
        assert!(mistake("network = \"/nonexistent/net.toml\"", |_| {}).contains("/nonexistent/net.toml"));
        let missing = mistake("", |arguments| arguments.config = Some("/nonexistent/dns.toml".into()));
        assert!(missing.contains("/nonexistent/dns.toml"), "{missing}");
    }
}
