//! The configuration file of `tunnler up`: what the text may say, and what it means once it is checked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tunnler_edge::Site;
use tunnler_edge::proxy::{Backend, Files, HostHeader, PathRule, Target, Upstream, UpstreamTls};
use tunnler_protocol::presence::TlsMode;
use tunnler_protocol::{Address, Label, ServiceName};

use crate::cli::Shared;
use crate::error::ClientError;
use crate::state::StateDir;
use crate::tunnel::{Announce, Service, ServiceBackend, TcpUpstream, TunnelConfig};

/// A checked configuration file.
#[derive(Debug)]
pub(crate) struct Configuration {
    pub(crate) network: Option<String>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) state: Option<PathBuf>,
    pub(crate) services: Vec<Service>,
    pub(crate) patience: Option<Duration>,
    labels: Vec<Label>,
    sessions: usize,
    relays: RawRelays,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfiguration {
    network: Option<String>,
    key: Option<PathBuf>,
    state: Option<PathBuf>,
    #[serde(default)]
    names: Vec<Label>,
    sessions: Option<usize>,
    connect_timeout: Option<u64>,
    #[serde(default)]
    relays: RawRelays,
    service: Vec<RawService>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRelays {
    pin: Vec<Address>,
    only: BTreeSet<Address>,
    avoid: BTreeSet<Address>,
    region: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawService {
    name: ServiceName,
    #[serde(default)]
    kind: RawKind,
    #[serde(default)]
    proxy_protocol: bool,
    tls: Option<TlsMode>,
    #[serde(default)]
    route: Vec<RawRoute>,
    target: Option<String>,
    dir: Option<PathBuf>,
    host: Option<String>,
    pin: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawKind {
    #[default]
    Http,
    Tcp,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    path: String,
    #[serde(default)]
    exact: bool,
    target: Option<String>,
    dir: Option<PathBuf>,
    host: Option<String>,
    pin: Option<String>,
}

impl Configuration {
    /// Reads and checks `file`. Relative paths in it begin at its directory.
    pub(crate) fn read(file: &Path) -> Result<Self, ClientError> {
        let wrong = |problem: String| ClientError::Usage(format!("{}: {problem}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        let raw: RawConfiguration =
            toml::from_str(&text).map_err(|error| wrong(one_line(&error.to_string())))?;
        let base = file.parent().unwrap_or(Path::new("."));
        let services = raw.service.into_iter().map(|service| service.check(base));
        let services: Vec<Service> = services.collect::<Result<_, _>>().map_err(wrong)?;
        let names: BTreeSet<&ServiceName> = services.iter().map(|service| &service.name).collect();
        if names.len() != services.len() {
            return Err(wrong("two services have the same name".into()));
        }
        Ok(Self {
            network: raw.network,
            key: raw.key.map(|key| base.join(key)),
            state: raw.state.map(|state| base.join(state)),
            services,
            patience: match raw.connect_timeout.unwrap_or(60) {
                0 => None,
                seconds => Some(Duration::from_secs(seconds)),
            },
            labels: raw.names,
            sessions: raw.sessions.unwrap_or(tunnler_protocol::agent::SESSIONS),
            relays: raw.relays,
        })
    }

    /// What the tunnel is told, with the state directory locked.
    pub(crate) fn tunnel(self, shared: &Shared) -> Result<TunnelConfig, ClientError> {
        let (network, key) = (shared.network()?, shared.secret()?);
        let state = Arc::new(StateDir::open(&shared.state_path(&network))?);
        let mut config = TunnelConfig::new(network, key, state);
        config.labels = self.labels;
        config.services = self.services;
        config.sessions = self.sessions;
        config.pinned = self.relays.pin;
        config.allowed = self.relays.only;
        config.denied = self.relays.avoid;
        config.region = self.relays.region;
        Ok(config)
    }
}

impl RawService {
    fn check(self, base: &Path) -> Result<Service, String> {
        if self.kind == RawKind::Tcp {
            return self.check_tcp();
        }
        let name = self.name;
        let named = |problem: String| format!("service {name}: {problem}");
        if self.proxy_protocol {
            return Err(named("proxy_protocol belongs to a service of kind tcp".into()));
        }
        let rest = backend(base, self.target, self.dir, self.host, self.pin).map_err(named)?;
        let mut site = Site::new(rest);
        for route in self.route {
            if !route.path.starts_with('/') {
                return Err(named(format!("route {:?} does not begin with /", route.path)));
            }
            let backend = backend(base, route.target, route.dir, route.host, route.pin)
                .map_err(|problem| named(format!("route {}: {problem}", route.path)))?;
            let rule = if route.exact { PathRule::Exact(route.path) } else { PathRule::Under(route.path) };
            site = site.route(rule, backend);
        }
        let backend = ServiceBackend::Http(Arc::new(site));
        Ok(Service { name, backend, tls: self.tls.unwrap_or_default() })
    }
}

impl RawService {
    fn check_tcp(self) -> Result<Service, String> {
        let name = self.name;
        let named = |problem: String| format!("service {name}: {problem}");
        let options = [self.dir.is_some(), self.host.is_some(), self.pin.is_some(), self.tls.is_some()];
        let web = !self.route.is_empty() || options.contains(&true);
        let Some(target) = self.target.filter(|_| !web) else {
            return Err(named(
                "a service of kind tcp has a target and no route, dir, host, pin or tls".into(),
            ));
        };
        let upstream: TcpUpstream =
            target.parse().map_err(|error| named(format!("target {target:?}: {error}")))?;
        let announce = if self.proxy_protocol { Announce::ProxyV2 } else { Announce::Nothing };
        Ok(Service::tcp(name, upstream.announcing(announce)))
    }
}

fn backend(
    base: &Path,
    target: Option<String>,
    dir: Option<PathBuf>,
    host: Option<String>,
    pin: Option<String>,
) -> Result<Backend, String> {
    match (target, dir) {
        (Some(target), None) => {
            let parsed: Target = target.parse().map_err(|error| format!("target {target:?}: {error}"))?;
            let tls = pin
                .map_or(Ok(UpstreamTls::AnyCertificate), |pin| fingerprint(&pin).map(UpstreamTls::Pinned))?;
            let host = match host {
                None => HostHeader::Keep,
                Some(host) => {
                    HostHeader::Set(host.parse().map_err(|_| format!("host {host:?} is not a host"))?)
                }
            };
            Ok(Backend::Upstream(Upstream::new(parsed, &tls, host)))
        }
        (None, Some(dir)) => {
            let path = base.join(dir);
            if !path.is_dir() {
                return Err(format!("dir {} is not a directory", path.display()));
            }
            if host.is_some() || pin.is_some() {
                return Err("host and pin belong to a target, not to a dir".into());
            }
            Ok(Backend::Files(Files::new(&path)))
        }
        _ => Err("needs either target or dir".into()),
    }
}

/// SHA-256 of a certificate in hexadecimal, with or without colons.
fn fingerprint(text: &str) -> Result<[u8; 32], String> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let wrong = || "pin is not a SHA-256 fingerprint (64 hexadecimal digits)".to_owned();
    if digits.len() != 64 {
        return Err(wrong());
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(digits.chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(digest)
}

/// The message of a TOML error without its picture, with the line it is about.
fn one_line(error: &str) -> String {
    let mut lines = error.lines().map(str::trim).filter(|line| !line.is_empty());
    let place = lines.next().unwrap_or_default();
    let said = lines.next_back().unwrap_or_default();
    if said.is_empty() { place.to_owned() } else { format!("{said} ({place})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Configuration, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("public")).unwrap();
        let file = dir.path().join("tunnler.toml");
        std::fs::write(&file, text).unwrap();
        Configuration::read(&file).map_err(|error| error.to_string())
    }

    const GOOD: &str = r#"
network = "local"
key = "node.key"
names = ["mynode"]
[[service]]
name = "http"
target = "8080"
[[service.route]]
path = "/files"
dir = "public"
[[service]]
name = "api"
target = "https://127.0.0.1:9443"
pin = "AA:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
[[service]]
name = "ssh"
kind = "tcp"
target = "22"
"#;

    #[test]
    fn a_configuration_is_read() {
        let read = read(GOOD).unwrap();
        assert_eq!(read.services.len(), 3);
        assert!(read.key.unwrap().ends_with("node.key"));
    }

    #[test]
    fn mistakes_are_told_in_one_line() {
        for (from, to, says) in [
            ("target = \"8080\"", "target = \"80 80\"", "service http: target \"80 80\""),
            ("target = \"8080\"", "", "needs either target or dir"),
            ("dir = \"public\"", "dir = \"private\"", "is not a directory"),
            ("target = \"22\"", "dir = \"public\"", "service ssh: a service of kind tcp has a target"),
            ("target = \"22\"", "target = \"a b:22\"", "service ssh: target"),
            ("kind = \"tcp\"", "kind = \"udp\"", "udp"),
            ("kind = \"tcp\"", "kind = \"tcp\"\ntls = \"term\"", "no route, dir, host, pin or tls"),
            ("target = \"8080\"", "target = \"8080\"\ntls = \"relay\"", "unknown variant"),
            (
                "target = \"8080\"",
                "target = \"8080\"\nproxy_protocol = true",
                "belongs to a service of kind tcp",
            ),
            ("path = \"/files\"", "path = \"files\"", "does not begin with /"),
            ("name = \"api\"", "name = \"http\"", "the same name"),
            ("pin = \"AA:", "pin = \"", "fingerprint"),
            ("[[service]]", "colour = 1\n[[service]]", "colour"),
            ("mynode", "My Node", "only a–z"),
        ] {
            let error = read(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(says) && error.lines().count() == 1, "{error:?} does not say {says:?}");
        }
    }
}
