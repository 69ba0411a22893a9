//! A CAA checker as a CA would write it from RFC 8659 and RFC 8657, asked over the wire: who gets what. Shares nothing
//! with the code under test but the DNS message parser; pebble checks no CAA, so this stands in for a CA.

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tunnler_protocol::directory::{AcmeIdentity, Relay, RelayStatus};
use tunnler_protocol::live::{Hearing, Session};
use tunnler_protocol::presence::{Claims, Service, TlsMode};

use super::*;
use crate::dnssec::Fresh;
use crate::serve::responder::Outcome;
use crate::snapshot::{Changes, Client, Footing, Snapshot};
use crate::zone::{Gate, ZoneView};

const CA: &str = "letsencrypt.org";

/// What somebody asks the CA for.
struct Order<'a> {
    /// A host name, or `*.` and one.
    name: &'a str,
    account: &'a str,
    method: &'a str,
}

/// One property of a CAA record set.
struct Property {
    critical: bool,
    tag: String,
    value: String,
}

/// RFC 8659, section 3: the record set of the closest ancestor that has one. `None` when an answer is a failure, which
/// forbids issuance.
fn relevant(responder: &Responder, host: &str) -> Option<Vec<Property>> {
    let mut name = host;
    loop {
        let properties = lookup(responder, name)?;
        if !properties.is_empty() {
            return Some(properties);
        }
        match name.split_once('.') {
            // Above the zone other servers answer; for this test there is nothing.
            Some((_, parent)) if parent.ends_with(fixture::ZONE) => name = parent,
            _ => return Some(Vec::new()),
        }
    }
}

fn lookup(responder: &Responder, name: &str) -> Option<Vec<Property>> {
    let mut query = Message::new(1, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), RecordType::CAA));
    let packet = responder.stream(&query.to_vec().unwrap(), network(Ipv4Addr::LOCALHOST.into()))?;
    let answer = Message::from_vec(&packet).unwrap();
    if !matches!(answer.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return None;
    }
    let property = |data: &RData| match data {
        RData::CAA(caa) => Property {
            critical: caa.issuer_critical,
            tag: caa.tag.to_ascii_lowercase(),
            value: String::from_utf8(caa.value.clone()).expect("visible ASCII"),
        },
        other => panic!("not CAA: {other}"),
    };
    Some(answer.answers.iter().map(|record| property(&record.data)).collect())
}

/// RFC 8659, section 4, and RFC 8657.
fn may_issue(responder: &Responder, order: &Order<'_>) -> bool {
    let (wild, host) = match order.name.strip_prefix("*.") {
        Some(host) => (true, host),
        None => (false, order.name),
    };
    let Some(properties) = relevant(responder, host) else { return false };
    if properties.iter().any(|p| p.critical && !matches!(&*p.tag, "issue" | "issuewild" | "iodef")) {
        return false;
    }
    let tagged = |tag: &str| properties.iter().filter(|p| p.tag == tag).collect::<Vec<_>>();
    let governing =
        if wild && !tagged("issuewild").is_empty() { tagged("issuewild") } else { tagged("issue") };
    // A set without any governing property does not restrict.
    governing.is_empty() || governing.iter().any(|property| permits(&property.value, order))
}

/// `issuer-domain *(";" tag "=" value)`: malformed values permit nobody.
fn permits(value: &str, order: &Order<'_>) -> bool {
    let mut parts = value.split(';').map(|part| part.trim_matches([' ', '\t']));
    if !parts.next().is_some_and(|issuer| issuer.eq_ignore_ascii_case(CA)) {
        return false;
    }
    let mut accounts = Vec::new();
    for part in parts {
        let Some((tag, value)) = part.split_once('=') else { return false };
        match tag {
            "accounturi" => accounts.push(value),
            "validationmethods" if !value.split(',').any(|method| method == order.method) => return false,
            _ => {}
        }
    }
    // More than one account in one property is malformed (RFC 8657, section 3).
    match accounts[..] {
        [] => true,
        [account] => account == order.account,
        _ => false,
    }
}

const MINE: &str = "https://ca.example/acct/mine";
const OF_RELAY_1: &str = "https://ca.example/acct/relay1";
const OF_RELAY_2: &str = "https://ca.example/acct/relay2";
const OF_RELAY_3: &str = "https://ca.example/acct/relay3";
const STRANGER: &str = "https://ca.example/acct/stranger";

fn identity(account: &str) -> AcmeIdentity {
    AcmeIdentity { issuer: CA.into(), account: account.into() }
}

/// `passnode` ends TLS itself, `termnode` lets relays do it; both on relays 1 and 2. Relay 3 was delisted.
fn responder() -> Responder {
    let now = clock::unix_now();
    let relay = |n, account: &str, status| Relay {
        acme: Some(identity(account)),
        status,
        registered_at: now.seconds(),
        heartbeat: None,
        ..fixture::relay(n)
    };
    let relays = [
        relay(1, OF_RELAY_1, RelayStatus::Active),
        relay(2, OF_RELAY_2, RelayStatus::Active),
        relay(3, OF_RELAY_3, RelayStatus::Delisted),
    ];
    let names =
        [("passnode", 101), ("termnode", 102), ("offline", 103)].map(|(label, n)| fixture::name(label, n));
    let mut directory = fixture::directory(relays, names);
    directory.ledger.closed_at = now.seconds();
    for record in directory.names.values_mut() {
        Arc::make_mut(record).expires_at = now.plus(std::time::Duration::from_secs(3600)).seconds();
    }
    let client = |n: u8, name: &str, tls, accounts: &[&str]| {
        let template = fixture::claims_at(now, n, &[name], &[1, 2, 3]);
        let services = template.services.iter().map(|service| Service { tls, ..service.clone() }).collect();
        let acme = accounts.iter().map(|account| identity(account)).collect();
        let claims = Claims { services, acme, ..template };
        let sessions = [1, 2].map(|relay| (fixture::address(relay), claims.ins, Session::Attached)).to_vec();
        (fixture::address(n), Some(Client { presences: vec![fixture::signed(n, claims)], sessions }))
    };
    let changes = Changes {
        clients: [
            client(101, "passnode", TlsMode::Pass, &[MINE, OF_RELAY_1]),
            client(102, "termnode", TlsMode::Term, &[OF_RELAY_1, OF_RELAY_3]),
        ]
        .into(),
        hearings: Some([1, 2].map(|n| (fixture::address(n), Hearing::Complete)).into()),
        ..Changes::default()
    };
    let zone = Arc::new(ZoneView::new(Arc::new(directory), Gate::Open));
    let snapshot = Snapshot::empty(fixture::TERMS).with(Some(zone), Footing::Synced, changes);
    Responder::new(Arc::new(ArcSwap::from_pointee(snapshot)), Rate::Unlimited)
}

#[test]
fn exactly_the_right_account_by_the_right_method_may_issue() {
    let responder = responder();
    let relay_host = |n| format!("{}.relay", fixture::address(n).label());
    let hosts = [relay_host(1), relay_host(3)];
    let [relay_1, relay_3] = &hosts;
    let table: Vec<(&str, &str, &str, bool)> = vec![
        // Pass mode: the client alone, by DNS, with its wildcard.
        ("passnode", MINE, "dns-01", true),
        ("*.passnode", MINE, "dns-01", true),
        ("web.passnode", MINE, "dns-01", true),
        ("passnode", MINE, "http-01", false),
        ("passnode", MINE, "tls-alpn-01", false),
        ("passnode", STRANGER, "dns-01", false),
        ("passnode", OF_RELAY_1, "dns-01", false),
        ("passnode", OF_RELAY_2, "tls-alpn-01", false),
        ("*.passnode", OF_RELAY_1, "dns-01", false),
        ("deep.web.passnode", STRANGER, "dns-01", false),
        // Term mode: the relay that the client signed for, without wildcard.
        ("termnode", OF_RELAY_1, "dns-01", true),
        ("termnode", OF_RELAY_1, "tls-alpn-01", false),
        ("*.termnode", OF_RELAY_1, "dns-01", false),
        ("termnode", OF_RELAY_2, "dns-01", false),
        ("termnode", OF_RELAY_3, "dns-01", false),
        ("termnode", MINE, "dns-01", false),
        // Relay hosts: the relay, at the host itself.
        (relay_1, OF_RELAY_1, "tls-alpn-01", true),
        (relay_1, OF_RELAY_1, "dns-01", false),
        (relay_1, OF_RELAY_2, "tls-alpn-01", false),
        (relay_3, OF_RELAY_3, "tls-alpn-01", false),
        // Everything else is denied at the apex.
        ("", MINE, "dns-01", false),
        ("*", MINE, "dns-01", false),
        ("*", OF_RELAY_1, "dns-01", false),
        ("offline", MINE, "dns-01", false),
        ("nobody", STRANGER, "http-01", false),
        ("*.relay", OF_RELAY_1, "dns-01", false),
    ];
    for (name, account, method, expected) in table {
        let full =
            if name.is_empty() { fixture::ZONE.to_owned() } else { format!("{name}.{}", fixture::ZONE) };
        let order = Order { name: &full, account, method };
        assert_eq!(may_issue(&responder, &order), expected, "{full} for {account} by {method}");
    }
}

#[test]
fn the_checker_can_say_no() {
    let order = Order { name: "x", account: MINE, method: "dns-01" };
    assert!(permits(&format!("{CA}; accounturi={MINE}; validationmethods=dns-01"), &order));
    for value in [
        ";".to_owned(),
        String::new(),
        format!("other.example; accounturi={MINE}"),
        format!("{CA}; accounturi={MINE}; accounturi={STRANGER}"),
        format!("{CA}; accounturi={MINE}; validationmethods=http-01"),
        format!("{CA}; nonsense"),
    ] {
        assert!(!permits(&value, &order), "{value:?}");
    }
}

#[test]
fn a_failure_forbids() {
    let responder =
        Responder::new(Arc::new(ArcSwap::from_pointee(Snapshot::empty(fixture::TERMS))), Rate::Unlimited);
    let order = Order { name: "passnode.tunnel.example", account: MINE, method: "dns-01" };
    assert!(!may_issue(&responder, &order));
    assert!(matches!(responder.udp(&[0; 12], Fresh::Made), Outcome::Send(_)));
}
