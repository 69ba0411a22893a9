//! `getFeeStats`: what inclusion cost in the last 50 ledgers.

use serde::Deserialize;
use serde_json::{Value, json};
use stellar_xdr::{SorobanTransactionMetaExt, TransactionMeta};

use super::{RpcError, View};
use crate::genesis;
use crate::ledger::history::ClosedTransaction;

const WINDOW: u32 = 50;

/// No parameters.
#[derive(Deserialize)]
pub(super) struct Params {}

pub(super) fn stats(view: &View<'_>, _: Params) -> Result<Value, RpcError> {
    let latest = view.latest().sequence();
    let start = latest.saturating_sub(WINDOW - 1).max(view.oldest().sequence());
    let (mut classic, mut soroban) = (Vec::new(), Vec::new());
    for ledger in view.ledgers_from(start).filter(|ledger| !ledger.transactions.is_empty()) {
        for closed in ledger.closed_transactions(view.ledger.network_id()) {
            match inclusion_fee(&closed) {
                InclusionFee::Soroban(fee) => soroban.push(fee),
                InclusionFee::Classic(fee) => classic.push(fee),
            }
        }
    }
    let ledgers = latest + 1 - start;
    Ok(json!({
        "sorobanInclusionFee": distribution(soroban, ledgers),
        "inclusionFee": distribution(classic, ledgers),
        "latestLedger": latest,
    }))
}

enum InclusionFee {
    Classic(i64),
    Soroban(i64),
}

/// What a transaction paid for inclusion, per operation.
fn inclusion_fee(closed: &ClosedTransaction) -> InclusionFee {
    let charged = closed.processing.result.result.fee_charged;
    if let TransactionMeta::V4(meta) = &closed.processing.tx_apply_processing
        && let Some(soroban) = &meta.soroban_meta
        && let SorobanTransactionMetaExt::V1(fees) = &soroban.ext
    {
        let resources =
            fees.total_non_refundable_resource_fee_charged + fees.total_refundable_resource_fee_charged;
        return InclusionFee::Soroban(charged - resources);
    }
    InclusionFee::Classic(charged.min(i64::from(genesis::BASE_FEE)))
}

fn distribution(mut fees: Vec<i64>, ledgers: u32) -> Value {
    fees.sort_unstable();
    let nearest_rank = |percent: usize| {
        let rank = (percent * fees.len()).div_ceil(100).max(1);
        fees.get(rank - 1).copied().unwrap_or_default().to_string()
    };
    let mode = fees
        .chunk_by(|a, b| a == b)
        .max_by_key(|equal| equal.len())
        .and_then(|equal| equal.first().copied())
        .unwrap_or_default();
    json!({
        "max": fees.last().copied().unwrap_or_default().to_string(),
        "min": fees.first().copied().unwrap_or_default().to_string(),
        "mode": mode.to_string(),
        "p10": nearest_rank(10), "p20": nearest_rank(20), "p30": nearest_rank(30), "p40": nearest_rank(40),
        "p50": nearest_rank(50), "p60": nearest_rank(60), "p70": nearest_rank(70), "p80": nearest_rank(80),
        "p90": nearest_rank(90), "p95": nearest_rank(95), "p99": nearest_rank(99),
        "transactionCount": fees.len().to_string(),
        "ledgerCount": ledgers,
    })
}
