//! The public directory: what the two contracts say, in the program's own types (DESIGN §5).
//!
//! Built by the `chain` crate and replaced whole; nothing here reads a ledger. Liveness questions take the ledger
//! time as an argument.

mod changes;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::name::{HostName, Label, Zone, check_ldh};
use crate::time::{LedgerTime, UnixSeconds};

pub use changes::Change;

/// Everything a program knows from the chain at one ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// The ledger this state was read at.
    pub ledger: LedgerTime,
    /// `revision` of the Registry contract.
    pub registry_revision: u64,
    /// `revision` of the Namespace contract.
    pub namespace_revision: u64,
    /// Registered relays.
    pub relays: BTreeMap<Address, Arc<Relay>>,
    /// Registered names; only those a program follows, unless it follows all.
    pub names: HashMap<Label, Arc<NameRecord>>,
    /// A heartbeat older than this makes a relay inactive.
    pub heartbeat_ttl: Duration,
    /// The zone and its policy.
    pub zone: ZoneConfig,
}

/// A relay as registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// The relay's own key.
    pub address: Address,
    /// Who operates it: an account or a contract, as a strkey.
    pub operator: String,
    /// Its own domain, if it has one; else it lives at `ADDRESS.relay.ZONE`.
    pub host: Option<HostName>,
    /// Port for sessions and the feed.
    pub control_port: u16,
    /// Port for visitors.
    pub ingress_port: u16,
    /// IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Free region code, for example `eu-west`.
    pub region: String,
    /// Most sessions it says it can hold.
    pub capacity: u32,
    /// The ACME account that may get certificates for its own host.
    pub acme: Option<AcmeIdentity>,
    /// What the operator says about it.
    pub status: RelayStatus,
    /// Its last heartbeat, if that entry still exists.
    pub heartbeat: Option<Heartbeat>,
    /// When it registered.
    pub registered_at: UnixSeconds,
}

/// Status of a relay on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayStatus {
    /// Takes sessions.
    Active,
    /// Takes no new sessions.
    Draining,
    /// On its way out; the stake is unbonding.
    Unbonding,
    /// Removed by the admin.
    Delisted,
}

/// What a relay last said on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Ledger time of the heartbeat.
    pub at: UnixSeconds,
    /// Sessions it held.
    pub load: u32,
}

/// An ACME account as CAA names it (RFC 8657): the CA's issuer domain and the account URI.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AcmeIdentity {
    /// Issuer domain, for example `letsencrypt.org`.
    pub issuer: String,
    /// Account URI.
    pub account: String,
}

/// A registered name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRecord {
    /// The label.
    pub label: Label,
    /// Owner: an account or a contract, as a strkey.
    pub owner: String,
    /// The client key that may serve it.
    pub target: Option<Address>,
    /// If not empty, only presences on these relays count.
    pub relays: Vec<Address>,
    /// Custom domains its owner claims for it; the proof is in those domains' DNS.
    pub domains: Vec<HostName>,
    /// When it was registered.
    pub registered_at: UnixSeconds,
    /// When it expires; grace follows.
    pub expires_at: UnixSeconds,
    /// How long after expiry only its owner can have it.
    pub grace: Duration,
    /// Whether the admin suspended it.
    pub suspended: bool,
    /// Distinguishes registrations of the same label.
    pub serial: u64,
}

/// The zone as the Namespace contract configures it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneConfig {
    /// The zone.
    pub zone: Zone,
    /// Whether a name can still be renewed this long after it expired.
    pub grace: Duration,
    /// Authoritative servers.
    pub servers: Vec<ZoneServer>,
    /// For whom `ADDRESS.ZONE` is answered.
    pub account_hosts: AccountHosts,
    /// CAs the zone allows; empty allows every issuer.
    pub issuers: Vec<String>,
}

impl ZoneConfig {
    /// The addresses of the zone's servers that `policy` allows.
    pub fn server_addresses(&self, policy: AddressPolicy) -> impl Iterator<Item = IpAddr> {
        let all = self.servers.iter();
        let all = all.flat_map(|server| [server.ipv4.map(IpAddr::V4), server.ipv6.map(IpAddr::V6)]);
        all.flatten().filter(move |ip| policy.allows(ip))
    }
}

/// One authoritative server of the zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneServer {
    /// Its host name.
    pub host: HostName,
    /// IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// The key that feeds know it by.
    pub key: Address,
}

/// Policy for `ADDRESS.ZONE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountHosts {
    /// Never answered.
    Off,
    /// For keys that some live name points to or that own one.
    Owners,
    /// For every key with a presence.
    All,
}

/// Which addresses of relay records may be dialled and published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressPolicy {
    /// Only globally reachable unicast.
    GlobalOnly,
    /// Also private and loopback ones (localnet).
    AllowPrivate,
}

impl Relay {
    /// The host a client names in SNI.
    pub fn own_host(&self, zone: &Zone) -> HostName {
        self.host.clone().unwrap_or_else(|| zone.relay_host(&self.address))
    }

    /// Whether it may carry visitors: status, and a heartbeat within `ttl` (registration counts as the first).
    pub fn is_active(&self, now: UnixSeconds, ttl: Duration) -> bool {
        let last = self.heartbeat.map_or(self.registered_at, |beat| beat.at.max(self.registered_at));
        matches!(self.status, RelayStatus::Active | RelayStatus::Draining) && now.since(last) <= ttl
    }

    /// Its addresses that `policy` allows, IPv4 first.
    pub fn addresses(&self, policy: AddressPolicy) -> impl Iterator<Item = IpAddr> + use<> {
        let all = [self.ipv4.map(IpAddr::V4), self.ipv6.map(IpAddr::V6)];
        all.into_iter().flatten().filter(move |address| policy.allows(address))
    }
}

impl NameRecord {
    /// Whether the record grants anything at `now`: not expired, not suspended, and pointing at a key.
    pub fn live_target(&self, now: UnixSeconds) -> Option<Address> {
        self.target.filter(|_| !self.suspended && now < self.expires_at)
    }

    /// Whether the owner lets `relay` carry the name.
    pub fn allows(&self, relay: &Address) -> bool {
        self.relays.is_empty() || self.relays.contains(relay)
    }
}

impl Directory {
    /// The client key that may serve `label` now.
    pub fn target(&self, label: &Label, now: UnixSeconds) -> Option<Address> {
        self.names.get(label)?.live_target(now)
    }

    /// Relays that may carry visitors now.
    pub fn active_relays(&self, now: UnixSeconds) -> impl Iterator<Item = &Arc<Relay>> {
        self.relays.values().filter(move |relay| relay.is_active(now, self.heartbeat_ttl))
    }
}

impl AcmeIdentity {
    /// Whether both parts can stand in a CAA value (RFC 8657, section 3): an issuer domain in lower case of at most 64
    /// bytes, and an `https` URI of at most 200 bytes in the characters of RFC 3986 without `;` and `'`. The contracts
    /// check the same.
    pub fn is_well_formed(&self) -> bool {
        let issuer = self.issuer.len() <= 64
            && self.issuer.split('.').all(|label| !label.is_empty() && check_ldh(label).is_ok());
        let uri = self.account.strip_prefix("https://").unwrap_or_default();
        let punctuation = b"-._~:/?#[]@!$&()*+,=%";
        issuer
            && self.account.len() <= 200
            && uri.starts_with(|c: char| c.is_ascii_alphanumeric())
            && uri.bytes().all(|b| b.is_ascii_alphanumeric() || punctuation.contains(&b))
    }
}

impl AddressPolicy {
    /// Whether `address` may be dialled or published.
    pub fn allows(self, address: &IpAddr) -> bool {
        match self {
            Self::AllowPrivate => !address.is_unspecified() && !address.is_multicast(),
            Self::GlobalOnly => match address {
                IpAddr::V4(v4) => is_global_v4(*v4),
                IpAddr::V6(v6) => is_global_v6(*v6),
            },
        }
    }
}

/// The IANA special-purpose registry for IPv4 (RFC 6890), multicast and class E.
fn is_global_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || a >= 224
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b)))
}

/// Global unicast (2000::/3) without documentation, Teredo, ORCHID and 6to4 of a non-global IPv4 address.
fn is_global_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    segments[0] & 0xe000 == 0x2000
        && !(segments[0] == 0x2001 && (segments[1] == 0x0db8 || segments[1] < 0x0200))
        && !(segments[0] == 0x3fff && segments[1] < 0x1000)
        && segments[0] != 0x2002
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_global_addresses_pass_the_strict_policy() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
            "3fff::1",
        ] {
            assert!(!AddressPolicy::GlobalOnly.allows(&address.parse().unwrap()), "{address}");
        }
        for address in ["1.1.1.1", "192.88.98.1", "2606:4700::1111", "2a00::1"] {
            assert!(AddressPolicy::GlobalOnly.allows(&address.parse().unwrap()), "{address}");
        }
        assert!(AddressPolicy::AllowPrivate.allows(&"127.0.0.2".parse().unwrap()));
        assert!(!AddressPolicy::AllowPrivate.allows(&"0.0.0.0".parse().unwrap()));
    }

    #[test]
    fn acme_identities_cannot_inject_caa_parameters() {
        let with =
            |issuer: &str, account: &str| AcmeIdentity { issuer: issuer.into(), account: account.into() };
        assert!(with("letsencrypt.org", "https://ca.example/acct/1").is_well_formed());
        for (issuer, account) in [
            ("letsencrypt.org;x=y", "https://ca.example/acct/1"),
            ("LetsEncrypt.org", "https://ca.example/acct/1"),
            ("letsencrypt.org", "https://ca.example/1; validationmethods=http-01"),
            ("letsencrypt.org", "https://ca.example/1\""),
            ("letsencrypt.org", "https://ca.example/\u{e9}"),
            ("letsencrypt.org", "http://ca.example/1"),
            ("letsencrypt.org", "https://"),
            ("", "https://ca.example/1"),
        ] {
            assert!(!with(issuer, account).is_well_formed(), "{issuer} {account}");
        }
    }
}
