//! `tunnler relays`: the relays on chain in the order in which this client would use them, and why.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;

use futures::future::join_all;
use serde_json::json;
use tunnler_chain::read;
use tunnler_protocol::network::Network;
use tunnler_protocol::selection::{self, Experience, Policy, Ranked};

use super::print;
use crate::cli::{RelayWishes, Shared};
use crate::error::ClientError;
use crate::named;
use crate::tunnel::round_trip;

pub(crate) async fn run(shared: &Shared, wishes: &RelayWishes) -> Result<(), ClientError> {
    let network = shared.network()?;
    let directory = read::read_relays(&network).await?;
    let policy = policy(&network, wishes)?;
    let on_chain = directory.relays.values().filter(|relay| !policy.names(&relay.address));
    let measured = on_chain.chain(&policy.named).map(|relay| async {
        let addresses = relay
            .addresses(policy.addresses_of(&relay.address))
            .map(|ip| (ip, relay.control_port).into())
            .collect();
        let rtt = round_trip(addresses).await;
        (relay.address, Experience { rtt, ..Experience::default() })
    });
    let experience: BTreeMap<_, _> = join_all(measured).await.into_iter().collect();
    let ranked = selection::rank(&directory, &experience, &[], &policy, 0, Instant::now());
    let machine: Vec<_> = ranked
        .iter()
        .map(|relay| {
            json!({
                "relay": relay.relay.address,
                "host": relay.relay.own_host(&directory.zone.zone),
                "operator": relay.relay.operator,
                "region": relay.relay.region,
                "cost": relay.cost,
                "reasons": reasons(relay),
                "usable": relay.excluded.is_none(),
            })
        })
        .collect();
    print(shared.json, &machine, || table(&ranked));
    Ok(())
}

fn policy(network: &Network, wishes: &RelayWishes) -> Result<Policy, ClientError> {
    Ok(Policy {
        pinned: wishes.pinned.clone(),
        allowed: wishes.allowed.iter().copied().collect(),
        denied: wishes.denied.iter().copied().collect(),
        region: wishes.region.clone(),
        ingress_port: network.ingress_port,
        addresses: network.address_policy(),
        named: wishes.named.iter().map(|text| named::read(text)).collect::<Result<_, _>>()?,
        labels: Vec::new(),
    })
}

fn reasons(relay: &Ranked) -> Vec<String> {
    let excluded = relay.excluded.iter().map(ToString::to_string);
    excluded.chain(relay.factors.iter().map(ToString::to_string)).collect()
}

fn table(ranked: &[Ranked]) -> String {
    if ranked.is_empty() {
        return "no relay is registered".into();
    }
    let mut text = String::new();
    for (place, relay) in ranked.iter().enumerate() {
        let cost = if relay.excluded.is_some() { "-".to_owned() } else { relay.cost.to_string() };
        let (address, region) = (relay.relay.address, &relay.relay.region);
        let reasons = reasons(relay).join(", ");
        let _ = writeln!(text, "{:>3}  {address}  {region:<10}  {cost:>5}  {reasons}", place + 1);
    }
    text.truncate(text.trim_end().len());
    text
}
