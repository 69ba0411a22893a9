//! What the namespace keeps and hands out: the shapes that readers decode.
//!
//! Compatible growth is by `Option` fields only (a missing one reads as `None`); names, order of enum variants and
//! types of existing fields never change. This file decides nothing.

use soroban_sdk::{Address, BytesN, String, Vec, contracttype};

/// A name, as stored in its slot. It resolves while `now < expires_at`, unless suspended; from then to
/// `expires_at + grace` nobody else can take it; after that anybody can.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NameRecord {
    /// The label below the zone.
    pub label: String,
    /// Who owns it (after lapse or release: who owned it last); may be a contract.
    pub owner: Address,
    /// The client key it points to; always an Ed25519 account.
    pub target: Option<Address>,
    /// If not empty, only presences on these relays count. At most 8.
    pub relays: Vec<Address>,
    /// Unix seconds.
    pub registered_at: u64,
    /// Unix seconds from which it no longer resolves.
    pub expires_at: u64,
    /// Seconds after `expires_at` in which only renewal and release are possible, fixed at registration.
    pub grace: u64,
    /// Changes whenever the name starts clean (registration, transfer): what was bound to an older serial is dead.
    pub serial: u64,
    /// Custom domains mapped to it (see [`DataKey::Domains`]).
    pub domains: u32,
    /// Why the admin suspended it; set means suspended.
    pub suspended: Option<String>,
}

/// Whether a label can be registered, and where its record is.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LabelEntry {
    /// The slot of its record, once it has been registered.
    pub slot: Option<u32>,
    /// Set aside by the admin.
    pub reserved: bool,
}

/// The name that a target chose as its first; valid while the record has the same serial and target and is live.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PrimaryEntry {
    /// Slot of the name.
    pub slot: u32,
    /// Serial of the name when it was chosen.
    pub serial: u64,
}

/// Custom domains of one name; valid while the record has the same serial. Bounded: at most 4 of 96 characters.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DomainsEntry {
    /// Serial of the name when the first of them was mapped.
    pub serial: u64,
    /// Lower-case DNS names without trailing dot.
    pub domains: Vec<String>,
}

/// For which keys the zone answers `ADDRESS.ZONE`.
#[contracttype]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AddressHosts {
    /// For none.
    Off,
    /// For keys that own a live name.
    Owners,
    /// For all.
    All,
}

/// One of the zone's DNS servers.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ZoneServer {
    /// Its DNS name.
    pub host: String,
    /// Its IPv4 address, network order.
    pub ipv4: Option<BytesN<4>>,
    /// Its IPv6 address, network order.
    pub ipv6: Option<BytesN<16>>,
    /// The Ed25519 key by which feeds know it.
    pub key: BytesN<32>,
}

/// Yearly fees by length of the label, in units of the token.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fees {
    /// Labels of 3 characters.
    pub three: i128,
    /// Labels of 4 characters.
    pub four: i128,
    /// Longer labels.
    pub longer: i128,
}

/// The rules that apply to new registrations, and how the zone is published.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The token of all fees; fixed at construction.
    pub token: Address,
    /// Yearly fees.
    pub fees: Fees,
    /// Seconds of grace after expiry, at most 90 days.
    pub grace: u64,
    /// Whether a registration needs a commitment made before.
    pub commit_reveal: bool,
    /// Names one owner may hold, 1..=64.
    pub per_owner: u32,
    /// Policy for address hosts.
    pub address_hosts: AddressHosts,
    /// CAA issuer domains the zone allows, at most 4.
    pub acme_issuers: Vec<String>,
    /// The zone's DNS servers, at most 5.
    pub servers: Vec<ZoneServer>,
}

/// The part of [`Config`] that calls need, kept in the instance.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Terms {
    /// See [`Config`].
    pub token: Address,
    /// See [`Config`].
    pub fees: Fees,
    /// See [`Config`].
    pub grace: u64,
    /// See [`Config`].
    pub commit_reveal: bool,
    /// See [`Config`].
    pub per_owner: u32,
}

/// The part of [`Config`] that only readers need, kept apart so that no call pays for it.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Publication {
    /// See [`Config`].
    pub address_hosts: AddressHosts,
    /// See [`Config`].
    pub acme_issuers: Vec<String>,
    /// See [`Config`].
    pub servers: Vec<ZoneServer>,
}

/// Storage keys. Durability is given per key.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DataKey {
    /// Instance: `String`, the zone; fixed at construction.
    Zone,
    /// Instance: [`Terms`].
    Terms,
    /// Instance: `u32`, slots ever used; the next new label gets this one.
    Next,
    /// Persistent: [`Publication`].
    Publication,
    /// Persistent: [`NameRecord`]; slots `0..Next` all exist, and none is ever moved or removed.
    Slot(u32),
    /// Persistent: [`LabelEntry`].
    Label(String),
    /// Persistent: `Vec<u32>`, slots of the names an owner holds; bounded by 64, never longer.
    Owner(Address),
    /// Persistent: [`PrimaryEntry`] of a target.
    Primary(Address),
    /// Persistent: [`DomainsEntry`] of a slot.
    Domains(u32),
    /// Temporary: `u32`, the ledger of a commitment, by owner and hash.
    Commitment(Address, BytesN<32>),
}
