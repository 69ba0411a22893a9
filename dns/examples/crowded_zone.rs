//! A zone with many names, served for load tools: `crowded_zone [NAMES] [unsigned|signed] [IP:PORT…]` says where it is
//! and, in JSON, what a name costs. It writes `positive.txt` and `negative.txt` for `dnsperf -d`; if signed, their answers
//! are signed beforehand, as resolvers that ask again and again find them. Needs no chain and no relay.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tunnler_dns::clock;
use tunnler_dns::dnssec::Fresh;
use tunnler_dns::dnssec::keys::{self, ZoneKeys};
use tunnler_dns::serve::limit::Rate;
use tunnler_dns::serve::{Bound, Responder};
use tunnler_dns::snapshot::Terms;
use tunnler_dns::state::{Event, State};
use tunnler_dns::zone::Gate;
use tunnler_protocol::SecretKey;
use tunnler_protocol::directory::{
    AccountHosts, AddressPolicy, Directory, Heartbeat, NameRecord, Relay, RelayStatus, ZoneConfig, ZoneServer,
};
use tunnler_protocol::instance::{BootId, InstanceId};
use tunnler_protocol::live::{FeedEvent, Session};
use tunnler_protocol::merge::Source;
use tunnler_protocol::presence::{Claims, Service, ServiceKind, TlsMode};
use tunnler_protocol::time::LedgerTime;

const RELAYS: u32 = 20;

fn key(kind: u8, n: u32) -> SecretKey {
    let mut seed = [kind; 32];
    seed[..4].copy_from_slice(&n.to_be_bytes());
    SecretKey::from_seed(&seed)
}

fn relay(n: u32) -> Relay {
    let now = clock::unix_now().seconds();
    Relay {
        address: key(1, n).address(),
        operator: format!("operator {n}"),
        host: None,
        control_port: 443,
        ingress_port: 443,
        ipv4: Some(Ipv4Addr::new(9, 9, n as u8, 1)),
        ipv6: None,
        region: "lab".into(),
        capacity: 1_000_000,
        acme: None,
        status: RelayStatus::Active,
        heartbeat: Some(Heartbeat { at: now, load: 0 }),
        registered_at: now,
    }
}

fn directory(names: u32, servers: &[SocketAddr]) -> Directory {
    let now = clock::unix_now().seconds();
    let record = |n: u32| {
        let label: tunnler_protocol::Label = format!("name{n}").parse().expect("a label");
        let target = key(2, n).address();
        let record = NameRecord {
            label: label.clone(),
            owner: target.to_string(),
            target: Some(target),
            relays: Vec::new(),
            domains: Vec::new(),
            registered_at: now,
            expires_at: now.plus(Duration::from_secs(86_400)),
            grace: Duration::from_secs(86_400),
            suspended: false,
            serial: u64::from(n),
        };
        (label, Arc::new(record))
    };
    Directory {
        ledger: LedgerTime { sequence: 1, closed_at: now },
        registry_revision: 1,
        namespace_revision: 1,
        relays: (0..RELAYS)
            .map(relay)
            .map(|relay| (relay.address, Arc::new(relay)))
            .collect::<BTreeMap<_, _>>(),
        names: (0..names).map(record).collect::<HashMap<_, _>>(),
        heartbeat_ttl: Duration::from_secs(86_400),
        zone: ZoneConfig {
            zone: "tunnel.example".parse().expect("a zone"),
            grace: Duration::from_secs(86_400),
            servers: servers.iter().enumerate().map(|(n, address)| server(n, address)).collect(),
            account_hosts: AccountHosts::Owners,
            issuers: Vec::new(),
        },
    }
}

fn server(n: usize, address: &SocketAddr) -> ZoneServer {
    ZoneServer {
        host: format!("ns{}.tunnel.example", n + 1).parse().expect("a host name"),
        ipv4: match address.ip() {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        },
        ipv6: None,
        key: key(3, n as u32).address(),
    }
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// A question for A with DO.
fn validators_question(owner: &str) -> anyhow::Result<Vec<u8>> {
    let mut edns = Edns::new();
    edns.set_max_payload(1232).set_dnssec_ok(true);
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(format!("{owner}."))?, RecordType::A));
    message.set_edns(edns);
    Ok(message.to_vec()?)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tunnler_transport::tls::install_provider();
    let arguments: Vec<String> = std::env::args().collect();
    let names: u32 = arguments.get(1).map_or(Ok(100_000), |text| text.parse())?;
    let signed = arguments.get(2).is_some_and(|text| text == "signed");
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for text in arguments.iter().skip(3) {
        addresses.push(text.parse()?);
    }
    if addresses.is_empty() {
        addresses.push((Ipv4Addr::LOCALHOST, 5399).into());
    }
    let terms = Terms {
        policy: AddressPolicy::GlobalOnly,
        ingress_port: 443,
        staleness: Duration::from_secs(7 * 86_400),
        gate: Gate::Open,
    };
    let mut state = State::new(terms, [], clock::now());
    let before = resident();
    state.handle(Event::Directory(Arc::new(directory(names, &addresses))), clock::now());
    let per_name = |before: u64| resident().saturating_sub(before) / u64::from(names.max(1));
    println!("{}", json!({ "part": "dns", "names": names, "bytes_per_name": per_name(before) }));
    for n in 0..RELAYS {
        let relay = key(1, n).address();
        state.handle(Event::Feed(relay, FeedEvent::Hello(BootId([1; 16]))), clock::now());
    }
    let before = resident();
    for n in 0..names {
        let client = key(2, n);
        let now = clock::unix_now();
        let relays: Vec<_> = (0..3).map(|i| key(1, (n + i) % RELAYS).address()).collect();
        let ins = InstanceId([3; 16]);
        let claims = Claims {
            iss: client.address(),
            ins,
            seq: now,
            exp: now.seconds().plus(Duration::from_secs(3600)),
            names: vec![format!("name{n}").parse()?],
            relays: relays.clone(),
            services: vec![Service {
                name: "web".parse()?,
                kind: ServiceKind::Http,
                tls: TlsMode::Pass,
                port: None,
            }],
            acme: Vec::new(),
            txt: BTreeMap::new(),
        };
        let presence = Arc::new(claims.sign(&client)?);
        state.handle(Event::Presence(presence, Source::Relay(relays[0])), clock::now());
        for relay in relays {
            let session = FeedEvent::Session((client.address(), ins), Session::Attached);
            state.handle(Event::Feed(relay, session), clock::now());
        }
    }
    for n in 0..RELAYS {
        state.handle(Event::Feed(key(1, n).address(), FeedEvent::Synced), clock::now());
    }
    state.take_unsaved();
    let dir = std::env::temp_dir().join("crowded_zone_keys");
    if signed {
        if !dir.join("keys.toml").exists() {
            keys::generate(&dir, clock::unix_now().seconds())?;
        }
        state.handle(Event::Keys(Arc::new(ZoneKeys::load(&dir)?)), clock::now());
    }
    let snapshot = state.publish(clock::now()).expect("something changed");
    let presences =
        json!({ "part": "dns", "presences": names, "sessions_each": 3, "bytes_each": per_name(before) });
    println!("{presences}");
    let shared = Arc::new(ArcSwap::new(snapshot));
    let responder = Arc::new(Responder::new(shared, Rate::Unlimited));
    // Names that are not there are one in four: more signatures than are remembered would measure something else.
    for (file, prefix, count) in
        [("positive.txt", "name", names), ("negative.txt", "nobody", names.div_ceil(4))]
    {
        let owners: Vec<String> = (0..count).map(|n| format!("{prefix}{n}.tunnel.example")).collect();
        let mut lines = BufWriter::new(std::fs::File::create(file)?);
        for owner in &owners {
            writeln!(lines, "{owner} A")?;
        }
        lines.flush()?;
        if signed {
            let started = Instant::now();
            for owner in &owners {
                responder.udp(&validators_question(owner)?, Fresh::Made);
            }
            let rate = f64::from(count) / started.elapsed().as_secs_f64();
            println!(
                "{}",
                json!({ "part": "dns", "file": file, "signed_per_second_and_thread": rate as u64 })
            );
        }
    }
    let workers = std::thread::available_parallelism()?.get();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    for address in addresses {
        let bound = Bound::bind(address, workers).await?;
        println!("serving at {} with {workers} workers", bound.address());
        bound.serve(&responder, &tasks, &stop);
    }
    // Feeds would fall silent here: the snapshot is never replaced, so it goes on as it is.
    tokio::signal::ctrl_c().await?;
    Ok(())
}
