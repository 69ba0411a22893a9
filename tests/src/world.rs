//! A whole Tunnler network on loopback: ledger, contracts, certificate authority, DNS, relays, clients.
//!
//! Every program is the real one, in a process of its own, told things only by its command line and environment.

pub mod programs;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tunnler_chain::deploy::{self, NamespaceConfig, RegistryConfig, Server};
use tunnler_chain::{Writer, key};
use tunnler_protocol::directory::AccountHosts;
use tunnler_protocol::network::{AcmeConfig, Network};
use tunnler_protocol::{Label, SecretKey, Zone};

use crate::pebble::{self, Pebble, Reach};
use crate::ports;
use crate::process::source_root;
use crate::visitor::Visitor;
use programs::{Client, DnsServer, Localnet, RelayNode};

/// One stroop is 10⁻⁷ XLM.
const XLM: i128 = 10_000_000;

/// The zone of every test network.
pub const ZONE: &str = "tun.test";

/// How a network is laid out.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Number of relays, on 127.0.2.1 and following.
    pub relays: u8,
    /// Number of DNS servers, on 127.0.1.1 and following.
    pub dns: u8,
    /// For whom `ADDRESS.ZONE` is answered.
    pub account_hosts: AccountHosts,
    /// How relays and clients reach the certificate authority.
    pub ca: Reach,
}

impl Default for Layout {
    fn default() -> Self {
        Self { relays: 2, dns: 1, account_hosts: AccountHosts::All, ca: Reach::Direct }
    }
}

/// A running network. Dropping it stops every process.
#[derive(Debug)]
pub struct World {
    dir: PathBuf,
    network: Network,
    network_file: PathBuf,
    /// The ledger.
    pub localnet: Localnet,
    /// The certificate authority.
    pub pebble: Pebble,
    /// The zone's servers.
    pub dns: Vec<DnsServer>,
    /// The relays, by index.
    pub relays: Vec<RelayNode>,
    admin: SecretKey,
    keys: u8,
}

impl World {
    /// Starts ledger, contracts, CA, DNS and relays below `dir`; `progress` hears of each step.
    pub async fn start(dir: &Path, layout: &Layout, mut progress: impl FnMut(&str)) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let dir = dir.canonicalize()?;
        let relay_ips: Vec<IpAddr> =
            (1..=layout.relays).map(|i| Ipv4Addr::new(127, 0, 2, i).into()).collect();
        let dns_ips: Vec<Ipv4Addr> = (1..=layout.dns).map(|i| Ipv4Addr::new(127, 0, 1, i)).collect();
        let ingress_port = ports::free(&relay_ips)?;
        let dns_port = ports::free(&dns_ips.iter().map(|ip| IpAddr::V4(*ip)).collect::<Vec<_>>())?;

        progress("starting a local ledger");
        let localnet = Localnet::start(&dir).await?;
        let dns_address = SocketAddr::new(dns_ips[0].into(), dns_port);
        let pebble = Pebble::start(&dir, ingress_port, dns_address, layout.ca).await?;

        progress("deploying the two contracts");
        let admin = key_of(b'A', 0);
        let dns_keys: Vec<SecretKey> = (0..layout.dns).map(|i| key_of(b'D', i)).collect();
        let mut network = Network {
            name: "local".into(),
            passphrase: localnet.passphrase().into(),
            rpc: vec![localnet.url()],
            quorum: 1,
            friendbot: Some(localnet.friendbot()),
            // Replaced as soon as the contracts have ids.
            registry: String::new(),
            namespace: String::new(),
            ingress_port,
            dns_port,
            allow_private_addresses: true,
            acme: AcmeConfig {
                directory: pebble.directory().into(),
                issuer: pebble::ISSUER.into(),
                root: Some(pebble.api_root().to_string_lossy().into_owned()),
            },
        };
        deploy::fund(&localnet.friendbot(), &admin.address()).await?;
        let writer = Writer::new(network.clone(), admin.clone())?;
        let zone: Zone = ZONE.parse()?;
        let servers = dns_ips.iter().zip(&dns_keys).enumerate().map(|(i, (ip, key))| Server {
            host: format!("ns{}.{ZONE}", i + 1).parse().expect("a host name"),
            ipv4: Some(*ip),
            ipv6: None,
            key: key.address(),
        });
        let namespace = NamespaceConfig {
            zone,
            fees: [100 * XLM, 10 * XLM, XLM],
            grace: Duration::from_secs(30 * 86_400),
            commit_reveal: false,
            per_owner: 16,
            account_hosts: layout.account_hosts,
            issuers: vec![pebble::ISSUER.into()],
            servers: servers.collect(),
        };
        let registry = RegistryConfig {
            min_stake: 100 * XLM,
            unbonding: Duration::from_secs(7 * 86_400),
            heartbeat_ttl: Duration::from_secs(86_400),
            per_operator: 10,
        };
        network.registry = deploy::deploy_registry(&writer, &contract("tunnel_registry")?, &registry).await?;
        network.namespace =
            deploy::deploy_namespace(&writer, &contract("tunnel_namespace")?, &namespace).await?;
        let network_file = dir.join("network.toml");
        std::fs::write(&network_file, network.to_toml())?;

        progress("starting the zone's DNS");
        let mut world = Self {
            dir,
            network,
            network_file,
            localnet,
            pebble,
            dns: Vec::new(),
            relays: Vec::new(),
            admin,
            keys: 0,
        };
        for (i, (ip, key)) in dns_ips.iter().zip(dns_keys).enumerate() {
            let name = format!("dns{}", i + 1);
            let server =
                DnsServer::start(&world, &name, SocketAddr::new((*ip).into(), dns_port), &key).await?;
            world.dns.push(server);
        }
        for (i, ip) in relay_ips.iter().enumerate() {
            progress(&format!("relay {} registers itself on chain", i + 1));
            let ingress = SocketAddr::new(*ip, ingress_port);
            world.add_relay(&format!("relay{}", i + 1), ingress, ingress).await?;
        }
        progress("relays get the certificates of their own hosts");
        world.relays_have_certificates().await?;
        Ok(world)
    }

    /// Waits until a stranger can verify every relay's own host.
    async fn relays_have_certificates(&self) -> Result<()> {
        let visitor = self.visitor().await?;
        for relay in &self.relays {
            let host = format!("{}.relay.{ZONE}", relay.relay().label());
            Self::wait_for("the certificate of a relay's own host", Duration::from_secs(60), || async {
                visitor.get_once(&host, "/health").await.is_ok()
            })
            .await?;
        }
        Ok(())
    }

    /// Where logs and state lie.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The descriptor.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The descriptor's file.
    pub fn network_file(&self) -> &Path {
        &self.network_file
    }

    /// The key that deployed the contracts.
    pub fn admin(&self) -> &SecretKey {
        &self.admin
    }

    /// A new key with 10,000 test XLM, in a private file `NAME.key`.
    pub async fn funded_key(&mut self, name: &str) -> Result<(SecretKey, PathBuf)> {
        self.keys += 1;
        let key = key_of(b'K', self.keys);
        deploy::fund(&self.localnet.friendbot(), &key.address()).await?;
        let path = self.dir.join(format!("{name}.key"));
        key::create(&path, &key)?;
        Ok((key, path))
    }

    /// Registers `label` for `key` by the command line, as a publisher would.
    pub async fn register_name(&self, key: &Path, label: &str) -> Result<()> {
        label.parse::<Label>()?;
        programs::tunnler_ok(self, key, &["name", "register", label, "--yes"]).await.map(drop)
    }

    /// Publishes `target` under `names` with the client program and waits until it says that it is up.
    pub async fn publish(&self, name: &str, key: &Path, target: &str, label: &str) -> Result<Client> {
        Client::start(self, name, key, label, ("http", &[target])).await
    }

    /// The same with another command of the client program, such as `tcp`, and its arguments.
    pub async fn publish_with(
        &self,
        name: &str,
        key: &Path,
        label: &str,
        service: &str,
        arguments: &[&str],
    ) -> Result<Client> {
        Client::start(self, name, key, label, (service, arguments)).await
    }

    /// Starts one more relay at `ingress`, which everybody is told to reach at `public`.
    pub async fn add_relay(&mut self, name: &str, ingress: SocketAddr, public: SocketAddr) -> Result<()> {
        let key = self.funded_key(name).await?;
        let relay = RelayNode::start(self, name, ingress, public, key).await?;
        self.relays.push(relay);
        Ok(())
    }

    /// A visitor who trusts the CA's issuing root.
    pub async fn visitor(&self) -> Result<Visitor> {
        let roots = self.pebble.issuing_root().await?;
        Visitor::new(self.dns[0].address(), self.network.ingress_port, &roots)
    }

    /// Polls until `done` says yes.
    pub async fn wait_for<F>(what: &str, deadline: Duration, mut done: impl FnMut() -> F) -> Result<Duration>
    where
        F: Future<Output = bool>,
    {
        let started = Instant::now();
        while !done().await {
            ensure!(started.elapsed() < deadline, "{what} not within {deadline:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(started.elapsed())
    }
}

/// A key that is the same in every run: test networks are thrown away.
fn key_of(kind: u8, index: u8) -> SecretKey {
    let mut seed = [kind; 32];
    seed[31] = index;
    SecretKey::from_seed(&seed)
}

/// The wasm of a contract, as `scripts/build-contracts` leaves it.
pub fn contract(name: &str) -> Result<Vec<u8>> {
    let path = contract_path(name);
    std::fs::read(&path).with_context(|| format!("{}: run scripts/build-contracts first", path.display()))
}

/// Where `scripts/build-contracts` leaves the wasm of a contract.
pub fn contract_path(name: &str) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| source_root().join("target"), PathBuf::from);
    target.join(format!("contracts/{name}.wasm"))
}
