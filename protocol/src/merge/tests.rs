//! The table as a join, and each refusal.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::address::SecretKey;
use crate::time::UnixSeconds;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

/// A presence of client `n`, instance `ins`, signed `age` before [`NOW`], for an hour. `relay` varies the bytes.
fn presence(n: u8, ins: u8, age: Duration, relay: u8) -> Arc<Presence> {
    let seq = UnixMillis(NOW.0 - age.as_millis() as u64);
    let claims = Claims {
        iss: key(n).address(),
        ins: InstanceId([ins; 16]),
        seq,
        exp: UnixSeconds(seq.0 / 1000 + 3600),
        names: Vec::new(),
        relays: vec![key(relay).address()],
        services: Vec::new(),
        acme: Vec::new(),
        txt: Default::default(),
    };
    Arc::new(claims.sign(&key(n)).unwrap())
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// The text of everything remembered, sorted: what two equal tables have in common.
fn contents(table: &PresenceTable) -> Vec<Arc<str>> {
    let mut texts: Vec<_> = table.iter().map(|presence| presence.text().clone()).collect();
    texts.sort_unstable();
    texts
}

fn merged<'a>(presences: impl IntoIterator<Item = &'a Arc<Presence>>) -> PresenceTable {
    let mut table = PresenceTable::new();
    for presence in presences {
        table.offer(presence.clone(), Source::Posted, Room::Vouched, NOW);
    }
    table
}

#[test]
fn older_equal_ahead_and_expired_never_win() {
    let mut table = PresenceTable::new();
    let mut offer =
        |presence: &Arc<Presence>, now| table.offer(presence.clone(), Source::Posted, Room::Vouched, now);
    let newest = presence(1, 1, minutes(10), 1);
    let older = presence(1, 1, minutes(20), 1);
    assert_eq!(offer(&older, NOW), Merge::Newer);
    assert_eq!(offer(&newest, NOW), Merge::Newer);
    assert_eq!(offer(&newest, NOW), Merge::Known);
    assert_eq!(offer(&older, NOW), Merge::Older);
    // Equal seq: the greater bytes win, whichever comes first.
    let (a, b) = (presence(2, 1, minutes(1), 1), presence(2, 1, minutes(1), 2));
    let (lesser, greater) = if a.text() < b.text() { (a, b) } else { (b, a) };
    assert_eq!(offer(&greater, NOW), Merge::Newer);
    assert_eq!(offer(&lesser, NOW), Merge::Older);
    let past = UnixMillis(NOW.0 - 671_000);
    assert_eq!(offer(&presence(3, 1, minutes(10), 1), past), Merge::Ahead);
    assert_eq!(offer(&presence(3, 1, minutes(61), 1), NOW), Merge::Expired);
}

#[test]
fn an_older_presence_does_not_come_back_after_the_newer_expired_nor_after_a_restart() {
    let short = |age: u64, life: u64| {
        let seq = UnixMillis(NOW.0 - age * 1000);
        let exp = UnixSeconds(seq.0 / 1000 + life);
        let template = presence(1, 1, minutes(0), 1).claims().clone();
        Arc::new(Claims { seq, exp, ..template }.sign(&key(1)).unwrap())
    };
    let (older, newer) = (short(60, 3600), short(30, 40));
    let mut table = merged([&older, &newer]);
    let later = NOW.plus(minutes(5));
    assert!(newer.claims().expired(later) && !older.claims().expired(later));
    assert_eq!(table.offer(older.clone(), Source::Posted, Room::Vouched, later), Merge::Older);
    assert!(table.sweep(later).is_empty());
    let mut restarted = PresenceTable::new();
    for presence in table.iter() {
        restarted.restore(presence.clone(), later);
    }
    assert_eq!(restarted.offer(older.clone(), Source::Posted, Room::Vouched, later), Merge::Older);
    // Once the older one is over by itself, nothing needs to be remembered.
    let end = NOW.plus(minutes(62));
    assert_eq!(restarted.sweep(end), [key(1).address()]);
    assert!(restarted.is_empty());
    assert_eq!(restarted.offer(older, Source::Posted, Room::Vouched, end), Merge::Expired);
}

#[test]
fn a_source_fills_its_own_room_only() {
    let mut table = PresenceTable::new();
    let relay = Source::Relay(key(9).address());
    for n in 1..=3 {
        assert_eq!(table.offer(presence(n, 1, minutes(1), 1), relay, Room::Bounded(3), NOW), Merge::Newer);
    }
    let fourth = presence(4, 1, minutes(1), 1);
    assert_eq!(table.offer(fourth.clone(), relay, Room::Bounded(3), NOW), Merge::Crowded);
    // What is known already may still be renewed, and another source has its own room.
    assert_eq!(table.offer(presence(1, 1, minutes(0), 1), relay, Room::Bounded(3), NOW), Merge::Newer);
    assert_eq!(table.offer(fourth, Source::Posted, Room::Bounded(3), NOW), Merge::Newer);
    table.sweep(NOW.plus(minutes(180)));
    assert_eq!((table.len(), table.introduced(relay)), (0, 0));
}

#[test]
fn eight_instances_of_highest_seq_count() {
    let all: Vec<_> = (1..=12).map(|ins| presence(1, ins, minutes(u64::from(ins)), 1)).collect();
    let table = merged(all.iter().rev());
    let ages: Vec<_> = table.client(&key(1).address()).map(|p| p.claims().ins.0[0]).collect();
    assert_eq!(ages, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(table.len(), INSTANCES);
}

/// Signing is slow unoptimised, so the universe the properties draw from is made once.
fn universe() -> &'static [Arc<Presence>] {
    static ALL: std::sync::LazyLock<Vec<Arc<Presence>>> = std::sync::LazyLock::new(|| {
        let mut all = Vec::new();
        for client in 1..=2 {
            for ins in 1..=11 {
                for age in [1, 1 + u64::from(ins), 20] {
                    all.extend([1, 2].map(|relay| presence(client, ins, minutes(age), relay)));
                }
            }
        }
        all
    });
    &ALL
}

fn some_presences() -> impl Strategy<Value = Vec<Arc<Presence>>> {
    prop::collection::vec(prop::sample::select(universe()), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_and_repetition_do_not_matter(mut offers in some_presences(), seed in any::<u64>()) {
        let table = merged(&offers);
        prop_assert_eq!(contents(&table), contents(&merged(offers.iter().chain(&offers))));
        let mut state = seed;
        offers.sort_by_cached_key(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state
        });
        prop_assert_eq!(contents(&table), contents(&merged(&offers)));
    }

    #[test]
    fn merging_tables_is_merging_what_they_saw(a in some_presences(), b in some_presences()) {
        let (left, right) = (merged(&a), merged(&b));
        let joined = merged(left.iter().chain(right.iter()));
        prop_assert_eq!(contents(&joined), contents(&merged(a.iter().chain(&b))));
    }

    #[test]
    fn sweeping_first_or_last_makes_no_difference(a in some_presences(), late in 0_u64..8000) {
        let now = NOW.plus(Duration::from_secs(late));
        let mut before = merged(&a);
        before.sweep(now);
        for presence in &a {
            before.offer(presence.clone(), Source::Posted, Room::Vouched, now);
        }
        before.sweep(now);
        let mut after = merged(&a);
        after.sweep(now);
        prop_assert_eq!(contents(&before), contents(&after));
        prop_assert_eq!(before.len(), before.iter().count());
    }
}
