//! TunnelNamespace's types as they are on the ledger: mirrors of `contracts/tunnel-namespace/src/types.rs`, proved
//! against them by a test. Shapes only; the rules readers apply are in `projection`.

use stellar_xdr::{ScAddress, ScVal};
use tunnler_protocol::directory::AccountHosts;

use crate::deploy;
use crate::value::{
    Fields, FromValue, Malformed, bytes, optional, string, structure, variant, variant_name, vector,
};

pub(crate) struct NameRecord {
    pub(crate) label: String,
    pub(crate) owner: ScAddress,
    pub(crate) target: Option<ScAddress>,
    pub(crate) relays: Vec<ScAddress>,
    pub(crate) registered_at: u64,
    pub(crate) expires_at: u64,
    pub(crate) grace: u64,
    pub(crate) serial: u64,
    pub(crate) domains: u32,
    pub(crate) suspended: Option<String>,
}

pub(crate) struct LabelEntry {
    pub(crate) slot: Option<u32>,
}

pub(crate) struct DomainsEntry {
    pub(crate) serial: u64,
    pub(crate) domains: Vec<String>,
}

/// The part of the terms that readers need.
pub(crate) struct Terms {
    pub(crate) grace: u64,
}

pub(crate) struct Publication {
    pub(crate) address_hosts: AccountHosts,
    pub(crate) acme_issuers: Vec<String>,
    pub(crate) servers: Vec<ZoneServer>,
}

pub(crate) struct ZoneServer {
    pub(crate) host: String,
    pub(crate) ipv4: Option<[u8; 4]>,
    pub(crate) ipv6: Option<[u8; 16]>,
    pub(crate) key: [u8; 32],
}

impl FromValue for NameRecord {
    fn from_value(value: &ScVal) -> Result<Self, Malformed> {
        let fields = Fields::of(value)?;
        Ok(Self {
            label: fields.field("label")?,
            owner: fields.field("owner")?,
            target: fields.field("target")?,
            relays: fields.field("relays")?,
            registered_at: fields.field("registered_at")?,
            expires_at: fields.field("expires_at")?,
            grace: fields.field("grace")?,
            serial: fields.field("serial")?,
            domains: fields.field("domains")?,
            suspended: fields.field("suspended")?,
        })
    }
}

impl FromValue for LabelEntry {
    fn from_value(value: &ScVal) -> Result<Self, Malformed> {
        Ok(Self { slot: Fields::of(value)?.field("slot")? })
    }
}

impl FromValue for DomainsEntry {
    fn from_value(value: &ScVal) -> Result<Self, Malformed> {
        let fields = Fields::of(value)?;
        Ok(Self { serial: fields.field("serial")?, domains: fields.field("domains")? })
    }
}

impl FromValue for Terms {
    fn from_value(value: &ScVal) -> Result<Self, Malformed> {
        Ok(Self { grace: Fields::of(value)?.field("grace")? })
    }
}

impl FromValue for Publication {
    fn from_value(value: &ScVal) -> Result<Self, Malformed> {
        let fields = Fields::of(value)?;
        Ok(Self {
            address_hosts: fields.field("address_hosts")?,
            acme_issuers: fields.field("acme_issuers")?,
            servers: fields.field("servers")?,
        })
    }
}

impl FromValue for ZoneServer {
    fn from_value(value: &ScVal) -> Result<Self, Malformed> {
        let fields = Fields::of(value)?;
        Ok(Self {
            host: fields.field("host")?,
            ipv4: fields.field("ipv4")?,
            ipv6: fields.field("ipv6")?,
            key: fields.field("key")?,
        })
    }
}

impl FromValue for AccountHosts {
    fn from_value(value: &ScVal) -> Result<Self, Malformed> {
        match variant_name(value) {
            Some(b"Off") => Ok(Self::Off),
            Some(b"Owners") => Ok(Self::Owners),
            Some(b"All") => Ok(Self::All),
            _ => Err(Malformed("address_hosts")),
        }
    }
}

/// `Config` as an argument.
pub(crate) fn config_value(config: &deploy::NamespaceConfig, token: ScAddress) -> ScVal {
    let amount = |amount: i128| ScVal::from(amount);
    let [three, four, longer] = config.fees;
    let policy = match config.account_hosts {
        AccountHosts::Off => "Off",
        AccountHosts::Owners => "Owners",
        AccountHosts::All => "All",
    };
    structure([
        ("token", ScVal::Address(token)),
        ("fees", structure([("three", amount(three)), ("four", amount(four)), ("longer", amount(longer))])),
        ("grace", ScVal::U64(config.grace.as_secs())),
        ("commit_reveal", ScVal::Bool(config.commit_reveal)),
        ("per_owner", ScVal::U32(config.per_owner)),
        ("address_hosts", variant(policy, [])),
        ("acme_issuers", vector(config.issuers.iter().map(|issuer| string(issuer)))),
        ("servers", vector(config.servers.iter().map(server_value))),
    ])
}

fn server_value(server: &deploy::Server) -> ScVal {
    structure([
        ("host", string(server.host.as_str())),
        ("ipv4", optional(server.ipv4.map(|address| bytes(&address.octets())))),
        ("ipv6", optional(server.ipv6.map(|address| bytes(&address.octets())))),
        ("key", bytes(server.key.as_bytes())),
    ])
}
