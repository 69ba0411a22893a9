//! A registry with its admin and a few keys.

use soroban_sdk::{Address, Bytes, BytesN, Env, String, Vec, vec};
use tunnel_registry::{AcmeIdentity, Config, RelayRecord, TunnelRegistry, TunnelRegistryClient};
use tunnel_testbed::{Build, DAY, Key, Testbed, wasm};

/// Least stake in the scene.
pub const STAKE: i128 = 1_000;
/// Relays per operator in the scene.
pub const PER_OPERATOR: u32 = 3;
/// Unbonding time in the scene.
pub const UNBONDING: u64 = 14 * DAY;

/// A registry, and who deals with it.
pub struct Scene {
    pub bed: Testbed,
    pub registry: TunnelRegistryClient<'static>,
    pub admin: Key,
    pub operator: Key,
    pub relay: Key,
    pub stranger: Key,
}

impl From<Build> for Scene {
    fn from(build: Build) -> Self {
        let bed = Testbed::default();
        let [admin, operator, relay, stranger] = [1, 2, 3, 4].map(|seed| bed.account(seed));
        let args = (admin.address.clone(), config(&bed.token));
        let id = match build {
            Build::Native => bed.env.register(TunnelRegistry, args),
            Build::Wasm => bed.env.register(wasm("tunnel_registry.wasm").as_slice(), args),
        };
        let registry = TunnelRegistryClient::new(&bed.env, &id);
        Self { bed, registry, admin, operator, relay, stranger }
    }
}

impl Scene {
    /// The same scene, in which everybody agrees to everything: for tests that are not about authority.
    pub fn agreed(self) -> Self {
        self.bed.env.mock_all_auths();
        self
    }

    pub fn env(&self) -> &Env {
        &self.bed.env
    }

    /// Registers the scene's relay.
    pub fn register(&self) {
        self.registry.register(&self.operator.address, &self.relay.address, &record(self.env()), &STAKE);
    }

    /// Registers as many more relays, each of its own operator, and tells their keys.
    pub fn register_more(&self, relays: u8) -> std::vec::Vec<Address> {
        let register = |seed| {
            let relay = self.bed.account(seed).address;
            self.registry.register(&relay, &relay, &record(self.env()), &STAKE);
            relay
        };
        (100..100 + relays).map(register).collect()
    }

    /// All relays, in the order of their slots.
    pub fn listed(&self) -> std::vec::Vec<Address> {
        let mut listed = std::vec::Vec::new();
        while (listed.len() as u32) < self.registry.count() {
            let page = self.registry.relays(&(listed.len() as u32), &20);
            listed.extend(page.iter().map(|entry| entry.relay));
        }
        listed
    }
}

pub fn config(token: &Address) -> Config {
    Config {
        token: token.clone(),
        min_stake: STAKE,
        unbonding: UNBONDING,
        heartbeat_ttl: DAY,
        per_operator: PER_OPERATOR,
    }
}

/// A record with everything in it.
pub fn record(env: &Env) -> RelayRecord {
    RelayRecord {
        host: Some(text(env, "eu1.example.org")),
        control_port: 443,
        ingress_port: 443,
        ipv4: Some(BytesN::from_array(env, &[203, 0, 113, 7])),
        ipv6: Some(BytesN::from_array(env, &[0x20; 16])),
        region: text(env, "eu-central"),
        capacity: 500,
        acme: vec![env, acme(env)],
        terms: Some(text(env, "https://eu1.example.org/tos")),
    }
}

/// The largest record that is accepted.
pub fn largest_record(env: &Env) -> RelayRecord {
    let uri = |len: usize| text(env, &format!("https://{}", "a".repeat(len - 8)));
    let host = ["a".repeat(20), "b".repeat(19)].join(".");
    let issuer = ["i".repeat(12), "j".repeat(11)].join(".");
    let identity = AcmeIdentity { issuer: text(env, &issuer), account: uri(64) };
    RelayRecord {
        host: Some(text(env, &host)),
        region: text(env, &"r".repeat(16)),
        acme: vec![env, identity],
        terms: Some(uri(32)),
        ..record(env)
    }
}

pub fn acme(env: &Env) -> AcmeIdentity {
    AcmeIdentity {
        issuer: text(env, "letsencrypt.org"),
        account: text(env, "https://acme-v02.api.letsencrypt.org/acme/acct/1"),
    }
}

pub fn text(env: &Env, text: &str) -> String {
    String::from_str(env, text)
}

/// The hash under which the ledger knows a wasm, which is uploaded.
pub fn upload(env: &Env, code: &[u8]) -> BytesN<32> {
    env.deployer().upload_contract_wasm(Bytes::from_slice(env, code))
}

/// Slots of a page, for comparisons.
pub fn keys(entries: &Vec<tunnel_registry::RelayEntry>) -> std::vec::Vec<Address> {
    entries.iter().map(|entry| entry.relay).collect()
}
