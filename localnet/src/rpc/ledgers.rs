//! `getLedgers`.

use serde::Deserialize;
use serde_json::{Value, json};
use stellar_xdr::LedgerCloseMeta;

use super::answer::base64;
use super::transactions::{check_start, page_limit};
use super::{Format, RpcError, View};
use crate::ledger::history::ClosedLedger;

const MAX_LIMIT: u32 = 200;
const DEFAULT_LIMIT: u32 = 50;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Params {
    #[serde(default)]
    start_ledger: u32,
    #[serde(default)]
    pagination: Option<Pagination>,
    #[serde(default)]
    xdr_format: Format,
}

#[derive(Default, Deserialize)]
struct Pagination {
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default)]
    limit: Option<u32>,
}

pub(super) fn ledgers(view: &View<'_>, params: Params) -> Result<Value, RpcError> {
    let pagination = params.pagination.unwrap_or_default();
    let limit = page_limit(pagination.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    let (latest, oldest) = (view.latest(), view.oldest());
    let start = match pagination.cursor.filter(|cursor| !cursor.is_empty()) {
        Some(_) if params.start_ledger != 0 => {
            return Err(RpcError::invalid_request("startLedger and cursor cannot both be set"));
        }
        Some(cursor) => {
            let after: u32 = cursor
                .parse()
                .map_err(|_| RpcError::invalid_params(format!("cursor {cursor:?} is not a number")))?;
            let start = after.saturating_add(1);
            // The cursor of the last page is the latest ledger: there is nothing behind it yet.
            if start < oldest.sequence() || start > latest.sequence() + 1 {
                return Err(RpcError::invalid_params(format!(
                    "cursor ('{cursor}') must be between the oldest ledger: {} and the latest ledger: {} for this \
                     rpc instance",
                    oldest.sequence(),
                    latest.sequence()
                )));
            }
            start
        }
        None => {
            check_start(view, params.start_ledger)?;
            params.start_ledger
        }
    };
    let page: Vec<&ClosedLedger> = view.ledgers_from(start).take(limit).map(|ledger| &**ledger).collect();
    let cursor = page.last().map_or(start - 1, |ledger| ledger.sequence());
    Ok(json!({
        "ledgers": page.into_iter().map(|ledger| reply(ledger, params.xdr_format)).collect::<Vec<_>>(),
        "latestLedger": latest.sequence(),
        "latestLedgerCloseTime": latest.close_time(),
        "oldestLedger": oldest.sequence(),
        "oldestLedgerCloseTime": oldest.close_time(),
        "cursor": cursor.to_string(),
    }))
}

fn reply(ledger: &ClosedLedger, format: Format) -> Value {
    let mut reply = json!({
        "hash": ledger.header.hash.to_string(),
        "sequence": ledger.sequence(),
        "ledgerCloseTime": ledger.close_time().to_string(),
    });
    let fields = reply.as_object_mut().expect("made as an object");
    format.put(fields, "header", &ledger.header);
    match format {
        Format::Base64 => {
            fields.insert("metadataXdr".into(), base64(&ledger.meta));
        }
        Format::Json => {
            format.put(fields, "metadata", &LedgerCloseMeta::V2(ledger.decoded()));
            // Clients ask for these fields whatever the format; the official server leaves them empty here.
            fields.insert("headerXdr".into(), json!(""));
            fields.insert("metadataXdr".into(), json!(""));
        }
    }
    reply
}
