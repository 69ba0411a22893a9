//! What the ranking prefers.

use std::net::Ipv4Addr;

use super::*;
use crate::directory::{AccountHosts, Heartbeat, ZoneConfig};
use crate::time::{LedgerTime, UnixSeconds};

/// A registered relay in its own network, of its own operator.
pub(crate) fn relay(seed: u8) -> Relay {
    Relay {
        address: crate::SecretKey::from_seed(&[seed; 32]).address(),
        operator: format!("operator{seed}"),
        host: None,
        control_port: 443,
        ingress_port: 443,
        ipv4: Some(Ipv4Addr::new(10, 0, seed, 1)),
        ipv6: None,
        region: "eu".into(),
        capacity: 100,
        acme: None,
        status: RelayStatus::Active,
        heartbeat: Some(Heartbeat { at: UnixSeconds(1000), load: 0 }),
        registered_at: UnixSeconds(0),
    }
}

/// A directory of these relays at ledger time 1000.
pub(crate) fn directory(relays: impl IntoIterator<Item = Relay>) -> Directory {
    Directory {
        ledger: LedgerTime { sequence: 1, closed_at: UnixSeconds(1000) },
        registry_revision: 0,
        namespace_revision: 0,
        relays: relays.into_iter().map(|relay| (relay.address, Arc::new(relay))).collect(),
        names: Default::default(),
        heartbeat_ttl: Duration::from_secs(86_400),
        zone: ZoneConfig {
            zone: "tun.test".parse().unwrap(),
            grace: Duration::ZERO,
            servers: Vec::new(),
            account_hosts: AccountHosts::All,
            issuers: Vec::new(),
        },
    }
}

/// No wishes.
pub(crate) fn policy() -> Policy {
    Policy {
        pinned: Vec::new(),
        allowed: BTreeSet::new(),
        denied: BTreeSet::new(),
        region: None,
        ingress_port: 443,
        addresses: AddressPolicy::AllowPrivate,
        named: Vec::new(),
        labels: Vec::new(),
    }
}

fn learnt(rtts: &[(&Relay, u64)]) -> BTreeMap<Address, Experience> {
    let one = |(relay, rtt): &(&Relay, u64)| {
        (relay.address, Experience { rtt: Some(Duration::from_millis(*rtt)), ..Experience::default() })
    };
    rtts.iter().map(one).collect()
}

fn order(ranked: &[Ranked]) -> Vec<Address> {
    ranked.iter().filter(|r| r.excluded.is_none()).map(|r| r.relay.address).collect()
}

#[test]
fn near_empty_and_untroubled_relays_come_first() {
    let (near, far, full) = (relay(1), relay(2), {
        let mut full = relay(3);
        full.heartbeat = Some(Heartbeat { at: UnixSeconds(1000), load: 100 });
        full
    });
    let now = Instant::now();
    let mut experience = learnt(&[(&near, 10), (&far, 120), (&full, 10)]);
    let directory = directory([near.clone(), far.clone(), full.clone()]);
    let ranked = rank(&directory, &experience, &[], &policy(), 7, now);
    assert_eq!(order(&ranked), [near.address, far.address, full.address]);
    experience.get_mut(&near.address).unwrap().trouble.failed(now, true, 0);
    let ranked = rank(&directory, &experience, &[], &policy(), 7, now);
    assert_eq!(order(&ranked), [far.address, full.address]);
    assert!(matches!(ranked[2].excluded, Some(Exclusion::InTrouble(_))));
    let later = rank(&directory, &experience, &[], &policy(), 7, now + Duration::from_secs(2));
    assert_eq!(later[0].relay.address, near.address);
    assert!(later[0].factors.contains(&Factor::Failures(1)));
}

#[test]
fn a_relay_in_use_is_not_left_for_a_small_gain() {
    let (held, better) = (relay(1), relay(2));
    let directory = directory([held.clone(), better.clone()]);
    for (rtt, first) in [(80, held.address), (40, better.address)] {
        let experience = learnt(&[(&held, 100), (&better, rtt)]);
        let ranked = rank(&directory, &experience, &[held.address], &policy(), 1, Instant::now());
        assert_eq!(ranked[0].relay.address, first, "{rtt}");
    }
}

#[test]
fn the_second_relay_is_of_another_operator_and_network() {
    let (first, mut sibling, mut neighbour, other) = (relay(1), relay(2), relay(3), relay(4));
    sibling.operator.clone_from(&first.operator);
    neighbour.ipv4 = Some(Ipv4Addr::new(10, 0, 1, 9));
    let experience = learnt(&[(&first, 5), (&sibling, 20), (&neighbour, 21), (&other, 150)]);
    let directory = directory([first.clone(), sibling.clone(), neighbour, other.clone()]);
    let ranked = rank(&directory, &experience, &[], &policy(), 0, Instant::now());
    let chosen = choose(&ranked, &[]).unwrap();
    assert_eq!(chosen.relay.address, first.address);
    let second = choose(&ranked, std::slice::from_ref(&chosen.relay)).unwrap();
    assert_eq!(second.relay.address, other.address);
    // Better two of one operator than one alone.
    let directory = super::tests::directory([first.clone(), sibling.clone()]);
    let ranked = rank(&directory, &experience, &[], &policy(), 0, Instant::now());
    assert_eq!(choose(&ranked, &[Arc::new(first)]).unwrap().relay.address, sibling.address);
}

#[test]
fn wishes_and_records_exclude() {
    let mut old = relay(1);
    old.heartbeat = None;
    let mut bare = relay(2);
    bare.ipv4 = None;
    let mut port = relay(3);
    port.ingress_port = 8443;
    let mut draining = relay(4);
    draining.status = RelayStatus::Draining;
    let (denied, pinned, plain) = (relay(5), relay(6), relay(7));
    let mut policy = policy();
    policy.denied.insert(denied.address);
    policy.pinned.push(pinned.address);
    let experience = learnt(&[(&pinned, 300), (&plain, 1)]);
    let all = [old, bare, port, draining, denied, pinned.clone(), plain.clone()];
    let mut directory = directory(all);
    directory.ledger.closed_at = UnixSeconds(86_401);
    let ranked = rank(&directory, &experience, &[], &policy, 0, Instant::now());
    assert_eq!(order(&ranked), [pinned.address, plain.address]);
    let found: BTreeSet<String> = ranked.iter().filter_map(|r| r.excluded).map(|e| e.to_string()).collect();
    let expected = ["denied by you", "draining", "inactive", "no usable address", "other ingress port"]
        .map(String::from);
    assert_eq!(found, BTreeSet::from(expected));
}

#[test]
fn a_relay_named_by_the_user_comes_first_whatever_the_chain_says() {
    let (public, unknown) = (relay(1), Relay { heartbeat: None, ..relay(2) });
    let mut delisted = relay(3);
    delisted.status = RelayStatus::Delisted;
    let named =
        vec![Arc::new(unknown.clone()), Arc::new(Relay { status: RelayStatus::Active, ..delisted.clone() })];
    let mut directory = directory([public.clone(), delisted.clone()]);
    directory.ledger.closed_at = UnixSeconds(10_000);
    let policy = Policy { named, addresses: AddressPolicy::GlobalOnly, ..policy() };
    let ranked = rank(&directory, &learnt(&[(&public, 1)]), &[], &policy, 0, Instant::now());
    assert_eq!(ranked.len(), 3, "one place each");
    assert!(
        ranked[..2].iter().all(|ranked| ranked.excluded.is_none() && ranked.factors.contains(&Factor::Named))
    );
    assert_eq!(ranked[2].relay.address, public.address);
    let denied = Policy { denied: BTreeSet::from([unknown.address]), ..policy };
    let ranked = rank(&directory, &BTreeMap::new(), &[], &denied, 0, Instant::now());
    let found = ranked.iter().find(|ranked| ranked.relay.address == unknown.address).unwrap();
    assert_eq!(found.excluded, Some(Exclusion::Denied));
}
