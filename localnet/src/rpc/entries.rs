//! `getLedgerEntries`: up to 200 keys, answered in their order from one ledger; archived entries with life 0.

use serde::Deserialize;
use serde_json::{Value, json};
use stellar_xdr::{LedgerEntry, LedgerEntryData, LedgerKey};

use super::{Format, RpcError, View, params};
use crate::codec;
use crate::ledger::entries::{Entries, live_until};

const MAX_KEYS: usize = 200;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Params {
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    xdr_format: Format,
}

pub(super) fn ledger_entries(view: &View<'_>, request: Params) -> Result<Value, RpcError> {
    if request.keys.len() > MAX_KEYS {
        let message = format!("key count ({}) exceeds maximum supported ({MAX_KEYS})", request.keys.len());
        return Err(RpcError::invalid_params(message));
    }
    let mut found = Vec::new();
    for (index, text) in request.keys.iter().enumerate() {
        let key: LedgerKey = params::xdr(text).map_err(|_| {
            RpcError::invalid_params(format!("cannot unmarshal key value {text} at index {index}"))
        })?;
        if let LedgerKey::Ttl(_) = key {
            let message = "ledger ttl entries cannot be queried directly, they are returned implicitly when querying \
                           ledger entries";
            return Err(RpcError::invalid_params(message));
        }
        found.extend(entry(view, &key, request.xdr_format));
    }
    Ok(json!({ "entries": found, "latestLedger": view.latest().sequence() }))
}

fn entry(view: &View<'_>, key: &LedgerKey, format: Format) -> Option<Value> {
    let state = view.state();
    let (entry, life) = match state.live(key) {
        Some(entry) => (entry, live_until(state, key)),
        None => (state.archived(key)?, Some(0)),
    };
    let LedgerEntry { last_modified_ledger_seq, data, ext } = &*entry;
    let data = match view.appearance.faults.forged.get(&codec::encode_base64(key)) {
        None => data.clone(),
        Some(forged) => params::xdr::<LedgerEntryData>(forged).ok()?,
    };
    let mut reply = json!({ "lastModifiedLedgerSeq": last_modified_ledger_seq });
    let fields = reply.as_object_mut().expect("made as an object");
    match format {
        Format::Base64 => {
            fields.insert("key".into(), format.value(key));
            fields.insert("xdr".into(), format.value(&data));
            fields.insert("extXdr".into(), format.value(ext));
        }
        Format::Json => {
            fields.insert("keyJson".into(), format.value(key));
            fields.insert("dataJson".into(), format.value(&data));
            fields.insert("extJson".into(), format.value(ext));
        }
    }
    if let Some(life) = life {
        fields.insert("liveUntilLedgerSeq".into(), json!(life));
    }
    Some(reply)
}
