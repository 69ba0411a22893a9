//! The configuration file of `tunnler up`: what the text may say, and what it means once it is checked.

mod access;
mod backend;
mod rules;
mod secret;
mod service;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tunnler_protocol::{Address, Label, ServiceName};

use crate::cli::Shared;
use crate::error::ClientError;
use crate::named;
use crate::state::StateDir;
use crate::tunnel::{Service, TunnelConfig};
use service::RawService;

pub(crate) use access::{credentials, networks};
pub(crate) use secret::RawSecret;

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
    named: Vec<String>,
    region: Option<String>,
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
        let authority = shared.authority(&network)?;
        let mut config = TunnelConfig::new(network, key, state);
        config.authority = authority;
        config.labels = self.labels;
        config.services = self.services;
        config.sessions = self.sessions;
        config.pinned = self.relays.pin;
        config.allowed = self.relays.only;
        config.denied = self.relays.avoid;
        config.region = self.relays.region;
        let named = self.relays.named.iter().map(|text| named::read(text));
        config.named = named.collect::<Result<_, _>>()?;
        Ok(config)
    }
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
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Reads a configuration beside which lies what it may name.
    fn read(text: &str) -> Result<Configuration, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("public")).unwrap();
        let issued = rcgen::generate_simple_self_signed(["nas.lan".to_owned()]).unwrap();
        for (name, text, mode) in [
            ("users", "alice:secret\n", 0o600),
            ("webhook.secret", "hunter2hunter2\n", 0o600),
            ("open", "alice:secret\n", 0o644),
            ("bad", "hunter2\n", 0o600),
            ("ca.pem", &issued.cert.pem(), 0o644),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
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
            ("target = \"8080\"", "", "needs either target, targets or dir"),
            ("dir = \"public\"", "dir = \"private\"", "is not a directory"),
            ("target = \"22\"", "dir = \"public\"", "service ssh: a service of kind tcp has a target"),
            ("target = \"22\"", "target = \"a b:22\"", "service ssh: target"),
            ("kind = \"tcp\"", "kind = \"udp\"", "udp"),
            ("kind = \"tcp\"", "kind = \"tcp\"\ntls = \"term\"", "at most proxy_protocol beside it"),
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
            assert_told(&GOOD.replacen(from, to, 1), says);
        }
    }

    fn assert_told(text: &str, says: &str) {
        let error = read(text).unwrap_err();
        assert!(error.contains(says) && error.lines().count() == 1, "{error:?} does not say {says:?}");
        assert!(!error.contains("hunter2"), "{error:?} tells a secret");
    }

    #[test]
    fn mistakes_in_what_a_service_says_are_told_and_secrets_are_not() {
        for (line, says) in [
            ("colour = 1", "colour"),
            ("target = \"81\"", "duplicate key"),
            ("targets = [\"81\"]", "either target, targets or dir"),
            ("listing = true", "belongs to a dir"),
            ("health = { path = \"/\" }", "several targets"),
            ("timeouts = { answer = 0 }", "answer = 0 is not between 1 and 86400 seconds"),
            ("timeouts = { anwser = 1 }", "anwser"),
            ("pin = \"00\"\nca = \"ca.pem\"", "either pin or ca"),
            ("ca = \"users\"", "no certificate"),
            ("max_body_mib = -1", "line 8"),
            ("rate = {}", "per_visitor or total"),
            ("rate = { total = 0 }", "nonzero"),
            ("request_headers = { set = { host = \"x\" } }", "host is the edge's own business"),
            ("request_headers = { set = { authorization = \"hunter2\\n\" } }", "cannot be sent"),
            ("access.allow = [\"192.0.2.0/33\"]", "is not a network"),
            ("access.basic = \"alice:hunter2\"", "does not stand in this file"),
            ("access.basic = { file = \"bad\" }", "basic: line 1 is not NAME:PASSWORD"),
            ("access.basic = { file = \"open\" }", "others may read it; run: chmod 600"),
            ("access.basic = { file = \"none\" }", "No such file"),
            ("access.basic = { path = \"users\" }", "{ file = "),
            ("access.bearer = { env = \"TUNNLER_NO_SUCH_VARIABLE\" }", "TUNNLER_NO_SUCH_VARIABLE is not set"),
            ("access.pass_preflight = true", "needs basic or bearer"),
            (
                "access.webhook = { provider = \"github\", secret = \"hunter2hunter2\" }",
                "does not stand in this file",
            ),
            ("access.webhook = { provider = \"gitea\", secret = { file = \"users\" } }", "gitea"),
            (
                "access.webhook = { provider = \"standard\", secret = { file = \"webhook.secret\" } }",
                "base64",
            ),
        ] {
            assert_told(&GOOD.replacen("target = \"8080\"", &format!("target = \"8080\"\n{line}"), 1), says);
        }
    }

    #[test]
    fn every_example_of_the_guides_is_read() {
        let guides = [include_str!("../../docs/publisher.md"), include_str!("../../docs/services.md")];
        let examples: Vec<&str> = guides
            .iter()
            .flat_map(|guide| guide.split("```toml\n").skip(1))
            .filter_map(|rest| rest.split("```").next())
            .filter(|example| example.contains("[[service]]"))
            .collect();
        assert!(examples.len() >= 4, "only {}", examples.len());
        for example in examples {
            // A variable that is set.
            let read = read(&example.replace("API_TOKEN", "CARGO_PKG_NAME"));
            assert!(read.is_ok(), "{example}\n{read:?}");
        }
        let service = guides[1];
        for key in [
            "target", "targets", "dir", "listing", "host", "pin", "ca", "health", "timeouts", "access",
            "rate",
        ] {
            assert!(
                service.contains(&format!("\n{key} = ")) || service.contains(&format!("[service.{key}]")),
                "{key}"
            );
        }
    }
}
