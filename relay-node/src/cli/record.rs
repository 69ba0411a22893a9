//! Brings the record on chain in line with the configuration.

use tunnler_chain::{RelayRegistration, WriteError, Writer};
use tunnler_edge::Store;
use tunnler_protocol::directory::{Directory, Relay, RelayStatus};

use super::Failure;
use super::config::Run;
use crate::certificates::account;

/// Opens the ACME account, then registers, or updates a record that says something else. Returns what the chain will
/// say.
pub(super) async fn ensure(
    run: &Run,
    directory: &Directory,
    store: &Store,
) -> Result<RelayRegistration, Failure> {
    run.require_address()?;
    let acme = account::open(store, &run.network.acme).await?;
    let record = RelayRegistration { acme: Some(acme), ..run.record.clone() };
    let address = run.key.address();
    match directory.relays.get(&address) {
        None => {
            let operator = Writer::new(run.network.clone(), run.operator.clone())?;
            let receipt = operator.register_relay(&run.key, &record, run.stake).send().await?;
            tracing::info!(relay = %address, transaction = receipt.hash, "registered on chain");
        }
        Some(relay) => {
            reject_left(relay)?;
            if !says(relay, &record) {
                let receipt = writer(run)?.update_relay(&record).send().await?;
                tracing::info!(relay = %address, transaction = receipt.hash, "record updated on chain");
            }
        }
    }
    Ok(record)
}

/// Writes as the relay.
pub(super) fn writer(run: &Run) -> Result<Writer, Failure> {
    Ok(Writer::new(run.network.clone(), run.key.clone())?)
}

/// A relay that has left cannot serve.
pub(super) fn reject_left(relay: &Relay) -> Result<(), Failure> {
    match relay.status {
        RelayStatus::Active | RelayStatus::Draining => Ok(()),
        RelayStatus::Unbonding => Err(Failure::Left(relay.address, "its stake is unbonding")),
        RelayStatus::Delisted => Err(Failure::Left(relay.address, "it was delisted")),
    }
}

/// One heartbeat; the chain may be down, so a failure is for the caller to retry.
pub(super) async fn heartbeat(writer: &Writer, sessions: usize) -> Result<(), WriteError> {
    let receipt = writer.heartbeat(u32::try_from(sessions).unwrap_or(u32::MAX)).send().await?;
    tracing::info!(transaction = receipt.hash, sessions, "heartbeat on chain");
    Ok(())
}

/// Whether the chain says what the configuration does.
pub(super) fn says(relay: &Relay, record: &RelayRegistration) -> bool {
    relay.host == record.host
        && relay.control_port == record.control_port
        && relay.ingress_port == record.ingress_port
        && relay.ipv4 == record.ipv4
        && relay.ipv6 == record.ipv6
        && relay.region == record.region
        && relay.capacity == record.capacity
        && relay.acme == record.acme
}
