//! What a relay can get a client to sign, and what not.

use super::*;
use crate::SecretKey;
use crate::selection::tests::{directory, relay};

const NOW: UnixSeconds = UnixSeconds(1_000_000);

fn identity(n: u8) -> AcmeIdentity {
    AcmeIdentity { issuer: "ca.test".into(), account: format!("https://ca.test/acct/{n}") }
}

/// Relays 1 to 5, of which 5 has no account.
fn chain() -> Directory {
    directory((1..=5).map(|n| crate::directory::Relay { acme: (n < 5).then(|| identity(n)), ..relay(n) }))
}

fn host(text: &str) -> HostName {
    text.parse().unwrap()
}

fn value(n: usize) -> String {
    format!("{n:0>43}")
}

fn ask(name: &str, n: usize) -> AcmeValue {
    AcmeValue { name: host(name), value: value(n), until: NOW.plus(Duration::from_secs(300)) }
}

#[test]
fn only_hosts_of_term_services_are_the_relays() {
    use ServiceKind::{Http, Tcp};
    use TlsMode::{Pass, Term};
    let zone: Zone = "tun.test".parse().unwrap();
    let client = SecretKey::from_seed(&[99; 32]).address();
    let of = |names: &[&str], services: &[(&str, ServiceKind, TlsMode)]| {
        let names: Vec<_> = names.iter().map(|name| name.parse().unwrap()).collect();
        let service = |(name, kind, tls): &(&str, _, _)| Service {
            name: name.parse().unwrap(),
            kind: *kind,
            tls: *tls,
            port: None,
        };
        let services: Vec<_> = services.iter().map(service).collect();
        let hosts = hosts(&zone, client, &names, &services);
        hosts.iter().map(|host| host.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of(&["mynode"], &[("http", Http, Term)]), ["mynode.tun.test"]);
    assert_eq!(of(&["mynode"], &[("http", Http, Pass), ("ssh", Tcp, Term)]), [""; 0]);
    let mixed = [("http", Http, Pass), ("api", Http, Term)];
    assert_eq!(of(&["mynode", "other"], &mixed), ["api.mynode.tun.test", "api.other.tun.test"]);
    assert_eq!(of(&[], &[("http", Http, Term)]), [format!("{}.tun.test", client.label())]);
    // The proof for a custom domain lies in that domain's own DNS.
    assert_eq!(of(&["shop.example"], &[("http", Http, Term)]), [""; 0]);
}

#[test]
fn accounts_are_the_listed_relays_and_no_others() {
    let chain = chain();
    let of = |seeds: &[u8], own: &[AcmeIdentity]| {
        let relays: Vec<_> = seeds.iter().map(|seed| relay(*seed).address).collect();
        accounts(&chain, &relays, own)
    };
    assert_eq!(of(&[2, 1], &[]), [identity(2), identity(1)]);
    assert_eq!(of(&[5, 77], &[]), []);
    assert_eq!(of(&[1, 2, 3, 4], &[identity(9)]), [identity(9), identity(1), identity(2), identity(3)]);
    let mut strict = chain.clone();
    strict.zone.issuers = vec!["other.test".into()];
    assert_eq!(accounts(&strict, &[relay(1).address], []), []);
}

#[test]
fn a_relay_gets_values_for_its_own_term_hosts_only() {
    let chain = chain();
    let hosts = [host("mynode.tun.test")];
    let relays = [1, 2, 5].map(|seed| relay(seed).address);
    let consent = Consent { hosts: &hosts, relays: &relays, directory: &chain };
    let mut requests = Requests::default();
    let mut take = |seed: u8, request| requests.take(relay(seed).address, request, &consent, NOW);
    let mine = || ask("mynode.tun.test", 1);
    assert_eq!(take(1, mine()), Ok(Taken::Changed));
    assert_eq!(take(1, mine()), Ok(Taken::Known));
    // Of another name, or of one whose TLS the client ends.
    assert!(matches!(take(1, ask("victim.tun.test", 1)), Err(Refused::NotTerm(_))));
    assert!(matches!(take(1, ask("web.mynode.tun.test", 1)), Err(Refused::NotTerm(_))));
    // By a relay that carries nothing, or that has no account on chain.
    assert_eq!(take(3, mine()), Err(Refused::NotListed));
    assert_eq!(take(5, mine()), Err(Refused::NoAccount));
    assert_eq!(take(1, AcmeValue { value: "\";evil".into(), ..mine() }), Err(Refused::Malformed));
    assert_eq!(take(2, AcmeValue { until: NOW, ..mine() }), Err(Refused::Expired));
    // A second relay's value stands beside the first; a new one of the same relay replaces its old one.
    assert_eq!(take(2, ask("mynode.tun.test", 2)), Ok(Taken::Changed));
    assert_eq!(take(1, ask("mynode.tun.test", 3)), Ok(Taken::Changed));
    let shown = requests.values();
    let mut values = shown[&host("mynode.tun.test")].clone();
    values.sort();
    assert_eq!(values, [value(2), value(3)]);
    // Taken back by the one who asked, else when its time is over or its relay is gone.
    let back = AcmeValue { until: NOW, ..ask("mynode.tun.test", 3) };
    assert_eq!(requests.take(relay(1).address, back, &consent, NOW), Ok(Taken::Changed));
    assert!(!requests.expire(&relays, NOW));
    assert!(requests.expire(&relays[..1], NOW));
    assert!(requests.values().is_empty());
    requests.take(relay(1).address, mine(), &consent, NOW).unwrap();
    assert!(requests.expire(&relays, NOW.plus(Duration::from_secs(300))));
}

#[test]
fn a_greedy_relay_is_held_to_its_share() {
    let chain = chain();
    let hosts: Vec<HostName> = (0..20).map(|n| host(&format!("s{n}.mynode.tun.test"))).collect();
    let relays = [relay(1).address];
    let consent = Consent { hosts: &hosts, relays: &relays, directory: &chain };
    let mut requests = Requests::default();
    let taken = (0..20).filter(|n| {
        let request = ask(&format!("s{n}.mynode.tun.test"), *n);
        requests.take(relays[0], request, &consent, NOW).is_ok()
    });
    assert_eq!(taken.count(), MAX_VALUES);
    // Ever new values for one host: a burst, then one every ten seconds, for as long as a value lives.
    let mut changes = 0;
    for second in 0..600 {
        let now = NOW.plus(Duration::from_secs(second));
        let request = ask("s0.mynode.tun.test", 1000 + second as usize);
        let request = AcmeValue { until: now.plus(Duration::from_secs(86_400)), ..request };
        changes += usize::from(requests.take(relays[0], request, &consent, now) == Ok(Taken::Changed));
    }
    assert!((60..=90).contains(&changes), "{changes}");
    // However long it asked for.
    let later = NOW.plus(Duration::from_secs(600) + MAX_SHOWN);
    assert!(requests.expire(&relays, later) && requests.values().is_empty());
}
