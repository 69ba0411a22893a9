//! What the registry keeps and hands out: the shapes that readers decode.
//!
//! Compatible growth is by `Option` fields only (a missing one reads as `None`); names, order of enum variants and
//! types of existing fields never change. This file decides nothing: bounds live in `record.rs`.

use soroban_sdk::{Address, BytesN, String, Vec, contracttype};

/// What an operator publishes about a relay. Bounds: see `record::check`.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RelayRecord {
    /// The relay's own DNS name; `None` means `ADDRESS.relay.ZONE`, so that a relay needs no domain. At
    /// most 40 characters.
    pub host: Option<String>,
    /// TCP port for clients, 1..=65535.
    pub control_port: u32,
    /// TCP port for visitors, 1..=65535.
    pub ingress_port: u32,
    /// Public IPv4 address, network order.
    pub ipv4: Option<BytesN<4>>,
    /// Public IPv6 address, network order.
    pub ipv6: Option<BytesN<16>>,
    /// Coarse place, for nearness and diversity: 1..=16 of `a-z 0-9 -`.
    pub region: String,
    /// Clients the relay is willing to carry, 1..=1,000,000.
    pub capacity: u32,
    /// The ACME account that may get the relay host's certificate, or none; ends up in CAA (RFC 8657). A list of at most
    /// one, because the SDK's tests cannot convert an optional record within a record.
    pub acme: Vec<AcmeIdentity>,
    /// `https://` page with the operator's terms, at most 32 characters.
    pub terms: Option<String>,
}

/// An ACME account: CAA issuer domain and account URI (RFC 8659, RFC 8657).
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AcmeIdentity {
    /// Issuer domain name, 1..=24 characters.
    pub issuer: String,
    /// Account URI, `https://`, at most 64 characters.
    pub account: String,
}

/// What the relay says about itself.
#[contracttype]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RelayStatus {
    /// Takes clients.
    Active,
    /// Serves the clients it has and takes no new ones.
    Draining,
}

/// A registered relay, as stored in its slot.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RelayEntry {
    /// Who pays, gets the stake back and may take the relay away; may be a contract.
    pub operator: Address,
    /// The relay's key; always an Ed25519 account.
    pub relay: Address,
    /// What is published about it.
    pub record: RelayRecord,
    /// Refundable stake in the registry's token.
    pub stake: i128,
    /// The relay's own word.
    pub status: RelayStatus,
    /// Unix seconds; counts as the first heartbeat.
    pub registered_at: u64,
    /// Seconds from `deregister` to `withdraw`, fixed here at registration.
    pub unbonding: u64,
    /// Unix seconds from which the stake can be withdrawn; set by `deregister`.
    pub unbonding_until: Option<u64>,
    /// Why the admin took the relay off the list; set means delisted.
    pub delisted: Option<String>,
}

/// The last sign of life of a relay, in temporary storage.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Heartbeat {
    /// Unix seconds.
    pub time: u64,
    /// Clients attached then.
    pub load: u32,
}

/// The rules that apply to new registrations.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The token of all stakes; fixed at construction.
    pub token: Address,
    /// Least stake of a new relay.
    pub min_stake: i128,
    /// Seconds from `deregister` to `withdraw` for new relays, at most 30 days.
    pub unbonding: u64,
    /// Seconds after which a relay without heartbeat counts as inactive to readers, one hour to 7 days.
    pub heartbeat_ttl: u64,
    /// Relays one operator may have, 1..=1,000.
    pub per_operator: u32,
}

/// Relays of one region out of a window of slots.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RegionPage {
    /// Those of the window that are in the region.
    pub relays: Vec<RelayEntry>,
    /// Where the next window starts; `None` at the end.
    pub next: Option<u32>,
}

/// Storage keys. Durability is given per key.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DataKey {
    /// Instance: [`Config`].
    Config,
    /// Instance: `u32`, number of occupied slots.
    Count,
    /// Persistent: [`RelayEntry`]; slots `0..Count` are all occupied.
    Slot(u32),
    /// Persistent: `u32`, the slot of a relay key.
    Relay(Address),
    /// Persistent: `u32`, number of relays of an operator.
    Operator(Address),
    /// Temporary: [`Heartbeat`] of a relay key.
    Heartbeat(Address),
}
