//! `getHealth`, `getNetwork`, `getVersionInfo`, `getLatestLedger`.

use serde::Deserialize;
use serde_json::{Value, json};
use stellar_xdr::LedgerCloseMeta;

use super::answer::base64;
use super::{Format, RpcError, View};
use crate::genesis;

/// Seconds after which the official server calls itself stale.
const MAX_HEALTHY_AGE: u64 = 30;

/// No parameters, but clients may ask for a format.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Params {
    #[serde(default)]
    xdr_format: Format,
}

pub(super) fn health(view: &View<'_>, _: Params) -> Result<Value, RpcError> {
    let (latest, oldest) = (view.latest(), view.oldest());
    let age = view.now.saturating_sub(latest.close_time());
    if view.appearance.frozen.is_some() && age > MAX_HEALTHY_AGE {
        let message =
            format!("latency ({age}s) since last known ledger closed is too high (>{MAX_HEALTHY_AGE}s)");
        return Err(RpcError::internal(message));
    }
    Ok(json!({
        "status": "healthy",
        "latestLedger": latest.sequence(),
        "latestLedgerCloseTime": latest.close_time().to_string(),
        "oldestLedger": oldest.sequence(),
        "oldestLedgerCloseTime": oldest.close_time().to_string(),
        "ledgerRetentionWindow": view.retention(),
    }))
}

pub(super) fn network(view: &View<'_>, _: Params) -> Result<Value, RpcError> {
    Ok(json!({
        "passphrase": view.passphrase(),
        "protocolVersion": genesis::PROTOCOL,
        "friendbotUrl": view.appearance.friendbot_url,
    }))
}

pub(super) fn version(_: &View<'_>, _: Params) -> Result<Value, RpcError> {
    Ok(json!({
        "version": concat!("28.0.0-tunnler-localnet-", env!("CARGO_PKG_VERSION")),
        "commitHash": "",
        "buildTimestamp": "",
        "captiveCoreVersion": "none: tunnler-localnet, a development network in one process",
        "protocolVersion": genesis::PROTOCOL,
    }))
}

pub(super) fn latest_ledger(view: &View<'_>, params: Params) -> Result<Value, RpcError> {
    let latest = view.latest();
    let mut reply = json!({
        "id": latest.header.hash.to_string(),
        "protocolVersion": genesis::PROTOCOL,
        "sequence": latest.sequence(),
        "closeTime": latest.close_time().to_string(),
    });
    let fields = reply.as_object_mut().expect("made as an object");
    // The header alone here; `getLedgers` gives it with its hash.
    params.xdr_format.put(fields, "header", &latest.header.header);
    match params.xdr_format {
        Format::Base64 => {
            fields.insert("metadataXdr".into(), base64(&latest.meta));
        }
        Format::Json => {
            params.xdr_format.put(fields, "metadata", &LedgerCloseMeta::V2(latest.decoded()));
        }
    }
    Ok(reply)
}
