//! A namespace with its admin and a few keys.

use soroban_sdk::xdr::ToXdr;
use soroban_sdk::{Address, Bytes, BytesN, Env, String, Vec, vec};
use tunnel_namespace::{
    AddressHosts, Config, Fees, NameRecord, TunnelNamespace, TunnelNamespaceClient, ZoneServer,
};
use tunnel_testbed::{Build, DAY, Key, Testbed, wasm};

/// The scene's zone.
pub const ZONE: &str = "tunnel.example";
/// Yearly fees in the scene, for labels of 3, 4 and more characters.
pub const FEES: [i128; 3] = [900, 400, 100];
/// Grace period in the scene.
pub const GRACE: u64 = 30 * DAY;
/// Names per owner in the scene.
pub const PER_OWNER: u32 = 5;
/// Seconds of a year.
pub const YEAR: u64 = 365 * DAY;

/// A namespace, and who deals with it.
pub struct Scene {
    pub bed: Testbed,
    pub names: TunnelNamespaceClient<'static>,
    pub admin: Key,
    pub owner: Key,
    pub target: Key,
    pub stranger: Key,
}

impl From<Build> for Scene {
    fn from(build: Build) -> Self {
        let bed = Testbed::default();
        let [admin, owner, target, stranger] = [1, 2, 3, 4].map(|seed| bed.account(seed));
        let args = (admin.address.clone(), text(&bed.env, ZONE), config(&bed.env, &bed.token));
        let id = match build {
            Build::Native => bed.env.register(TunnelNamespace, args),
            Build::Wasm => bed.env.register(wasm("tunnel_namespace.wasm").as_slice(), args),
        };
        let names = TunnelNamespaceClient::new(&bed.env, &id);
        Self { bed, names, admin, owner, target, stranger }
    }
}

impl Scene {
    /// The same scene, in which everybody agrees to everything: for tests that are not about authority.
    pub fn agreed(self) -> Self {
        self.bed.env.mock_all_auths();
        self
    }

    /// Asks for commitments from now on.
    pub fn committed(self) -> Self {
        self.names.set_config(&Config { commit_reveal: true, ..self.names.config() });
        self
    }

    pub fn env(&self) -> &Env {
        &self.bed.env
    }

    pub fn text(&self, text: &str) -> String {
        String::from_str(self.env(), text)
    }

    /// The salt of all commitments in the scene.
    pub fn salt(&self) -> BytesN<32> {
        BytesN::from_array(self.env(), &[9; 32])
    }

    /// The documented hash of a commitment, made here a second time.
    pub fn hash(&self, contract: &Address, name: &String, owner: &Address, target: &Address) -> BytesN<32> {
        let env = self.env();
        let mut bytes = Bytes::from_slice(env, b"tunnler/v1/commit\0");
        bytes.append(&contract.clone().to_xdr(env));
        bytes.append(&name.clone().to_xdr(env));
        bytes.append(&owner.clone().to_xdr(env));
        bytes.append(&target.clone().to_xdr(env));
        bytes.extend_from_array(&self.salt().to_array());
        env.crypto().sha256(&bytes).to_bytes()
    }

    /// Registers a name of the scene's owner for a year, pointing to the scene's target.
    pub fn register(&self, name: &str) -> String {
        self.register_for(&self.owner.address, name)
    }

    /// Registers a name for a year, pointing to the scene's target.
    pub fn register_for(&self, owner: &Address, name: &str) -> String {
        let name = self.text(name);
        self.names.register(owner, &name, &self.target.address, &1, &None);
        name
    }
}

pub fn config(env: &Env, token: &Address) -> Config {
    let [three, four, longer] = FEES;
    Config {
        token: token.clone(),
        fees: Fees { three, four, longer },
        grace: GRACE,
        commit_reveal: false,
        per_owner: PER_OWNER,
        address_hosts: AddressHosts::Owners,
        acme_issuers: vec![env, text(env, "letsencrypt.org")],
        servers: vec![env, server(env, 1), server(env, 2)],
    }
}

pub fn server(env: &Env, number: u8) -> ZoneServer {
    ZoneServer {
        host: text(env, &format!("dns{number}.example")),
        ipv4: Some(BytesN::from_array(env, &[203, 0, 113, number])),
        ipv6: None,
        key: BytesN::from_array(env, &[number; 32]),
    }
}

pub fn text(env: &Env, text: &str) -> String {
    String::from_str(env, text)
}

/// Labels of a page, for comparisons.
pub fn labels(records: &Vec<NameRecord>) -> std::vec::Vec<std::string::String> {
    records.iter().map(|record| record.label.to_string()).collect()
}
