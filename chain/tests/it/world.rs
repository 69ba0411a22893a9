//! The world of these tests: a localnet in this process with both contracts deployed. Shared by the tests of this
//! directory; never itself a test.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tunnler_chain::deploy::{
    NamespaceConfig, RegistryConfig, Server, deploy_namespace, deploy_registry, fund,
};
use tunnler_chain::{Chain, ChainConfig, FollowedNames, RelayRegistration, Writer};
use tunnler_localnet::Localnet;
use tunnler_protocol::SecretKey;
use tunnler_protocol::directory::{AccountHosts, Directory};
use tunnler_protocol::name::Label;
use tunnler_protocol::network::{AcmeConfig, Network};

/// Stroops.
pub const XLM: i128 = 10_000_000;
/// Poll interval of the readers here.
pub const POLL: Duration = Duration::from_millis(200);
/// Least stake of a relay.
pub const STAKE: i128 = 10 * XLM;

/// A network with contracts.
pub struct World {
    pub net: Localnet,
    pub network: Network,
    pub admin: SecretKey,
}

impl World {
    /// One endpoint.
    pub async fn new() -> Self {
        Self::with_endpoints(1, 1).await
    }

    /// Several endpoints of one ledger.
    pub async fn with_endpoints(count: usize, quorum: usize) -> Self {
        // Both providers are compiled in; the second installation in this process is refused, rightly.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let net = Localnet::builder().listen(vec![any; count]).start().await.expect("localnet starts");
        Self::on(net, quorum).await
    }

    /// One endpoint, and ledgers that close with transactions and on request only.
    pub async fn without_interval() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let net = Localnet::builder().no_ledger_interval().start().await.expect("localnet starts");
        Self::on(net, 1).await
    }

    async fn on(net: Localnet, quorum: usize) -> Self {
        let mut network = Network {
            name: "test".into(),
            passphrase: net.passphrase().to_owned(),
            rpc: net.urls(),
            quorum,
            friendbot: Some(net.friendbot_url()),
            registry: String::new(),
            namespace: String::new(),
            ingress_port: 443,
            dns_port: 53,
            allow_private_addresses: true,
            acme: AcmeConfig {
                directory: "https://localhost/dir".into(),
                issuer: "pebble.test".into(),
                root: None,
            },
        };
        let admin = key(1);
        fund(&net.friendbot_url(), &admin.address()).await.expect("funded");
        let writer = Writer::new(network.clone(), admin.clone()).expect("writer");
        let registry = RegistryConfig {
            min_stake: STAKE,
            unbonding: Duration::from_secs(3600),
            heartbeat_ttl: Duration::from_secs(86_400),
            per_operator: 1000,
        };
        network.registry =
            deploy_registry(&writer, &wasm("tunnel_registry"), &registry).await.expect("registry deploys");
        let namespace = NamespaceConfig {
            zone: "tunnler.test".parse().expect("a zone"),
            fees: [3 * XLM, 2 * XLM, XLM],
            grace: Duration::from_secs(86_400),
            commit_reveal: false,
            per_owner: 64,
            account_hosts: AccountHosts::Owners,
            issuers: vec!["pebble.test".into()],
            servers: vec![Server {
                host: "ns1.tunnler.test".parse().expect("a host"),
                ipv4: Some([127, 0, 0, 53].into()),
                ipv6: None,
                key: key(200).address(),
            }],
        };
        network.namespace = deploy_namespace(&writer, &wasm("tunnel_namespace"), &namespace)
            .await
            .expect("namespace deploys");
        Self { net, network, admin }
    }

    /// A funded account.
    pub async fn account(&self, seed: u8) -> SecretKey {
        let key = key(seed);
        self.net.fund(*key.address().as_bytes()).await.expect("funded");
        key
    }

    pub fn writer(&self, key: &SecretKey) -> Writer {
        Writer::new(self.network.clone(), key.clone()).expect("writer")
    }

    /// A reader of this network that polls fast.
    pub fn reader(&self, names: FollowedNames) -> Chain {
        self.reader_kept(names, None)
    }

    /// A reader of another view of this network.
    pub fn reader_of(&self, network: Network, names: FollowedNames) -> Chain {
        Chain::start(ChainConfig { poll: POLL, ..ChainConfig::new(network, names) }).expect("reader starts")
    }

    pub fn reader_kept(&self, names: FollowedNames, state: Option<PathBuf>) -> Chain {
        let config = ChainConfig { state, poll: POLL, ..ChainConfig::new(self.network.clone(), names) };
        Chain::start(config).expect("reader starts")
    }
}

/// A key of these tests.
pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

pub fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

/// A relay's record on a loopback address.
pub fn record(last: u8) -> RelayRegistration {
    RelayRegistration {
        host: None,
        control_port: 7000,
        ingress_port: 443,
        ipv4: Some([127, 0, 0, last].into()),
        ipv6: None,
        region: "test".into(),
        capacity: 10,
        acme: None,
        terms: None,
    }
}

/// Waits until the reader's directory is as wanted.
pub async fn wait_for(chain: &Chain, what: &str, wanted: impl Fn(&Directory) -> bool) -> Duration {
    let started = Instant::now();
    let mut directory = chain.handle().subscribe();
    let found = directory.wait_for(|directory| directory.as_deref().is_some_and(&wanted));
    if tokio::time::timeout(Duration::from_secs(20), found).await.is_err() {
        panic!("{what} was not seen: {:#?}\n{:#?}", chain.handle().status(), chain.handle().directory());
    }
    started.elapsed()
}

pub fn wasm(name: &str) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/contracts/");
    let target = std::env::var_os("CARGO_TARGET_DIR");
    let path = target.map_or_else(|| path.into(), |target| PathBuf::from(target).join("contracts"));
    let path = path.join(format!("{name}.wasm"));
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; run scripts/build-contracts", path.display()))
}
