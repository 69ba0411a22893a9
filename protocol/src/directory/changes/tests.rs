use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::*;
use crate::address::{Address, SecretKey};
use crate::directory::{AccountHosts, RelayStatus, ZoneConfig};
use crate::time::{LedgerTime, UnixSeconds};

fn address(seed: u8) -> Address {
    SecretKey::from_seed(&[seed; 32]).address()
}

fn relay(seed: u8) -> Arc<Relay> {
    Arc::new(Relay {
        address: address(seed),
        operator: address(1).to_string(),
        host: None,
        control_port: 7000,
        ingress_port: 443,
        ipv4: None,
        ipv6: None,
        region: "test".into(),
        capacity: 10,
        acme: None,
        status: RelayStatus::Active,
        heartbeat: None,
        registered_at: UnixSeconds(100),
    })
}

fn name(label: &str, expires_at: u64) -> Arc<NameRecord> {
    Arc::new(NameRecord {
        label: label.parse().unwrap(),
        owner: address(1).to_string(),
        target: Some(address(2)),
        relays: Vec::new(),
        domains: Vec::new(),
        registered_at: UnixSeconds(1),
        expires_at: UnixSeconds(expires_at),
        grace: Duration::from_secs(10),
        suspended: false,
        serial: 1,
    })
}

fn directory(now: u64, relays: &[Arc<Relay>], names: &[Arc<NameRecord>]) -> Directory {
    Directory {
        ledger: LedgerTime { sequence: 1, closed_at: UnixSeconds(now) },
        registry_revision: 1,
        namespace_revision: 1,
        relays: relays.iter().map(|relay| (relay.address, relay.clone())).collect::<BTreeMap<_, _>>(),
        names: names.iter().map(|name| (name.label.clone(), name.clone())).collect::<HashMap<_, _>>(),
        heartbeat_ttl: Duration::from_secs(50),
        zone: ZoneConfig {
            zone: "zone.test".parse().unwrap(),
            grace: Duration::from_secs(10),
            servers: Vec::new(),
            account_hosts: AccountHosts::All,
            issuers: Vec::new(),
        },
    }
}

#[test]
fn nothing_changes_between_equal_directories() {
    let old = directory(110, &[relay(3)], &[name("one", 500)]);
    assert_eq!(directory(120, &[relay(3)], &[name("one", 500)]).changes_since(&old), []);
}

#[test]
fn every_kind_of_change_is_told_once_and_in_order() {
    let (gone, stays, comes) = (relay(3), relay(4), relay(5));
    let drained = Arc::new(Relay { status: RelayStatus::Draining, ..(*stays).clone() });
    let old = directory(110, &[gone.clone(), stays.clone()], &[name("aaa", 500), name("bbb", 500)]);
    let mut new = directory(120, &[drained.clone(), comes.clone()], &[name("bbb", 600), name("ccc", 500)]);
    new.zone.account_hosts = AccountHosts::Off;
    let changes = new.changes_since(&old);
    assert_eq!(changes.len(), 7, "{changes:#?}");
    assert!(changes.contains(&Change::RelayChanged { old: stays, new: drained }));
    assert!(changes.contains(&Change::RelayAppeared(comes)));
    assert!(changes.contains(&Change::RelayGone(gone)));
    assert_eq!(changes[3], Change::NameGone(name("aaa", 500)));
    assert_eq!(changes[4], Change::NameChanged { old: name("bbb", 500), new: name("bbb", 600) });
    assert_eq!(changes[5], Change::NameAppeared(name("ccc", 500)));
    assert_eq!(changes[6], Change::ZoneChanged);
}

#[test]
fn time_alone_expires_names_and_silences_relays_once() {
    let (relays, names) = ([relay(3)], [name("one", 130)]);
    let at = |now| directory(now, &relays, &names);
    assert_eq!(at(129).changes_since(&at(120)), []);
    assert_eq!(at(130).changes_since(&at(129)), [Change::NameExpired(names[0].clone())]);
    assert_eq!(at(140).changes_since(&at(131)), []);
    assert_eq!(at(151).changes_since(&at(150)), [Change::RelayFellSilent(relays[0].clone())]);
    assert_eq!(at(170).changes_since(&at(151)), []);
}
