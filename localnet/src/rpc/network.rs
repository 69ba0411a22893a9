//! `getHealth`, `getNetwork`, `getVersionInfo`, `getLatestLedger`.

use serde::Deserialize;
use serde_json::{Value, json};
use stellar_xdr::LedgerCloseMeta;

use super::{Format, RpcError, View};
use crate::codec;
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
    if view.faults.frozen.is_some() && age > MAX_HEALTHY_AGE {
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
    let mut reply = json!({ "passphrase": view.passphrase, "protocolVersion": genesis::PROTOCOL });
    if let Some(url) = &view.faults.friendbot_url {
        reply["friendbotUrl"] = json!(url);
    }
    Ok(reply)
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

/// XDR that is encoded already, as base64.
pub(super) fn base64(encoded: &[u8]) -> Value {
    use base64::Engine;
    Value::String(base64::engine::general_purpose::STANDARD.encode(encoded))
}

/// A hash in the hexadecimal form in which clients give it.
pub(super) fn parse_hash(text: &str) -> Result<stellar_xdr::Hash, RpcError> {
    if text.len() != 64 {
        return Err(RpcError::invalid_params(format!("unexpected hash length ({})", text.len())));
    }
    let bytes =
        hex::decode(text).map_err(|error| RpcError::invalid_params(format!("incorrect hash: {error}")))?;
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| RpcError::invalid_params("incorrect hash"))?;
    Ok(stellar_xdr::Hash(bytes))
}

/// A value from the base64 that a client gave.
pub(super) fn parse_xdr<T: stellar_xdr::ReadXdr>(text: &str) -> Result<T, stellar_xdr::Error> {
    codec::decode_base64(text)
}
