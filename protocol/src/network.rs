//! The network descriptor: how a program finds one Tunnler network (DESIGN §15). `testnet.toml` and the file that
//! localnet's deployment writes have this one format. Parsing only; reading files is the program's business.

use serde::{Deserialize, Serialize};

use crate::directory::AddressPolicy;

/// A validated network descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Short name, used for state directories.
    pub name: String,
    /// Stellar network passphrase.
    pub passphrase: String,
    /// stellar-rpc endpoints, at least one.
    pub rpc: Vec<String>,
    /// How many endpoints must agree on an entry (1 ≤ quorum ≤ number of endpoints).
    pub quorum: usize,
    /// Where test accounts are funded, on networks that have such a thing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub friendbot: Option<String>,
    /// Contract id (`C…`) of TunnelRegistry.
    pub registry: String,
    /// Contract id (`C…`) of TunnelNamespace.
    pub namespace: String,
    /// The one port visitors use on every relay of the zone.
    pub ingress_port: u16,
    /// Port of the zone's servers.
    pub dns_port: u16,
    /// Whether private and loopback addresses in relay records are used.
    pub allow_private_addresses: bool,
    /// Where certificates come from.
    pub acme: AcmeConfig,
}

/// The ACME directory that this network's programs use by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcmeConfig {
    /// Directory URL (RFC 8555, section 7.1.1).
    pub directory: String,
    /// The CA's issuer domain, as CAA names it.
    pub issuer: String,
    /// PEM file with the root that the directory's own certificate ends at; absent: the public web's roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
}

/// Why a descriptor is refused.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Not TOML of the expected form.
    #[error("{0}")]
    Toml(#[from] Box<toml::de::Error>),
    /// A value that cannot be.
    #[error("{key}: {problem}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNetwork {
    name: String,
    passphrase: String,
    rpc: Vec<String>,
    quorum: Option<usize>,
    friendbot: Option<String>,
    registry: String,
    namespace: String,
    #[serde(default = "https_port")]
    ingress_port: u16,
    #[serde(default = "domain_port")]
    dns_port: u16,
    #[serde(default)]
    allow_private_addresses: bool,
    acme: AcmeConfig,
}

fn https_port() -> u16 {
    443
}

fn domain_port() -> u16 {
    53
}

impl Network {
    /// Parses and validates a descriptor.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let raw: RawNetwork = toml::from_str(text).map_err(Box::new)?;
        let value = |key, problem: &str| NetworkError::Value { key, problem: problem.into() };
        if raw.name.is_empty()
            || !raw.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        {
            return Err(value("name", "use letters, digits, - and _"));
        }
        if raw.rpc.is_empty() {
            return Err(value("rpc", "at least one endpoint is needed"));
        }
        if let Some(bad) =
            raw.rpc.iter().find(|url| !url.starts_with("http://") && !url.starts_with("https://"))
        {
            return Err(value("rpc", &format!("{bad:?} is not an http or https URL")));
        }
        let quorum = raw.quorum.unwrap_or(raw.rpc.len().min(2));
        if quorum == 0 || quorum > raw.rpc.len() {
            return Err(value("quorum", &format!("must be between 1 and {} (the endpoints)", raw.rpc.len())));
        }
        for (key, id) in [("registry", &raw.registry), ("namespace", &raw.namespace)] {
            if stellar_strkey::Contract::from_string(id).is_err() {
                return Err(value(key, &format!("{id:?} is not a contract id (C…)")));
            }
        }
        if raw.ingress_port == 0 {
            return Err(value("ingress_port", "must not be 0"));
        }
        if raw.dns_port == 0 {
            return Err(value("dns_port", "must not be 0"));
        }
        Ok(Self {
            name: raw.name,
            passphrase: raw.passphrase,
            rpc: raw.rpc,
            quorum,
            friendbot: raw.friendbot,
            registry: raw.registry,
            namespace: raw.namespace,
            ingress_port: raw.ingress_port,
            dns_port: raw.dns_port,
            allow_private_addresses: raw.allow_private_addresses,
            acme: raw.acme,
        })
    }

    /// The descriptor as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a descriptor is plain TOML")
    }

    /// Which addresses of relay records are used.
    pub fn address_policy(&self) -> AddressPolicy {
        if self.allow_private_addresses { AddressPolicy::AllowPrivate } else { AddressPolicy::GlobalOnly }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = r#"
name = "local"
passphrase = "Standalone Network ; February 2017"
rpc = ["http://127.0.0.1:8000"]
registry = "CA6KQ5GYGI33VZB5IGWW7XXLLHR2MPEBWVDREU4P5ZGCSKRGHXBCRKXV"
namespace = "CA6KQ5GYGI33VZB5IGWW7XXLLHR2MPEBWVDREU4P5ZGCSKRGHXBCRKXV"
[acme]
directory = "https://localhost:14000/dir"
issuer = "pebble.test"
"#;

    #[test]
    fn defaults_and_round_trip() {
        let network = Network::parse(LOCAL).unwrap();
        assert_eq!((network.quorum, network.ingress_port, network.dns_port), (1, 443, 53));
        assert_eq!(network.address_policy(), AddressPolicy::GlobalOnly);
        assert_eq!(Network::parse(&network.to_toml()).unwrap(), network);
    }

    #[test]
    fn mistakes_are_named() {
        for (from, to, says) in [
            ("name = \"local\"", "name = \"a/b\"", "name: use letters"),
            ("rpc = [\"http://127.0.0.1:8000\"]", "rpc = []", "rpc: at least one"),
            ("rpc = [\"http://127.0.0.1:8000\"]", "rpc = [\"ftp://x\"]", "not an http"),
            ("[acme]", "quorum = 2\n[acme]", "quorum: must be between 1 and 1"),
            ("[acme]", "speed = 2\n[acme]", "unknown field `speed`"),
            ("registry = \"C", "registry = \"G", "registry: "),
        ] {
            let error = Network::parse(&LOCAL.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(says), "{error:?} does not say {says:?}");
        }
    }
}
