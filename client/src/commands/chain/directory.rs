//! `tunnler chain relays` and `tunnler chain names`: the directory as agreed, all of it. Which relays this client would
//! use is `tunnler relays`.

use std::sync::Arc;

use serde_json::{Value, json};
use tunnler_chain::read;
use tunnler_protocol::directory::{Directory, NameRecord, Relay, RelayStatus};
use tunnler_protocol::network::Network;

use super::{emit, json, span};
use crate::cli::Shared;
use crate::error::ClientError;

pub(super) async fn relays(shared: &Shared, network: &Network) -> Result<(), ClientError> {
    let directory = read::read_relays(network).await?;
    let relays = directory.relays.values();
    if shared.json {
        let relays: Vec<Value> = relays.map(|relay| relay_json(relay, &directory)).collect();
        emit([json(&relays)])?;
        return Ok(());
    }
    eprintln!("ledger {}, relays: {}", directory.ledger.sequence, directory.relays.len());
    emit(relays.map(|relay| relay_line(relay, &directory)))?;
    Ok(())
}

pub(super) async fn names(shared: &Shared, network: &Network) -> Result<(), ClientError> {
    let directory = read::read_directory(network).await?;
    let mut names: Vec<&Arc<NameRecord>> = directory.names.values().collect();
    names.sort_by(|a, b| a.label.cmp(&b.label));
    if shared.json {
        let names: Vec<Value> = names.into_iter().map(|name| name_json(name, &directory)).collect();
        emit([json(&names)])?;
        return Ok(());
    }
    eprintln!("ledger {}, names: {}", directory.ledger.sequence, names.len());
    emit(names.into_iter().map(|name| name_line(name, &directory)))?;
    Ok(())
}

fn relay_json(relay: &Relay, directory: &Directory) -> Value {
    let mut value = serde_json::to_value(relay).expect("plain JSON");
    value["host"] = json!(relay.own_host(&directory.zone.zone));
    value["active"] = json!(relay.is_active(directory.ledger.closed_at, directory.heartbeat_ttl));
    value
}

fn relay_line(relay: &Relay, directory: &Directory) -> String {
    let now = directory.ledger.closed_at;
    let status = match relay.status {
        RelayStatus::Draining => "draining",
        RelayStatus::Unbonding => "unbonding",
        RelayStatus::Delisted => "delisted",
        RelayStatus::Active if relay.is_active(now, directory.heartbeat_ttl) => "active",
        RelayStatus::Active => "silent",
    };
    let (heard, load) = match relay.heartbeat {
        Some(beat) => (format!("heard {} ago", span(now.since(beat.at))), beat.load),
        None => (format!("registered {} ago", span(now.since(relay.registered_at))), 0),
    };
    let ipv4 = relay.ipv4.map(|ip| ip.to_string());
    let ipv6 = relay.ipv6.map(|ip| ip.to_string());
    let addresses: Vec<String> = ipv4.into_iter().chain(ipv6).collect();
    format!(
        "{}  {status:<9}  {}  control {} ingress {}  {}  {load} of {} sessions  {heard}  operator {}",
        relay.address,
        addresses.join(","),
        relay.control_port,
        relay.ingress_port,
        relay.region,
        relay.capacity,
        relay.operator
    )
}

fn name_json(name: &NameRecord, directory: &Directory) -> Value {
    let mut value = serde_json::to_value(name).expect("plain JSON");
    value["host"] = json!(directory.zone.zone.host(&name.label));
    value["grace"] = json!(name.grace.as_secs());
    value["live"] = json!(name.live_target(directory.ledger.closed_at).is_some());
    value
}

fn name_line(name: &NameRecord, directory: &Directory) -> String {
    let now = directory.ledger.closed_at;
    let target = name.target.map_or_else(|| "nobody".to_owned(), |target| target.to_string());
    let term = if now < name.expires_at {
        format!("{} left", span(name.expires_at.since(now)))
    } else {
        format!("expired {} ago", span(now.since(name.expires_at)))
    };
    let owner = if target == name.owner { String::new() } else { format!("  owner {}", name.owner) };
    let policy = match name.relays.len() {
        0 => String::new(),
        count => format!("  on {count} relays only"),
    };
    let suspended = if name.suspended { "  suspended" } else { "" };
    format!("{}  {target}  {term}{owner}{policy}{suspended}", directory.zone.zone.host(&name.label))
}
