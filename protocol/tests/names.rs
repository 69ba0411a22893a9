//! Names: the shared table of labels, and what hosts mean in a zone.

use tunnler_protocol::address::SecretKey;
use tunnler_protocol::name::NameError;
use tunnler_protocol::{Host, HostName, Label, Zone};

fn kind(error: NameError) -> &'static str {
    match error {
        NameError::TooShort => "too-short",
        NameError::TooLong => "too-long",
        NameError::Character => "character",
        NameError::Hyphen => "hyphen",
        NameError::AddressShape => "address",
        NameError::Reserved => "reserved",
        NameError::NotADomain => "not-a-domain",
    }
}

#[test]
fn labels_follow_the_table_that_the_contract_follows() {
    let table = include_str!("data/labels.tsv");
    let mut cases = 0;
    for line in table.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (label, verdict) = line.split_once('\t').expect("label, tab, verdict");
        let label = label.replace("\\0", "\0").replace("\\\\", "\\");
        let found = label.parse::<Label>().map_or_else(kind, |_| "ok");
        assert_eq!(found, verdict, "{label:?}");
        cases += 1;
    }
    assert!(cases > 30, "the table has {cases} cases");
}

#[test]
fn hosts_are_classified() {
    let zone: Zone = "tun.test".parse().unwrap();
    let key = SecretKey::from_seed(&[1; 32]).address();
    let label = key.label();
    let check = |text: &str, expected: Host| {
        assert_eq!(zone.classify(&text.parse::<HostName>().unwrap()), expected, "{text}");
    };
    check("tun.test", Host::Apex);
    check("TUN.test.", Host::Apex);
    check("mynode.tun.test", Host::Name("mynode".parse().unwrap(), None));
    check("api.mynode.tun.test", Host::Name("mynode".parse().unwrap(), Some("api".parse().unwrap())));
    check(&format!("{label}.tun.test"), Host::Account(key, None));
    check(
        &format!("ssh.{}.tun.test", label.to_uppercase()),
        Host::Account(key, Some("ssh".parse().unwrap())),
    );
    check(&format!("{label}.relay.tun.test"), Host::Relay(key));
    check("www.tun.test", Host::Unregistrable);
    check("x.relay.tun.test", Host::Unregistrable);
    check("a.b.mynode.tun.test", Host::Unregistrable);
    check("example.com", Host::Foreign);
    check("nottun.test", Host::Foreign);
    assert_eq!(zone.label_budget(), Some(32 - 9));
}
