//! The rule of DESIGN §7, case by case, and what must hold of every case.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::address::SecretKey;
use crate::directory::{AccountHosts, Heartbeat, RelayStatus, ZoneConfig};
use crate::time::LedgerTime;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

fn relay(n: u8) -> Relay {
    Relay {
        address: key(n).address(),
        operator: format!("operator {n}"),
        host: None,
        control_port: 443,
        ingress_port: 443,
        ipv4: Some([192, 88, 98, n].into()),
        ipv6: None,
        region: "eu".into(),
        capacity: 100,
        acme: None,
        status: RelayStatus::Active,
        heartbeat: Some(Heartbeat { at: NOW.seconds(), load: 0 }),
        registered_at: NOW.seconds(),
    }
}

fn directory() -> Directory {
    let mut relays: BTreeMap<_, _> = (10..20).map(|n| (key(n).address(), Arc::new(relay(n)))).collect();
    let mut change = |n: u8, with: &dyn Fn(&mut Relay)| {
        let mut changed = relay(n);
        with(&mut changed);
        relays.insert(changed.address, Arc::new(changed));
    };
    change(15, &|r| r.status = RelayStatus::Delisted);
    change(16, &|r| r.ipv4 = Some([127, 0, 0, 1].into()));
    change(17, &|r| r.ingress_port = 8443);
    change(18, &|r| {
        r.registered_at = UnixSeconds(0);
        r.heartbeat = Some(Heartbeat { at: UnixSeconds(NOW.seconds().0 - 86_401), load: 0 });
    });
    Directory {
        ledger: LedgerTime { sequence: 1, closed_at: NOW.seconds() },
        registry_revision: 1,
        namespace_revision: 1,
        relays,
        names: HashMap::new(),
        heartbeat_ttl: Duration::from_secs(86_400),
        zone: ZoneConfig {
            zone: "tunnel.example".parse().unwrap(),
            grace: Duration::from_secs(86_400),
            servers: Vec::new(),
            account_hosts: AccountHosts::All,
            issuers: Vec::new(),
        },
    }
}

/// A presence of client 1 that lists `relays` and ends `ends_in` seconds from [`NOW`] (negative: ended).
fn presence(ins: u8, ends_in: i64, relays: &[u8]) -> Arc<Presence> {
    let exp = UnixSeconds(NOW.seconds().0.saturating_add_signed(ends_in));
    let claims = Claims {
        iss: key(1).address(),
        ins: InstanceId([ins; 16]),
        seq: UnixMillis((exp.0 - 3600) * 1000),
        exp,
        names: Vec::new(),
        relays: relays.iter().map(|n| key(*n).address()).collect(),
        services: Vec::new(),
        acme: Vec::new(),
        txt: BTreeMap::new(),
    };
    Arc::new(claims.sign(&key(1)).unwrap())
}

struct Said(Vec<(u8, Attachment)>, Vec<u8>);

impl Witness for Said {
    fn attachment(&self, relay: &Address, _: &Address, _: &InstanceId) -> Attachment {
        let said = self.0.iter().find(|(n, _)| key(*n).address() == *relay);
        said.map_or(Attachment::Absent, |(_, attachment)| *attachment)
    }

    fn probe(&self, relay: &Address) -> Probe {
        if self.1.iter().any(|n| key(*n).address() == *relay) { Probe::Fails } else { Probe::Serves }
    }
}

fn weigh(presences: &[Arc<Presence>], said: &Said) -> (Answer, Vec<Candidate>) {
    let directory = directory();
    let chain = Chain {
        directory: &directory,
        record: None,
        policy: AddressPolicy::GlobalOnly,
        ingress_port: 443,
        now: NOW.seconds(),
    };
    let candidates = candidates(&chain, presences, said, NOW);
    (decide(&directory, &candidates), candidates)
}

fn answered(answer: &Answer) -> Vec<u8> {
    match answer {
        Answer::Relays(relays) => relays.iter().map(|relay| relay.ipv4.unwrap().octets()[3]).collect(),
        other => panic!("{other:?}"),
    }
}

use Attachment::{Absent, Attached, Draining, Unknown};

#[test]
fn attached_before_draining_before_unknown() {
    let said = |list: &[(u8, Attachment)]| Said(list.to_vec(), Vec::new());
    let one = [presence(1, 600, &[10, 11, 12])];
    let check = |list: &[(u8, Attachment)], expected: &[u8]| {
        assert_eq!(answered(&weigh(&one, &said(list)).0), expected, "{list:?}");
    };
    check(&[(10, Attached), (11, Attached), (12, Unknown)], &[10, 11]);
    check(&[(10, Draining), (11, Attached), (12, Unknown)], &[11]);
    check(&[(10, Draining), (11, Absent), (12, Unknown)], &[10]);
    check(&[(10, Unknown), (11, Absent), (12, Unknown)], &[10, 12]);
    check(&[(10, Unknown), (11, Unknown), (12, Unknown)], &[10, 11, 12]);
    assert_eq!(weigh(&one, &said(&[])).0, Answer::NoData);
    // A failing probe puts a relay behind the others, but never empties a name.
    let failing = |n: &[u8]| Said(vec![(10, Attached), (11, Attached)], n.to_vec());
    assert_eq!(answered(&weigh(&one, &failing(&[10])).0), [11]);
    assert_eq!(answered(&weigh(&one, &failing(&[10, 11])).0), [10, 11]);
}

#[test]
fn the_chain_comes_first_even_while_feeds_are_silent() {
    let listed = [presence(1, 600, &[15, 16, 17, 18, 99, 10])];
    let all = |attachment| Said([10, 15, 16, 17, 18, 99].map(|n| (n, attachment)).to_vec(), Vec::new());
    for attachment in [Attached, Unknown] {
        let (answer, candidates) = weigh(&listed, &all(attachment));
        assert_eq!(answered(&answer), [10]);
        let excluded: Vec<_> = candidates.iter().map(|candidate| candidate.standing).collect();
        use Exclusion::*;
        assert_eq!(excluded[..5], [Inactive, Address, Port, Inactive, Unregistered].map(Standing::Excluded));
    }
    assert_eq!(weigh(&[presence(1, 600, &[15])], &all(Unknown)).0, Answer::NoData);
}

#[test]
fn instances_add_up_with_all_first_choices_first() {
    let two = [presence(1, 600, &[10, 11]), presence(2, 600, &[12, 10])];
    let said = Said(vec![(10, Attached), (11, Attached), (12, Attached)], Vec::new());
    assert_eq!(answered(&weigh(&two, &said).0), [10, 12, 11]);
}

#[test]
fn expiry_is_a_word_only_when_somebody_could_be_heard() {
    let expired = [presence(1, -1, &[10, 11])];
    let said = |a, b| Said(vec![(10, a), (11, b)], Vec::new());
    assert_eq!(weigh(&expired, &said(Unknown, Unknown)).0, Answer::ServFail);
    assert_eq!(weigh(&expired, &said(Unknown, Absent)).0, Answer::NoData);
    assert_eq!(weigh(&expired, &said(Attached, Unknown)).0, Answer::NoData);
    assert_eq!(weigh(&[presence(1, -3600, &[10, 11])], &said(Unknown, Unknown)).0, Answer::NoData);
    assert_eq!(weigh(&[presence(1, -1, &[])], &said(Unknown, Unknown)).0, Answer::NoData);
    // A live instance outweighs a lapsed one.
    let both = [presence(1, -1, &[10]), presence(2, 600, &[11])];
    assert_eq!(answered(&weigh(&both, &said(Unknown, Attached)).0), [11]);
}

#[test]
fn acme_claims_count_only_unexpired_and_when_somebody_was_heard() {
    let said = |a, b| Said(vec![(10, a), (11, b)], Vec::new());
    let speaks = |presences: &[Arc<Presence>], said: &Said| {
        let (_, candidates) = weigh(presences, said);
        match speaking(presences, &candidates, NOW) {
            Speaking::Claims(claims) => claims.iter().map(|claims| claims.ins.0[0]).collect(),
            Speaking::Nothing => Vec::<u8>::new(),
            Speaking::Unsure => vec![255],
        }
    };
    let live = [presence(1, 600, &[10, 11])];
    assert_eq!(speaks(&live, &said(Attached, Unknown)), [1]);
    assert_eq!(speaks(&live, &said(Absent, Absent)), [1], "a relay that withholds blocks nothing");
    assert_eq!(speaks(&live, &said(Unknown, Unknown)), [255]);
    assert_eq!(speaks(&[presence(1, -1, &[10])], &said(Attached, Attached)), [0; 0]);
    assert_eq!(speaks(&[presence(1, -1, &[10])], &said(Unknown, Unknown)), [255]);
    assert_eq!(speaks(&[presence(1, 600, &[])], &said(Attached, Attached)), [0; 0]);
    assert_eq!(speaks(&[presence(1, 600, &[15])], &said(Attached, Attached)), [0; 0]);
    assert_eq!(speaks(&[presence(1, -1, &[10]), presence(2, 60, &[11])], &said(Attached, Attached)), [2]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Silence alone never empties a name: turning any set of words into silence never turns relays into none.
    #[test]
    fn silence_never_empties_a_name(words in prop::collection::vec(0..4_usize, 5), silent in any::<u8>()) {
        let kinds = [Attached, Draining, Absent, Unknown];
        let one = [presence(1, 600, &[10, 11, 12, 13, 14])];
        let said: Vec<_> = (10..15).zip(&words).map(|(n, word)| (n, kinds[*word])).collect();
        let hushed: Vec<_> = said
            .iter()
            .map(|(n, word)| (*n, if silent >> (n - 10) & 1 == 1 { Unknown } else { *word }))
            .collect();
        let before = weigh(&one, &Said(said, Vec::new())).0;
        let after = weigh(&one, &Said(hushed, Vec::new())).0;
        if matches!(before, Answer::Relays(_)) {
            prop_assert!(matches!(after, Answer::Relays(_)));
        }
        prop_assert!(after != Answer::ServFail, "an unexpired presence is never a server failure");
    }
}
