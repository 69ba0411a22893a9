//! What is written comes back whole, or not at all.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tunnler_protocol::SecretKey;
use tunnler_protocol::directory::{
    AccountHosts, AcmeIdentity, Heartbeat, NameRecord, Relay, RelayStatus, ZoneConfig, ZoneServer,
};
use tunnler_protocol::time::UnixSeconds;

use super::*;
use crate::contract::Key;
use crate::reader::Agreement;
use crate::reader::cell::Value;

fn file(directory: &Path, passphrase: &str) -> StateFile {
    let identity = Identity {
        passphrase: passphrase.into(),
        registry: "CA".into(),
        namespace: "CB".into(),
        all_names: true,
    };
    StateFile { path: directory.join(FILE), identity }
}

fn kept() -> Kept {
    let relay = key(1);
    let keys = [
        Key::RegistryConfig,
        Key::Zone,
        Key::Terms,
        Key::Publication,
        Key::RelaySlot(7),
        Key::Heartbeat(relay),
        Key::Label("mynode".parse().unwrap()),
        Key::NameSlot(u32::MAX),
        Key::Domains(3),
    ];
    let agreement = |(index, key): (usize, Key)| Agreement {
        key,
        floor: 10 + u32::try_from(index).unwrap(),
        value: (index % 2 == 0).then(|| Value { modified: 9, bytes: Arc::from([1, 2, 3].as_slice()) }),
        open: index % 3 == 0,
    };
    Kept {
        ledger: LedgerTime { sequence: 40, closed_at: UnixSeconds(1_700_000_000) },
        complete: Complete { revisions: [3, 4], ledger: 39 },
        agreements: keys.into_iter().enumerate().map(agreement).collect(),
    }
}

fn key(seed: u8) -> tunnler_protocol::Address {
    SecretKey::from_seed(&[seed; 32]).address()
}

/// One with everything that a record can have, and one with nothing of it.
fn directory() -> Directory {
    let full = Relay {
        address: key(1),
        operator: key(2).to_string(),
        host: Some("relay.example".parse().unwrap()),
        control_port: 7000,
        ingress_port: 443,
        ipv4: Some([192, 0, 2, 1].into()),
        ipv6: Some("2001:db8::1".parse().unwrap()),
        region: "eu-west".into(),
        capacity: 10,
        acme: Some(AcmeIdentity { issuer: "ca.example".into(), account: "https://ca.example/1".into() }),
        status: RelayStatus::Delisted,
        heartbeat: Some(Heartbeat { at: UnixSeconds(7), load: 3 }),
        registered_at: UnixSeconds(5),
    };
    let bare = Relay {
        address: key(3),
        host: None,
        ipv4: None,
        ipv6: None,
        acme: None,
        status: RelayStatus::Active,
        heartbeat: None,
        ..full.clone()
    };
    let name = NameRecord {
        label: "mynode".parse().unwrap(),
        owner: key(4).to_string(),
        target: Some(key(5)),
        relays: vec![key(1), key(3)],
        domains: vec!["www.example.org".parse().unwrap()],
        registered_at: UnixSeconds(6),
        expires_at: UnixSeconds(u64::MAX),
        grace: Duration::from_secs(86_400),
        suspended: true,
        serial: 9,
    };
    let plain = NameRecord {
        label: "plain".parse().unwrap(),
        target: None,
        relays: Vec::new(),
        domains: Vec::new(),
        suspended: false,
        ..name.clone()
    };
    let server = ZoneServer {
        host: "ns1.zone.test".parse().unwrap(),
        ipv4: Some([192, 0, 2, 53].into()),
        ipv6: None,
        key: key(6),
    };
    Directory {
        ledger: LedgerTime { sequence: 41, closed_at: UnixSeconds(1_700_000_005) },
        registry_revision: 3,
        namespace_revision: 4,
        relays: BTreeMap::from([full, bare].map(|relay| (relay.address, Arc::new(relay)))),
        names: HashMap::from([name, plain].map(|name| (name.label.clone(), Arc::new(name)))),
        heartbeat_ttl: Duration::from_secs(3600),
        zone: ZoneConfig {
            zone: "zone.test".parse().unwrap(),
            grace: Duration::from_secs(60),
            servers: vec![server],
            account_hosts: AccountHosts::Owners,
            issuers: vec!["ca.example".into()],
        },
    }
}

#[test]
fn what_is_kept_comes_back() {
    let place = tempfile::tempdir().unwrap();
    let file = file(place.path(), "test");
    assert!(file.open().unwrap().is_none());
    file.save(&kept(), &directory()).unwrap();
    let opened = file.open().unwrap().unwrap();
    assert_eq!(opened.directory, directory());
    assert_eq!(opened.rest.read().unwrap(), kept());
}

#[test]
fn a_file_of_another_network_is_set_aside() {
    let place = tempfile::tempdir().unwrap();
    file(place.path(), "test").save(&kept(), &directory()).unwrap();
    assert!(file(place.path(), "other").open().unwrap().is_none());
    assert!(place.path().join("chain.projection.bad").exists());
    assert!(file(place.path(), "test").open().unwrap().is_none(), "it is no longer in the way");
}

#[test]
fn no_damage_goes_unnoticed() {
    let place = tempfile::tempdir().unwrap();
    let file = file(place.path(), "test");
    file.save(&kept(), &directory()).unwrap();
    let whole = fs::read(&file.path).unwrap();
    let is_whole = |content: &[u8]| {
        fs::write(&file.path, content).unwrap();
        file.open().unwrap().is_some_and(|opened| {
            assert_eq!(opened.directory, directory(), "what is served is never damaged");
            opened.rest.read().is_ok()
        })
    };
    assert!(is_whole(&whole));
    // Every third byte: each costs two files.
    for at in (0..whole.len()).step_by(3) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        assert!(!is_whole(&damaged), "byte {at}");
        assert!(!is_whole(&whole[..at]), "cut at {at}");
    }
}

#[test]
fn a_directory_of_nonsense_takes_no_memory() {
    let ledger = LedgerTime { sequence: 1, closed_at: UnixSeconds(1) };
    let mut bytes = super::directory::encode(&directory()).unwrap();
    for at in 0..bytes.len() {
        let old = std::mem::replace(&mut bytes[at], 0xff);
        // Whatever comes out, nothing panics and no count is believed.
        let _ = super::directory::decode(&bytes, ledger);
        bytes[at] = old;
    }
}
