//! `getTransaction` and `getTransactions`.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use stellar_xdr::{DiagnosticEvent, TransactionEnvelope, TransactionMeta};

use super::{Format, RpcError, View, params};
use crate::events::toid;
use crate::ledger::history::{ClosedLedger, ClosedTransaction};
use crate::transaction::outcome;

const MAX_LIMIT: u32 = 200;
const DEFAULT_LIMIT: u32 = 50;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HashParams {
    hash: String,
    #[serde(default)]
    xdr_format: Format,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageParams {
    #[serde(default, alias = "start_ledger")]
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

pub(super) fn transaction(view: &View<'_>, request: HashParams) -> Result<Value, RpcError> {
    let hash = params::hash(&request.hash)?;
    let found = view.ledger_of(&hash).and_then(|ledger| {
        let closed = ledger.closed_transactions(view.ledger.network_id());
        closed.into_iter().find(|one| one.processing.result.transaction_hash == hash).map(|one| (ledger, one))
    });
    let mut reply = match found {
        Some((ledger, closed)) => {
            let mut reply = fields(ledger, &closed, request.xdr_format);
            reply.insert("createdAt".into(), json!(ledger.close_time().to_string()));
            reply
        }
        None => {
            let mut reply = Map::new();
            reply.insert("status".into(), json!("NOT_FOUND"));
            reply.insert("txHash".into(), json!(request.hash));
            reply
        }
    };
    let (latest, oldest) = (view.latest(), view.oldest());
    reply.insert("latestLedger".into(), json!(latest.sequence()));
    reply.insert("latestLedgerCloseTime".into(), json!(latest.close_time().to_string()));
    reply.insert("oldestLedger".into(), json!(oldest.sequence()));
    reply.insert("oldestLedgerCloseTime".into(), json!(oldest.close_time().to_string()));
    Ok(Value::Object(reply))
}

pub(super) fn transactions(view: &View<'_>, params: PageParams) -> Result<Value, RpcError> {
    let pagination = params.pagination.unwrap_or_default();
    let cursor = pagination.cursor.filter(|cursor| !cursor.is_empty());
    let limit = page_limit(pagination.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    let (start, first) = match cursor {
        Some(_) if params.start_ledger != 0 => {
            return Err(RpcError::invalid_request("startLedger and cursor cannot both be set"));
        }
        Some(cursor) => {
            let toid: u64 = cursor
                .parse()
                .map_err(|_| RpcError::invalid_params(format!("cursor {cursor:?} is not a number")))?;
            ((toid >> 32) as u32, (toid >> 12) as u32 & 0xF_FFFF)
        }
        None => {
            check_start(view, params.start_ledger)?;
            (params.start_ledger, 0)
        }
    };
    let mut found = Vec::new();
    let mut position = (start, first);
    'pages: for ledger in view.ledgers_from(start) {
        position = (ledger.sequence(), 0);
        if ledger.transactions.is_empty() {
            continue;
        }
        let after = if ledger.sequence() == start { first } else { 0 };
        for closed in ledger.closed_transactions(view.ledger.network_id()) {
            if closed.order <= after {
                continue;
            }
            position.1 = closed.order;
            let mut reply = fields(ledger, &closed, params.xdr_format);
            reply.insert("createdAt".into(), json!(ledger.close_time()));
            found.push(Value::Object(reply));
            if found.len() == limit {
                break 'pages;
            }
        }
        position.1 = position.1.max(ledger.transactions.len() as u32);
    }
    let (latest, oldest) = (view.latest(), view.oldest());
    Ok(json!({
        "transactions": found,
        "latestLedger": latest.sequence(),
        "latestLedgerCloseTimestamp": latest.close_time(),
        "oldestLedger": oldest.sequence(),
        "oldestLedgerCloseTimestamp": oldest.close_time(),
        "cursor": toid(position.0, position.1, 1).to_string(),
    }))
}

/// A page's size within what is allowed.
pub(super) fn page_limit(asked: Option<u32>, default: u32, maximum: u32) -> Result<usize, RpcError> {
    match asked {
        Some(limit) if limit > maximum => {
            Err(RpcError::invalid_request(format!("limit must not exceed {maximum}")))
        }
        Some(limit) if limit > 0 => Ok(limit as usize),
        _ => Ok(default as usize),
    }
}

/// A start within the ledgers that are kept.
pub(super) fn check_start(view: &View<'_>, start: u32) -> Result<(), RpcError> {
    if view.has(start) {
        return Ok(());
    }
    Err(RpcError::invalid_request(format!(
        "start ledger ({start}) must be between the oldest ledger: {} and the latest ledger: {} for this rpc instance",
        view.oldest().sequence(),
        view.latest().sequence()
    )))
}

fn fields(ledger: &ClosedLedger, closed: &ClosedTransaction, format: Format) -> Map<String, Value> {
    let result = &closed.processing.result;
    let status = if outcome::is_success(&result.result.result) { "SUCCESS" } else { "FAILED" };
    let mut reply = Map::new();
    reply.insert("status".into(), json!(status));
    reply.insert("txHash".into(), json!(result.transaction_hash.to_string()));
    reply.insert("applicationOrder".into(), json!(closed.order));
    reply.insert("feeBump".into(), json!(matches!(closed.envelope, TransactionEnvelope::TxFeeBump(_))));
    reply.insert("ledger".into(), json!(ledger.sequence()));
    format.put(&mut reply, "envelope", &closed.envelope);
    format.put(&mut reply, "result", &result.result);
    format.put(&mut reply, "resultMeta", &closed.processing.tx_apply_processing);
    if let TransactionMeta::V4(meta) = &closed.processing.tx_apply_processing {
        let contract: Vec<Value> =
            meta.operations.iter().map(|operation| format.values(operation.events.iter())).collect();
        let mut events = Map::new();
        events.insert(format.field("contractEvents"), Value::Array(contract));
        events.insert(format.field("transactionEvents"), format.values(meta.events.iter()));
        let diagnostics: &[DiagnosticEvent] = &meta.diagnostic_events;
        if !diagnostics.is_empty() {
            events.insert(format.field("diagnosticEvents"), format.values(diagnostics));
            reply.insert(format.field("diagnosticEvents"), format.values(diagnostics));
        }
        reply.insert("events".into(), Value::Object(events));
    }
    reply
}
