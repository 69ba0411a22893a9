//! Results as the network words them, and the inner form of a result inside a fee bump.
//!
//! Conversions only.

use stellar_xdr::{
    Hash, InnerTransactionResult, InnerTransactionResultExt, InnerTransactionResultPair,
    InnerTransactionResultResult, OperationResult, TransactionResult, TransactionResultExt,
    TransactionResultResult,
};

use super::Envelope;

/// The result of a transaction that did not get as far as its operations.
pub(crate) fn refused(
    envelope: &Envelope,
    fee_charged: i64,
    code: TransactionResultResult,
) -> TransactionResult {
    finished(envelope, fee_charged, code)
}

/// The result of a transaction, wrapped where it came inside a fee bump.
pub(crate) fn finished(
    envelope: &Envelope,
    fee_charged: i64,
    code: TransactionResultResult,
) -> TransactionResult {
    let result = match &envelope.fee_bump {
        Some(_) => in_fee_bump(&envelope.inner_hash, code),
        None => code,
    };
    TransactionResult { fee_charged, result, ext: TransactionResultExt::V0 }
}

/// The result of a fee bump whose outer part is at fault.
pub(crate) fn outer_refused(fee_charged: i64, code: TransactionResultResult) -> TransactionResult {
    TransactionResult { fee_charged, result: code, ext: TransactionResultExt::V0 }
}

/// Success or failure, by the operations' results.
pub(crate) fn of_operations(results: Vec<OperationResult>, succeeded: bool) -> TransactionResultResult {
    let results = results.try_into().expect("at most 100 operations");
    if succeeded {
        TransactionResultResult::TxSuccess(results)
    } else {
        TransactionResultResult::TxFailed(results)
    }
}

/// Whether the transaction did what it was meant to.
pub(crate) fn is_success(result: &TransactionResultResult) -> bool {
    matches!(
        result,
        TransactionResultResult::TxSuccess(_) | TransactionResultResult::TxFeeBumpInnerSuccess(_)
    )
}

fn in_fee_bump(inner_hash: &Hash, code: TransactionResultResult) -> TransactionResultResult {
    use InnerTransactionResultResult as Inner;
    use TransactionResultResult as Outer;
    let succeeded = matches!(code, Outer::TxSuccess(_));
    let inner = match code {
        Outer::TxSuccess(results) => Inner::TxSuccess(results),
        Outer::TxFailed(results) => Inner::TxFailed(results),
        Outer::TxTooEarly => Inner::TxTooEarly,
        Outer::TxTooLate => Inner::TxTooLate,
        Outer::TxMissingOperation => Inner::TxMissingOperation,
        Outer::TxBadSeq => Inner::TxBadSeq,
        Outer::TxBadAuth => Inner::TxBadAuth,
        Outer::TxInsufficientBalance => Inner::TxInsufficientBalance,
        Outer::TxNoAccount => Inner::TxNoAccount,
        Outer::TxInsufficientFee => Inner::TxInsufficientFee,
        Outer::TxBadAuthExtra => Inner::TxBadAuthExtra,
        Outer::TxNotSupported => Inner::TxNotSupported,
        Outer::TxBadSponsorship => Inner::TxBadSponsorship,
        Outer::TxBadMinSeqAgeOrGap => Inner::TxBadMinSeqAgeOrGap,
        Outer::TxMalformed => Inner::TxMalformed,
        Outer::TxSorobanInvalid => Inner::TxSorobanInvalid,
        Outer::TxFrozenKeyAccessed => Inner::TxFrozenKeyAccessed,
        Outer::TxInternalError | Outer::TxFeeBumpInnerSuccess(_) | Outer::TxFeeBumpInnerFailed(_) => {
            Inner::TxInternalError
        }
    };
    let pair = InnerTransactionResultPair {
        transaction_hash: inner_hash.clone(),
        result: InnerTransactionResult { fee_charged: 0, result: inner, ext: InnerTransactionResultExt::V0 },
    };
    if succeeded { Outer::TxFeeBumpInnerSuccess(pair) } else { Outer::TxFeeBumpInnerFailed(pair) }
}
