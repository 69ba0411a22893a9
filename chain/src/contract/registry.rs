//! TunnelRegistry's types as they are on the ledger: mirrors of `contracts/tunnel-registry/src/types.rs`, proved against
//! them by a test. Shapes only; the rules readers apply are in `projection`.

use stellar_xdr::{ScAddress, ScVal};

use crate::deploy;
use crate::value::{Fields, FromValue, Malformed, bytes, optional, string, structure, variant_name, vector};
use crate::writer::RelayRegistration;

pub(crate) struct RelayEntry {
    pub(crate) operator: ScAddress,
    pub(crate) relay: ScAddress,
    pub(crate) record: RelayRecord,
    pub(crate) status: Status,
    pub(crate) registered_at: u64,
    pub(crate) unbonding_until: Option<u64>,
    pub(crate) delisted: Option<String>,
}

pub(crate) struct RelayRecord {
    pub(crate) host: Option<String>,
    pub(crate) control_port: u32,
    pub(crate) ingress_port: u32,
    pub(crate) ipv4: Option<[u8; 4]>,
    pub(crate) ipv6: Option<[u8; 16]>,
    pub(crate) region: String,
    pub(crate) capacity: u32,
    pub(crate) acme: Option<AcmeIdentity>,
}

pub(crate) struct AcmeIdentity {
    pub(crate) issuer: String,
    pub(crate) account: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Active,
    Draining,
}

pub(crate) struct Heartbeat {
    pub(crate) time: u64,
    pub(crate) load: u32,
}

/// The part of the configuration that readers need.
pub(crate) struct Config {
    pub(crate) heartbeat_ttl: u64,
}

impl FromValue for RelayEntry {
    fn from_value(value: &ScVal) -> Result<Self, Malformed> {
        let fields = Fields::of(value)?;
        Ok(Self {
            operator: fields.field("operator")?,
            relay: fields.field("relay")?,
            record: fields.field("record")?,
            status: fields.field("status")?,
            registered_at: fields.field("registered_at")?,
            unbonding_until: fields.field("unbonding_until")?,
            delisted: fields.field("delisted")?,
        })
    }
}

impl FromValue for RelayRecord {
    fn from_value(value: &ScVal) -> Result<Self, Malformed> {
        let fields = Fields::of(value)?;
        Ok(Self {
            host: fields.field("host")?,
            control_port: fields.field("control_port")?,
            ingress_port: fields.field("ingress_port")?,
            ipv4: fields.field("ipv4")?,
            ipv6: fields.field("ipv6")?,
            region: fields.field("region")?,
            capacity: fields.field("capacity")?,
            // A list of at most one.
            acme: fields.field::<Vec<AcmeIdentity>>("acme")?.into_iter().next(),
        })
    }
}

impl FromValue for AcmeIdentity {
    fn from_value(value: &ScVal) -> Result<Self, Malformed> {
        let fields = Fields::of(value)?;
        Ok(Self { issuer: fields.field("issuer")?, account: fields.field("account")? })
    }
}

impl FromValue for Status {
    fn from_value(value: &ScVal) -> Result<Self, Malformed> {
        match variant_name(value) {
            Some(b"Active") => Ok(Self::Active),
            Some(b"Draining") => Ok(Self::Draining),
            _ => Err(Malformed("status")),
        }
    }
}

impl FromValue for Heartbeat {
    fn from_value(value: &ScVal) -> Result<Self, Malformed> {
        let fields = Fields::of(value)?;
        Ok(Self { time: fields.field("time")?, load: fields.field("load")? })
    }
}

impl FromValue for Config {
    fn from_value(value: &ScVal) -> Result<Self, Malformed> {
        Ok(Self { heartbeat_ttl: Fields::of(value)?.field("heartbeat_ttl")? })
    }
}

/// `RelayRecord` as an argument.
pub(crate) fn record_value(record: &RelayRegistration) -> ScVal {
    let text = |text: &Option<String>| optional(text.as_deref().map(string));
    structure([
        ("host", optional(record.host.as_ref().map(|host| string(host.as_str())))),
        ("control_port", ScVal::U32(record.control_port.into())),
        ("ingress_port", ScVal::U32(record.ingress_port.into())),
        ("ipv4", optional(record.ipv4.map(|address| bytes(&address.octets())))),
        ("ipv6", optional(record.ipv6.map(|address| bytes(&address.octets())))),
        ("region", string(&record.region)),
        ("capacity", ScVal::U32(record.capacity)),
        (
            "acme",
            vector(record.acme.iter().map(|acme| {
                structure([("issuer", string(&acme.issuer)), ("account", string(&acme.account))])
            })),
        ),
        ("terms", text(&record.terms)),
    ])
}

/// `Config` as an argument.
pub(crate) fn config_value(config: &deploy::RegistryConfig, token: ScAddress) -> ScVal {
    structure([
        ("token", ScVal::Address(token)),
        ("min_stake", ScVal::from(config.min_stake)),
        ("unbonding", ScVal::U64(config.unbonding.as_secs())),
        ("heartbeat_ttl", ScVal::U64(config.heartbeat_ttl.as_secs())),
        ("per_operator", ScVal::U32(config.per_operator)),
    ])
}
