//! Putting contracts on a network: for tests, the demo and a zone's first hour. Shipped programs do not use it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tunnler_protocol::Address;
use tunnler_protocol::directory::AccountHosts;
use tunnler_protocol::name::{HostName, Zone};

use crate::error::WriteError;
use crate::writer::Writer;

/// Configuration of a new TunnelRegistry. Its token is the native one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Least stake, in stroops.
    pub min_stake: i128,
    /// From `deregister` to `withdraw`, at most 30 days.
    pub unbonding: Duration,
    /// A relay without a heartbeat for this long counts as inactive, 1 h to 7 days.
    pub heartbeat_ttl: Duration,
    /// Relays one operator may have, 1–1,000.
    pub per_operator: u32,
}

/// Configuration of a new TunnelNamespace. Its token is the native one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceConfig {
    /// The zone.
    pub zone: Zone,
    /// Yearly fees in stroops for labels of 3, 4 and more characters.
    pub fees: [i128; 3],
    /// Grace after expiry, at most 90 days.
    pub grace: Duration,
    /// Whether a registration needs a commitment.
    pub commit_reveal: bool,
    /// Names one owner may hold, 1–64.
    pub per_owner: u32,
    /// For whom `ADDRESS.ZONE` is answered.
    pub account_hosts: AccountHosts,
    /// CAA issuer domains the zone allows, at most 8.
    pub issuers: Vec<String>,
    /// The zone's servers, at most 8.
    pub servers: Vec<Server>,
}

/// An authoritative server of a new zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its host name.
    pub host: HostName,
    /// IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// The key that feeds know it by.
    pub key: Address,
}

/// Asks `friendbot` to fund `address`. An account that has been funded before is fine.
pub async fn fund(friendbot: &str, address: &Address) -> Result<(), WriteError> {
    let _ = (friendbot, address);
    Err(WriteError::Argument(String::new()))
}

/// Uploads `wasm` and creates a TunnelRegistry of it with the writer's account as admin. Returns its id (`C…`).
pub async fn deploy_registry(
    writer: &Writer,
    wasm: &[u8],
    config: &RegistryConfig,
) -> Result<String, WriteError> {
    let _ = (writer, wasm, config);
    Err(WriteError::Argument(String::new()))
}

/// Uploads `wasm` and creates a TunnelNamespace of it with the writer's account as admin. Returns its id (`C…`).
pub async fn deploy_namespace(
    writer: &Writer,
    wasm: &[u8],
    config: &NamespaceConfig,
) -> Result<String, WriteError> {
    let _ = (writer, wasm, config);
    Err(WriteError::Argument(String::new()))
}
