//! `tunnler chain status`: endpoints, their ledgers and ages, agreement, alarms.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tunnler_chain::read::{READ_TIMEOUT, SECOND_CHANCE};
use tunnler_chain::status::Alarm;
use tunnler_chain::{Chain, ChainConfig, ChainStatus, EndpointStatus, FollowedNames};
use tunnler_protocol::network::Network;
use tunnler_protocol::time::{LedgerTime, UnixSeconds};

use super::{emit, json, now, span};
use crate::cli::Shared;
use crate::error::ClientError;

/// How long endpoints that say nothing are waited for: one call's time and a little.
const PATIENCE: Duration = Duration::from_secs(12);
const LOOK: Duration = Duration::from_millis(50);

pub(super) async fn run(shared: &Shared, network: Network) -> Result<(), ClientError> {
    let chain = Chain::start(ChainConfig::new(network.clone(), FollowedNames::Chosen))?;
    let status = settled(&chain).await;
    chain.shutdown().await;
    let now = now();
    let alarms = status.alarms(now);
    if shared.json {
        let mut value = serde_json::to_value(&status).expect("plain JSON");
        value["network"] = json!(network.name);
        value["age_seconds"] = json!(status.age(now).map(|age| age.as_secs()));
        value["alarms"] = json!(alarms);
        emit([json(&value)])?;
    } else {
        emit(describe(&network, &status, &alarms, now))?;
    }
    if alarms.contains(&Alarm::Empty) {
        return Err(ClientError::Failed(format!("the chain could not be read: {}", status.problem())));
    }
    Ok(())
}

/// The status once a directory is there and every endpoint has answered or failed, or there is no use in waiting.
async fn settled(chain: &Chain) -> ChainStatus {
    let started = Instant::now();
    loop {
        let status = chain.handle().status();
        let waited = started.elapsed();
        let told = status.endpoints.iter().all(is_heard) || waited > PATIENCE;
        let hopeless = status.lacks_quorum() && waited > SECOND_CHANCE;
        if told && (status.ledger.is_some() || hopeless) || waited > READ_TIMEOUT {
            return status;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn is_heard(endpoint: &EndpointStatus) -> bool {
    endpoint.usable || endpoint.last_error.is_some()
}

fn describe(network: &Network, status: &ChainStatus, alarms: &[Alarm], now: UnixSeconds) -> Vec<String> {
    let ledger = status.ledger.map_or_else(|| "none read".to_owned(), |ledger| closed(ledger, now));
    let mut lines = vec![format!("network    {}", network.name), format!("ledger     {ledger}")];
    if let Some((registry, namespace)) = status.revisions {
        lines.push(format!("revisions  registry {registry}, namespace {namespace}"));
    }
    let usable = status.endpoints.iter().filter(|endpoint| endpoint.usable).count();
    let trust = if status.quorum == 1 { " (it is trusted alone)" } else { "" };
    lines.push(format!(
        "agreement  {usable} of {} endpoints usable, {} must agree{trust}; {} entries wait, {} are disputed",
        status.endpoints.len(),
        status.quorum,
        status.pending,
        status.disputed
    ));
    if status.ignored_records > 0 {
        lines.push(format!("ignored    {} records that break the rules of the zone", status.ignored_records));
    }
    for endpoint in &status.endpoints {
        let ledger = endpoint.ledger.map_or_else(|| "no ledger".to_owned(), |ledger| closed(ledger, now));
        let state = match (&endpoint.last_error, endpoint.usable) {
            (Some(error), _) => error.as_str(),
            (None, true) => "usable",
            (None, false) => "set aside",
        };
        lines.push(format!("endpoint   {}: {ledger}; {state}", endpoint.url));
        if endpoint.contradictions > 0 {
            lines.push(format!("           contradicted the others {} times", endpoint.contradictions));
        }
    }
    lines.extend(alarms.iter().map(|alarm| format!("alarm      {alarm}")));
    lines
}

fn closed(ledger: LedgerTime, now: UnixSeconds) -> String {
    format!("{}, closed {} ago", ledger.sequence, span(now.since(ledger.closed_at)))
}
