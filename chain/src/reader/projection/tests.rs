use stellar_xdr::{AccountId, PublicKey, ScAddress, ScVal, Uint256};
use tunnler_protocol::SecretKey;
use tunnler_protocol::directory::AccountHosts;

use super::*;
use crate::value::{address_value, bytes, optional, string, structure, to_xdr, variant, vector};

fn address(seed: u8) -> Address {
    SecretKey::from_seed(&[seed; 32]).address()
}

/// The neutral element: a key that anybody can sign for.
fn weak() -> ScVal {
    let mut key = [0; 32];
    key[0] = 1;
    ScVal::Address(ScAddress::Account(AccountId(PublicKey::PublicKeyTypeEd25519(Uint256(key)))))
}

fn value(value: &ScVal) -> Value {
    Value { modified: 5, bytes: Arc::from(to_xdr(value)) }
}

struct Fixture(Projection);

impl Fixture {
    fn new() -> Self {
        let mut this = Self(Projection::default());
        this.put(Key::RegistryConfig, &structure([("heartbeat_ttl", ScVal::U64(100))]));
        this.put(Key::Zone, &string("zone.test"));
        this.put(Key::Terms, &structure([("grace", ScVal::U64(1000))]));
        let server = |host: &str, key: &[u8]| {
            structure([("host", string(host)), ("ipv4", bytes(&[127, 0, 0, 1])), ("key", bytes(key))])
        };
        let publication = structure([
            ("address_hosts", variant("Owners", [])),
            ("acme_issuers", vector([string("ca.test")])),
            (
                "servers",
                vector([server("ns1.zone.test", address(9).as_bytes()), server("ns2.zone.test", &[0; 32])]),
            ),
        ]);
        this.put(Key::Publication, &publication);
        this
    }

    fn put(&mut self, key: Key, content: &ScVal) -> Implies {
        self.0.apply(&key, Some(&value(content)))
    }

    fn directory(&mut self) -> Arc<Directory> {
        let ledger = LedgerTime { sequence: 7, closed_at: UnixSeconds(1000) };
        self.0.snapshot(ledger, [1, 2]).expect("complete")
    }

    fn relay(&mut self, slot: u32, change: &[(&'static str, ScVal)]) {
        let mut fields = vec![
            ("operator", address_value(&address(1))),
            ("relay", address_value(&address(2))),
            ("status", variant("Active", [])),
            ("registered_at", ScVal::U64(1)),
        ];
        let mut record = vec![
            ("control_port", ScVal::U32(7000)),
            ("ingress_port", ScVal::U32(443)),
            ("ipv4", bytes(&[127, 0, 0, 1])),
            ("region", string("test")),
            ("capacity", ScVal::U32(10)),
            ("acme", vector([])),
        ];
        for (name, value) in change {
            let of_record = ["host", "control_port", "ingress_port", "acme"].contains(name);
            let fields = if of_record { &mut record } else { &mut fields };
            fields.retain(|(known, _)| known != name);
            fields.push((name, value.clone()));
        }
        fields.push(("record", map(record)));
        self.put(Key::RelaySlot(slot), &map(fields));
    }

    fn name(&mut self, change: &[(&'static str, ScVal)]) -> Implies {
        let mut fields = vec![
            ("label", string("mynode")),
            ("owner", address_value(&address(1))),
            ("target", optional(Some(address_value(&address(3))))),
            ("relays", vector([])),
            ("registered_at", ScVal::U64(3)),
            ("expires_at", ScVal::U64(5000)),
            ("grace", ScVal::U64(10)),
            ("serial", ScVal::U64(4)),
            ("domains", ScVal::U32(0)),
        ];
        for (name, value) in change {
            fields.retain(|(known, _)| known != name);
            fields.push((name, value.clone()));
        }
        self.put(Key::NameSlot(0), &map(fields))
    }
}

fn map(mut fields: Vec<(&str, ScVal)>) -> ScVal {
    fields.sort_by_key(|(name, _)| *name);
    let entry = |(name, val): (&str, ScVal)| stellar_xdr::ScMapEntry {
        key: ScVal::Symbol(crate::value::symbol(name)),
        val,
    };
    let entries: Vec<_> = fields.into_iter().map(entry).collect();
    ScVal::Map(Some(stellar_xdr::ScMap(entries.try_into().unwrap())))
}

#[test]
fn the_zone_is_read_and_a_server_with_a_weak_key_left_out() {
    let mut it = Fixture::new();
    let zone = it.directory().zone.clone();
    assert_eq!((zone.zone.as_str(), zone.grace), ("zone.test", Duration::from_secs(1000)));
    assert_eq!((zone.account_hosts, zone.issuers), (AccountHosts::Owners, vec!["ca.test".to_owned()]));
    assert_eq!(zone.servers.len(), 1);
    assert_eq!(zone.servers[0].key, address(9));
    assert_eq!(it.0.ignored(), 1);
}

#[test]
fn a_relay_cannot_take_a_host_of_the_zone() {
    let own = format!("{}.relay.zone.test", address(2).label());
    let other = format!("{}.relay.zone.test", address(1).label());
    for (host, stays) in [
        ("relay.example.org", true),
        (own.as_str(), true),
        (other.as_str(), false),
        ("victim.zone.test", false),
        ("zone.test", false),
        ("Upper.example.org", true),
        ("not a host", false),
    ] {
        let mut it = Fixture::new();
        it.relay(0, &[("host", string(host))]);
        let directory = it.directory();
        assert_eq!(directory.relays[&address(2)].host.is_some(), stays, "{host}");
    }
}

#[test]
fn records_that_break_a_rule_are_left_out_and_counted() {
    for change in [
        ("relay", weak()),
        ("control_port", ScVal::U32(0)),
        ("ingress_port", ScVal::U32(70_000)),
        ("status", variant("Sleeping", [])),
        ("registered_at", ScVal::U32(1)),
    ] {
        let mut it = Fixture::new();
        let before = it.0.ignored();
        it.relay(0, std::slice::from_ref(&change));
        assert!(it.directory().relays.is_empty(), "{change:?}");
        assert_eq!(it.0.ignored(), before + 1, "{change:?}");
        it.relay(0, &[]);
        assert_eq!((it.directory().relays.len(), it.0.ignored()), (1, before));
    }
    let mut it = Fixture::new();
    it.name(&[("label", string("www"))]);
    assert!(it.directory().names.is_empty());
}

#[test]
fn the_states_of_a_relay() {
    use RelayStatus::{Active, Delisted, Draining, Unbonding};
    let draining = ("status", variant("Draining", []));
    let unbonding = ("unbonding_until", ScVal::U64(9));
    let delisted = ("delisted", string("spam"));
    for (change, status) in [
        (vec![], Active),
        (vec![draining.clone()], Draining),
        (vec![draining, unbonding.clone()], Unbonding),
        (vec![unbonding, delisted], Delisted),
    ] {
        let mut it = Fixture::new();
        it.relay(0, &change);
        assert_eq!(it.directory().relays[&address(2)].status, status);
    }
}

#[test]
fn a_weak_target_is_no_target_and_weak_relays_do_not_widen_the_policy() {
    let mut it = Fixture::new();
    it.name(&[("target", weak())]);
    assert_eq!(it.directory().names.values().next().unwrap().target, None);
    it.name(&[("relays", vector([weak()]))]);
    let directory = it.directory();
    let record = directory.names.values().next().unwrap();
    assert!(record.target.is_none() || !record.allows(&address(7)), "{record:?}");
    it.name(&[("relays", vector([weak(), address_value(&address(5))]))]);
    let directory = it.directory();
    let record = directory.names.values().next().unwrap();
    assert_eq!((record.target, record.relays.as_slice()), (Some(address(3)), [address(5)].as_slice()));
}

#[test]
fn domains_belong_to_a_serial() {
    let mut it = Fixture::new();
    assert_eq!(it.name(&[("domains", ScVal::U32(1))]), Implies::Key(Key::Domains(0)));
    let entry =
        |serial| structure([("serial", ScVal::U64(serial)), ("domains", vector([string("a.example")]))]);
    it.put(Key::Domains(0), &entry(3));
    assert!(it.directory().names.values().next().unwrap().domains.is_empty());
    it.put(Key::Domains(0), &entry(4));
    assert_eq!(it.directory().names.values().next().unwrap().domains.len(), 1);
}

#[test]
fn what_did_not_change_keeps_its_arc_and_a_moved_relay_is_never_two() {
    let mut it = Fixture::new();
    it.relay(0, &[]);
    it.name(&[]);
    let before = it.directory();
    it.relay(1, &[("relay", address_value(&address(4)))]);
    let after = it.directory();
    assert!(Arc::ptr_eq(&before.relays[&address(2)], &after.relays[&address(2)]));
    assert!(Arc::ptr_eq(before.names.values().next().unwrap(), after.names.values().next().unwrap()));
    assert_eq!(before.relays.len(), 1, "a snapshot never changes");
    it.relay(0, &[("relay", address_value(&address(4)))]);
    assert_eq!(it.directory().relays.len(), 1);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_entry_makes_it_panic(
        garbage in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        at in proptest::prelude::any::<proptest::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let keys = [
            Key::RegistryConfig,
            Key::Zone,
            Key::Terms,
            Key::Publication,
            Key::RelaySlot(0),
            Key::Heartbeat(address(2)),
            Key::Label("mynode".parse().unwrap()),
            Key::NameSlot(0),
            Key::Domains(0),
        ];
        let mut it = Fixture::new();
        it.relay(0, &[]);
        it.name(&[]);
        // Garbage, and a valid record with one bit flipped.
        let mut flipped = to_xdr(&structure([("serial", ScVal::U64(4)), ("domains", vector([string("a.example")]))]));
        let index = at.index(flipped.len());
        flipped[index] ^= 1 << bit;
        for key in &keys {
            for bytes in [garbage.as_slice(), flipped.as_slice()] {
                it.0.apply(key, Some(&Value { modified: 6, bytes: Arc::from(bytes) }));
                it.0.snapshot(LedgerTime { sequence: 8, closed_at: UnixSeconds(1000) }, [1, 2]);
            }
        }
    }
}
