//! Directories and documents for tests: no ledger needed.

use std::sync::Arc;
use std::time::Duration;

use tunnler_protocol::directory::{AccountHosts, Directory, NameRecord, ZoneConfig};
use tunnler_protocol::instance::InstanceId;
use tunnler_protocol::presence::{self, Presence, Service, ServiceKind, TlsMode};
use tunnler_protocol::{Address, LedgerTime, SecretKey, UnixMillis, UnixSeconds};

pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

pub fn named(label: &str, target: &SecretKey) -> NameRecord {
    NameRecord {
        label: label.parse().unwrap(),
        owner: target.address().to_string(),
        target: Some(target.address()),
        relays: vec![],
        domains: vec![],
        registered_at: UnixSeconds(0),
        expires_at: UnixSeconds(u64::MAX),
        grace: Duration::ZERO,
        suspended: false,
        serial: 1,
    }
}

pub fn directory(names: &[NameRecord]) -> Directory {
    Directory {
        ledger: LedgerTime { sequence: 1, closed_at: UnixSeconds(0) },
        registry_revision: 1,
        namespace_revision: 1,
        relays: Default::default(),
        names: names.iter().map(|record| (record.label.clone(), Arc::new(record.clone()))).collect(),
        heartbeat_ttl: Duration::from_secs(86_400),
        zone: ZoneConfig {
            zone: "tun.test".parse().unwrap(),
            grace: Duration::ZERO,
            servers: vec![],
            account_hosts: AccountHosts::Owners,
            issuers: vec![],
        },
    }
}

/// A presence of `key` for `names` with one pass-mode service called `web`.
pub fn presence(
    key: &SecretKey,
    ins: InstanceId,
    seq: UnixMillis,
    names: &[&str],
    relays: &[Address],
) -> Presence {
    presence::Claims {
        iss: key.address(),
        ins,
        seq,
        exp: seq.seconds().plus(Duration::from_secs(1800)),
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        relays: relays.to_vec(),
        services: vec![Service {
            name: "web".parse().unwrap(),
            kind: ServiceKind::Http,
            tls: TlsMode::Pass,
            port: None,
        }],
        acme: vec![],
        txt: Default::default(),
    }
    .sign(key)
    .unwrap()
}
