//! A small world for this crate's tests: relays 1…, clients signed by numbered keys, one zone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tunnler_protocol::SecretKey;
use tunnler_protocol::address::Address;
use tunnler_protocol::directory::{
    AccountHosts, AcmeIdentity, AddressPolicy, Directory, Heartbeat, NameRecord, Relay, RelayStatus,
    ZoneConfig, ZoneServer,
};
use tunnler_protocol::instance::InstanceId;
use tunnler_protocol::live::{Hearing, Session};
use tunnler_protocol::presence::{Claims, Presence, Service, ServiceKind, TlsMode};
use tunnler_protocol::time::{LedgerTime, UnixMillis, UnixSeconds};

use crate::dnssec::keys::ZoneKeys;
use crate::snapshot::{Changes, Client, Footing, Snapshot, Terms};
use crate::zone::{Gate, ZoneView};

pub const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
pub const ZONE: &str = "tunnel.example";

pub const TERMS: Terms = Terms {
    policy: AddressPolicy::GlobalOnly,
    ingress_port: 443,
    staleness: Duration::from_secs(7 * 86_400),
    gate: Gate::Open,
};

/// Keys 1–99 are relays', 101… clients'.
pub fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

pub fn address(n: u8) -> Address {
    key(n).address()
}

pub fn relay(n: u8) -> Relay {
    Relay {
        address: address(n),
        operator: format!("operator {n}"),
        host: None,
        control_port: 443,
        ingress_port: 443,
        ipv4: Some([9, 9, n, 1].into()),
        ipv6: None,
        region: "eu".into(),
        capacity: 100,
        acme: None,
        status: RelayStatus::Active,
        heartbeat: Some(Heartbeat { at: NOW.seconds(), load: 0 }),
        registered_at: NOW.seconds(),
    }
}

pub fn name(label: &str, target: u8) -> NameRecord {
    NameRecord {
        label: label.parse().unwrap(),
        owner: address(target).to_string(),
        target: Some(address(target)),
        relays: Vec::new(),
        domains: Vec::new(),
        grace: Duration::from_secs(30 * 86_400),
        registered_at: NOW.seconds(),
        expires_at: NOW.seconds().plus(Duration::from_secs(86_400)),
        suspended: false,
        serial: 1,
    }
}

pub fn directory(
    relays: impl IntoIterator<Item = Relay>,
    names: impl IntoIterator<Item = NameRecord>,
) -> Directory {
    Directory {
        ledger: LedgerTime { sequence: 7, closed_at: NOW.seconds() },
        registry_revision: 3,
        namespace_revision: 4,
        relays: relays.into_iter().map(|relay| (relay.address, Arc::new(relay))).collect::<BTreeMap<_, _>>(),
        names: names.into_iter().map(|name| (name.label.clone(), Arc::new(name))).collect::<HashMap<_, _>>(),
        heartbeat_ttl: Duration::from_secs(86_400),
        zone: ZoneConfig {
            zone: ZONE.parse().unwrap(),
            grace: Duration::from_secs(30 * 86_400),
            servers: [("ns1.tunnel.example", 1), ("b.ns.tunnel.example", 2)]
                .map(|(host, n)| ZoneServer {
                    host: host.parse().unwrap(),
                    ipv4: Some([9, 0, 0, n].into()),
                    ipv6: Some([0x2600, 0, 0, 0, 0, 0, 0, u16::from(n)].into()),
                    key: address(200 + n),
                })
                .to_vec(),
            account_hosts: AccountHosts::Owners,
            issuers: vec!["letsencrypt.org".into()],
        },
    }
}

/// Claims of client `n` for `names` at `relays`, signed ten minutes ago, for an hour.
pub fn claims(n: u8, names: &[&str], relays: &[u8]) -> Claims {
    claims_at(NOW, n, names, relays)
}

pub fn claims_at(now: UnixMillis, n: u8, names: &[&str], relays: &[u8]) -> Claims {
    let seq = UnixMillis(now.0 - 600_000);
    Claims {
        iss: address(n),
        ins: InstanceId([n; 16]),
        seq,
        exp: UnixSeconds(seq.0 / 1000 + 3600),
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        relays: relays.iter().map(|n| address(*n)).collect(),
        services: vec![Service {
            name: "web".parse().unwrap(),
            kind: ServiceKind::Http,
            tls: TlsMode::Pass,
            port: None,
        }],
        acme: Vec::new(),
        txt: BTreeMap::new(),
    }
}

pub fn signed(n: u8, claims: Claims) -> Arc<Presence> {
    Arc::new(claims.sign(&key(n)).unwrap())
}

/// A world with one of everything, as of `now`: `mynode` live at relays 1 and 2, `offline` registered only, a TCP
/// service, challenges, an ACME account, and the zone's `keys`.
pub fn showcase(now: UnixMillis, keys: ZoneKeys) -> Snapshot {
    let account_with = |path: &str| AcmeIdentity {
        issuer: "letsencrypt.org".into(),
        account: format!("https://ca.example/{path}"),
    };
    let relays = [1, 2].map(|n| Relay {
        ipv6: Some([0x2600, u16::from(n), 0, 0, 0, 0, 0, 1].into()),
        acme: Some(account_with(&n.to_string())),
        heartbeat: Some(Heartbeat { at: now.seconds(), load: 0 }),
        ..relay(n)
    });
    let mut directory = directory(relays, [name("mynode", 101), name("offline", 102)]);
    directory.ledger.closed_at = now.seconds();
    for record in directory.names.values_mut() {
        Arc::make_mut(record).expires_at = now.seconds().plus(Duration::from_secs(86_400));
    }
    let mut claims = claims_at(now, 101, &["mynode"], &[1, 2]);
    let ssh = Service {
        name: "ssh".parse().unwrap(),
        kind: ServiceKind::Tcp,
        tls: TlsMode::Pass,
        port: Some(20_022),
    };
    claims.services.push(ssh);
    // Long enough not to fit in a datagram.
    claims.acme = (101..105).map(|n| account_with(&format!("{}{n}", "x".repeat(150)))).collect();
    claims.txt.insert("mynode.tunnel.example".parse().unwrap(), vec!["A".repeat(43), "B".repeat(43)]);
    let sessions = [1, 2].map(|n| (address(n), claims.ins, Session::Attached)).to_vec();
    let client = Client { presences: vec![signed(101, claims)], sessions };
    let changes = Changes {
        clients: [(address(101), Some(client))].into(),
        hearings: Some([1, 2].map(|n| (address(n), Hearing::Complete)).into()),
        keys: Some(Arc::new(keys)),
        ..Changes::default()
    };
    let zone = Arc::new(ZoneView::new(Arc::new(directory), Gate::Open));
    Snapshot::empty(TERMS).with(Some(zone), Footing::Synced, changes)
}
