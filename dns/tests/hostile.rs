//! A registered relay that floods its feed with a million keys, against a whole server: what it costs in memory and CPU.
//! In a process of its own, because that is what is measured.
//!
//! `TUNNLER_FLOOD_SECONDS` says for how long.

#[path = "../src/server/tests/relay.rs"]
#[allow(dead_code)]
mod relay;

/// What the relay shares with the crate's own tests.
mod fixture {
    use tunnler_protocol::SecretKey;
    use tunnler_protocol::address::Address;

    pub fn key(n: u8) -> SecretKey {
        SecretKey::from_seed(&[n; 32])
    }

    pub fn address(n: u8) -> Address {
        key(n).address()
    }
}

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tunnler_dns::probe::Probing;
use tunnler_dns::serve::limit::Rate;
use tunnler_dns::snapshot::Terms;
use tunnler_dns::zone::Gate;
use tunnler_dns::{Config, Server, clock};
use tunnler_protocol::SecretKey;
use tunnler_protocol::directory::{
    AccountHosts, AddressPolicy, Directory, Heartbeat, Relay, RelayStatus, ZoneConfig,
};
use tunnler_protocol::feed::Message;
use tunnler_protocol::instance::InstanceId;
use tunnler_protocol::presence::{Claims, Service, ServiceKind, TlsMode};
use tunnler_protocol::time::{LedgerTime, UnixSeconds};

use fixture::{address, key};
use relay::FeedRelay;

/// More keys than any relay may have.
const KEYS: u64 = 1_000_000;
const MOST_BYTES: u64 = 32 << 20;
const MOST_CPU: f64 = 0.05;

/// A session and a presence of ever another key, the latter as long as it may be.
fn flood(n: u64) -> Message {
    let mut seed = [9; 32];
    seed[..8].copy_from_slice(&(n / 2 % KEYS).to_be_bytes());
    let secret = SecretKey::from_seed(&seed);
    let (client, ins) = (secret.address(), InstanceId([1; 16]));
    if n.is_multiple_of(2) {
        return Message::Attached { client, ins };
    }
    let seq = clock::unix_now();
    let label = |i: usize| format!("{}{i:02}", "n".repeat(55));
    let service = |i: usize| Service {
        name: format!("service{i}").parse().unwrap(),
        kind: ServiceKind::Http,
        tls: TlsMode::Pass,
        port: None,
    };
    let claims = Claims {
        iss: client,
        ins,
        seq,
        exp: UnixSeconds(seq.0 / 1000 + 3600),
        names: (0..16).map(|i| label(i).parse().unwrap()).collect(),
        relays: (1..=8).map(address).collect(),
        services: (0..12).map(service).collect(),
        acme: Vec::new(),
        txt: BTreeMap::new(),
    };
    Message::Presence { presence: claims.sign(&secret).unwrap().text().to_string() }
}

fn chain(relay: &FeedRelay) -> Directory {
    let now = clock::unix_now().seconds();
    let record = Relay {
        address: address(relay.number()),
        operator: "a hostile one".into(),
        host: None,
        control_port: relay.port(),
        ingress_port: 443,
        ipv4: Some(relay.ip()),
        ipv6: None,
        region: "lab".into(),
        capacity: u32::MAX,
        acme: None,
        status: RelayStatus::Active,
        heartbeat: Some(Heartbeat { at: now, load: 0 }),
        registered_at: now,
    };
    Directory {
        ledger: LedgerTime { sequence: 1, closed_at: now },
        registry_revision: 1,
        namespace_revision: 1,
        relays: [(record.address, Arc::new(record))].into(),
        names: Default::default(),
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

/// Bytes of memory this process holds.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Seconds of CPU that threads called `name` have used.
fn cpu(name: &str) -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let stats =
        threads.filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).ok());
    let of_name = stats.filter(|stat| stat.contains(&format!("({name})")));
    let ticks = of_name.map(|stat| {
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    });
    ticks.sum::<u64>() as f64 / 100.0
}

#[test]
fn a_million_keys_of_one_relay_cost_little() {
    tunnler_transport::tls::install_provider();
    let runtime = |name: &str| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name(name).enable_all().build().unwrap()
    };
    let (attackers, victims) = (runtime("attacker"), runtime("victim"));
    let relay =
        attackers.block_on(async { tokio::spawn(FeedRelay::start_flooding(1, flood)).await.unwrap() });
    let config = Config {
        terms: Terms {
            policy: AddressPolicy::AllowPrivate,
            ingress_port: 443,
            staleness: Duration::from_secs(86_400),
            gate: Gate::Open,
        },
        key: key(201),
        listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        workers: 1,
        rate: Rate::Unlimited,
        admin: None,
        http: None,
        certificate: None,
        dot: None,
        doh: None,
        probing: Probing::Off,
        state: None,
        zone_keys: None,
        chain: None,
        metrics: None,
    };
    let directory = watch::channel(Some(Arc::new(chain(&relay))));
    let server =
        victims.block_on(async { tokio::spawn(Server::bind(config, directory.1)).await.unwrap().unwrap() });
    let before = resident();
    relay.open_the_gates();

    // Every check that is free at first has to be spent before the lasting rate shows.
    let patience = Instant::now() + Duration::from_secs(60);
    let seconds = std::env::var("TUNNLER_FLOOD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    while server.snapshot().clients() < 2048 {
        assert!(Instant::now() < patience, "only {} clients", server.snapshot().clients());
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(seconds));
    let (used, start) = (cpu("victim"), Instant::now());
    std::thread::sleep(Duration::from_secs(seconds));
    let share = (cpu("victim") - used) / start.elapsed().as_secs_f64();
    let (clients, bytes) = (server.snapshot().clients(), resident().saturating_sub(before));
    println!(
        "{{\"part\":\"dns-hostile-feed\",\"clients\":{clients},\"bytes\":{bytes},\"cpu_percent\":{:.1}}}",
        share * 100.0
    );
    assert_eq!(clients, 2048);
    assert!(bytes <= MOST_BYTES, "{bytes} bytes");
    // What an unoptimised build spends says nothing.
    assert!(cfg!(debug_assertions) || share < MOST_CPU, "{share} of a CPU");
    victims.block_on(server.shutdown());
    drop((attackers, directory.0));
}
