//! Accounts on a clock of their own.

use proptest::prelude::*;

use super::*;
use crate::testing::key;

fn wanted(name: &str, client: u8) -> Wanted {
    Wanted { client: key(client).address(), name: Claimed::Label(name.parse().unwrap()), service: None }
}

fn direct(address: &str) -> Origin {
    Origin::Direct(address.parse().unwrap())
}

const WIDE: Rule = Rule { at_once: 1000, per_second: 1000, bytes_per_second: None };

fn limits() -> Limits {
    Limits { per_network: WIDE, per_name: WIDE, per_client: WIDE, in_all: WIDE, ..Limits::default() }
}

#[test]
fn one_network_is_a_24() {
    let shares = Shares::new(Limits { per_network: Rule { at_once: 1, ..WIDE }, ..limits() });
    let visit = |from| shares.admit(&wanted("hot", 1), direct(from), Instant::now());
    let _inside = visit("192.0.2.1").unwrap();
    assert!(visit("::ffff:192.0.2.254").is_err());
    visit("192.0.3.1").unwrap();
}

#[test]
fn every_account_has_its_own_bound_and_a_hot_one_takes_nothing_from_others() {
    let now = Instant::now();
    let narrow = Rule { at_once: 2, ..WIDE };
    type Narrow = fn(&mut Limits, Rule);
    let cases: [(&str, Narrow); 4] = [
        ("network", |limits, rule| limits.per_network = rule),
        ("name", |limits, rule| limits.per_name = rule),
        ("client", |limits, rule| limits.per_client = rule),
        ("relay", |limits, rule| limits.in_all = rule),
    ];
    for (whose, set) in cases {
        let mut limits = limits();
        set(&mut limits, narrow);
        let shares = Shares::new(limits);
        let hot = || shares.admit(&wanted("hot", 1), direct("192.0.2.1"), now);
        let (first, _second) = (hot().unwrap(), hot().unwrap());
        assert_eq!(hot().unwrap_err(), Over { whose, what: "at_once" });
        let other = shares.admit(&wanted("other", 2), direct("198.51.100.1"), now);
        assert_eq!(other.is_ok(), whose != "relay", "{whose}");
        drop((first, other));
        hot().unwrap();
    }
}

#[test]
fn visits_have_a_rate() {
    let now = Instant::now();
    let shares = Shares::new(Limits { per_name: Rule { per_second: 5, ..WIDE }, ..limits() });
    let visit = |now| shares.admit(&wanted("hot", 1), direct("192.0.2.1"), now).map(drop);
    for _ in 0..5 {
        visit(now).unwrap();
    }
    for soon in [now, now + Duration::from_millis(199)] {
        assert_eq!(visit(soon), Err(Over { whose: "name", what: "per_second" }));
    }
    assert_eq!(Over { whose: "name", what: "per_second" }.to_string(), "name_per_second");
    shares.admit(&wanted("other", 1), direct("192.0.2.1"), now).unwrap();
    shares.sweep(now);
    assert!(visit(now).is_err(), "a sweep forgives nothing");
    let later = now + Duration::from_millis(400);
    assert_eq!((0..5).filter(|_| visit(later).is_ok()).count(), 2);
    shares.sweep(later + Duration::from_secs(10));
    assert!(shares.names.0.lock().unwrap().is_empty());
}

#[test]
fn forwarded_visitors_count_for_their_relay_and_for_no_network() {
    let now = Instant::now();
    let narrow = Rule { at_once: 1, ..WIDE };
    let shares = Shares::new(Limits { per_network: narrow, per_forwarder: narrow, ..limits() });
    let forwarded = |seed| shares.admit(&wanted("hot", 1), Origin::Forwarded(key(seed).address()), now);
    let _direct = shares.admit(&wanted("hot", 1), direct("192.0.2.1"), now).unwrap();
    let _one = forwarded(5).unwrap();
    assert_eq!(forwarded(5).unwrap_err(), Over { whose: "forwarder", what: "at_once" });
    forwarded(6).unwrap();
}

#[test]
fn bytes_are_waited_for_together() {
    let now = Instant::now();
    let metered = Rule { bytes_per_second: Some(1000), ..WIDE };
    let shares = Shares::new(Limits { per_name: metered, ..limits() });
    let visitor = |name| shares.admit(&wanted(name, 1), direct("192.0.2.1"), now).unwrap();
    let (one, two, other) = (visitor("hot"), visitor("hot"), visitor("other"));
    assert!(one.is_metered());
    assert_eq!(one.spend(1000, now), Duration::ZERO, "a second's worth at once");
    assert_eq!(two.spend(500, now), Duration::from_millis(500));
    assert_eq!(one.spend(500, now), Duration::from_secs(1));
    assert_eq!(other.spend(500, now), Duration::ZERO);
    assert_eq!(one.spend(0, now + Duration::from_secs(1)), Duration::ZERO);
    assert!(!Shares::new(limits()).admit(&wanted("hot", 1), direct("192.0.2.1"), now).unwrap().is_metered());
}

proptest! {
    /// Whatever comes and goes: never more than allowed, never more a second than allowed, nothing left at the end.
    #[test]
    fn books_balance(steps in prop::collection::vec((0_u8..3, 0_u8..4, 0_u64..300), 1..200)) {
        let start = Instant::now();
        let rule = Rule { at_once: 4, per_second: 6, bytes_per_second: None };
        let shares = Shares::new(Limits { per_forwarder: rule, ..limits() });
        let mut now = start;
        let mut inside: Vec<(u8, Share)> = Vec::new();
        let mut admitted: Vec<(u8, Instant)> = Vec::new();
        for (seed, what, millis) in steps {
            now += Duration::from_millis(millis);
            match what {
                0 if !inside.is_empty() => { inside.swap_remove(usize::from(seed) % inside.len()); }
                1 => shares.sweep(now),
                _ => {
                    let origin = Origin::Forwarded(key(seed + 1).address());
                    if let Ok(share) = shares.admit(&wanted("hot", 1), origin, now) {
                        inside.push((seed, share));
                        admitted.push((seed, now));
                    }
                }
            }
            for seed in 0..3 {
                prop_assert!(inside.iter().filter(|(whose, _)| *whose == seed).count() <= 4);
                let lately = |(whose, at): &&(u8, Instant)| *whose == seed && *at + Duration::from_secs(1) > now;
                // A burst, and what the second itself brings.
                prop_assert!(admitted.iter().filter(lately).count() < 12);
            }
        }
        inside.clear();
        shares.sweep(now + Duration::from_secs(5));
        prop_assert!(shares.forwarders.0.lock().unwrap().is_empty());
    }
}
