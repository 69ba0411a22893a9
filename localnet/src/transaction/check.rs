//! Whether the network takes a transaction: the checks of a validator, in a validator's order.
//!
//! They run when a transaction is submitted and again when it is applied (an earlier transaction of the same ledger
//! may have changed the account). They read the ledger and change nothing.

use std::collections::BTreeSet;

use stellar_xdr::{
    AccountEntry, AccountEntryExt, AccountEntryExtensionV1Ext, AccountEntryExtensionV2Ext, AccountId,
    HostFunction, InvokeHostFunctionResult, OperationBody, OperationResult, OperationResultTr,
    PreconditionsV2, SignerKey, TransactionExt, TransactionResult, TransactionResultResult as Code,
};

use super::envelope::FeeBump;
use super::outcome;
use super::signatures::{Signatures, Threshold};
use super::{Envelope, envelope};
use crate::genesis::{self, Limits};
use crate::ledger::entries::{self, Entries};
use crate::operations::{self, Closing};
use crate::soroban::{Prices, resources};

/// When the checks run: fees are taken before a transaction is applied, so only submission looks at the balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Submitted,
    Applied,
}

/// How far a refused transaction got.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The result as the network words it.
    pub result: TransactionResult,
    /// Whether its sequence number counts as used when this happens while applying.
    pub consumes_sequence: bool,
    /// Why, for a developer; the network's own results say only the code.
    pub detail: Option<String>,
}

/// Checks a transaction against the ledger as it stands, to go into the ledger `closing`.
pub(crate) fn check(
    envelope: &Envelope,
    entries: &dyn Entries,
    closing: &Closing,
    prices: &Prices,
    stage: Stage,
) -> Result<(), Refusal> {
    if let Some(bump) = &envelope.fee_bump {
        check_fee_bump(envelope, bump, entries, stage)?;
    }
    let refuse = |code, consumes_sequence, detail: Option<String>| Refusal {
        result: outcome::refused(envelope, minimum_fee(envelope), code),
        consumes_sequence,
        detail,
    };
    let conditions = envelope.preconditions();
    check_form(envelope, &conditions, prices).map_err(|(code, detail)| refuse(code, false, Some(detail)))?;
    check_time(&conditions, closing).map_err(|code| refuse(code, false, None))?;
    if envelope.fee_bump.is_none() && envelope.inclusion_fee() < minimum_fee(envelope) {
        return Err(refuse(Code::TxInsufficientFee, false, None));
    }
    let Some(source) = entries::account(entries, &envelope.source()) else {
        return Err(refuse(Code::TxNoAccount, false, None));
    };
    if is_bad_sequence(envelope.transaction.seq_num.0, &source, &conditions, closing) {
        let detail = format!(
            "the account's sequence number is {}, the transaction's is {}",
            source.seq_num.0, envelope.transaction.seq_num.0
        );
        return Err(refuse(Code::TxBadSeq, false, Some(detail)));
    }
    if is_too_early_for_account(&source, &conditions, closing) {
        return Err(refuse(Code::TxBadMinSeqAgeOrGap, true, None));
    }
    let mut signatures = Signatures::new(&envelope.inner_hash, &envelope.signatures);
    if !signatures.authorize(&source, Threshold::Low) || !signatures.authorize_each(&conditions.extra_signers)
    {
        return Err(refuse(Code::TxBadAuth, true, None));
    }
    if stage == Stage::Submitted
        && envelope.fee_bump.is_none()
        && operations::spendable(&source) < envelope.full_fee()
    {
        return Err(refuse(Code::TxInsufficientBalance, true, None));
    }
    check_operations(envelope, entries, &mut signatures, stage).map_err(|code| refuse(code, true, None))?;
    if !signatures.all_used() {
        return Err(refuse(Code::TxBadAuthExtra, true, None));
    }
    Ok(())
}

/// The least a transaction pays for inclusion, in stroops.
pub(crate) fn minimum_fee(envelope: &Envelope) -> i64 {
    i64::from(genesis::BASE_FEE) * envelope.charged_operations().max(1)
}

fn check_fee_bump(
    envelope: &Envelope,
    bump: &FeeBump,
    entries: &dyn Entries,
    stage: Stage,
) -> Result<(), Refusal> {
    let refuse = |fee, code| Refusal {
        result: outcome::outer_refused(fee, code),
        consumes_sequence: false,
        detail: None,
    };
    let minimum = minimum_fee(envelope);
    if envelope.inclusion_fee() < minimum {
        return Err(refuse(minimum, Code::TxInsufficientFee));
    }
    // The rate of the outer fee must not be below the rate of the inner one.
    let inner_minimum = i128::from(genesis::BASE_FEE) * envelope.transaction.operations.len().max(1) as i128;
    let inner_inclusion =
        i128::from(i64::from(envelope.transaction.fee).saturating_sub(envelope.resource_fee()));
    if i128::from(envelope.inclusion_fee()) * inner_minimum < inner_inclusion * i128::from(minimum) {
        return Err(refuse(minimum, Code::TxInsufficientFee));
    }
    let Some(payer) = entries::account(entries, &bump.source) else {
        return Err(refuse(minimum, Code::TxNoAccount));
    };
    let mut signatures = Signatures::new(&envelope.hash, &bump.signatures);
    if !signatures.authorize(&payer, Threshold::Low) {
        return Err(refuse(minimum, Code::TxBadAuth));
    }
    if stage == Stage::Submitted && operations::spendable(&payer) < bump.fee {
        return Err(refuse(minimum, Code::TxInsufficientBalance));
    }
    if !signatures.all_used() {
        return Err(refuse(minimum, Code::TxBadAuthExtra));
    }
    Ok(())
}

/// Checks that need no account.
fn check_form(
    envelope: &Envelope,
    conditions: &PreconditionsV2,
    prices: &Prices,
) -> Result<(), (Code, String)> {
    let transaction = &envelope.transaction;
    let malformed = |why: &str| (Code::TxMalformed, why.to_owned());
    if let [first, second] = conditions.extra_signers.as_slice()
        && first == second
    {
        return Err(malformed("the two extra signers are the same"));
    }
    let empty_payload =
        |key: &SignerKey| matches!(key, SignerKey::Ed25519SignedPayload(signed) if signed.payload.is_empty());
    if conditions.extra_signers.iter().any(empty_payload) {
        return Err(malformed("an extra signer's payload is empty"));
    }
    if transaction.operations.is_empty() {
        return Err((Code::TxMissingOperation, "the transaction has no operation".to_owned()));
    }
    if !envelope.is_soroban() {
        return match transaction.ext {
            TransactionExt::V0 => Ok(()),
            TransactionExt::V1(_) => {
                Err(malformed("contract resources on a transaction without contract operation"))
            }
        };
    }
    if transaction.operations.len() != 1 {
        return Err(malformed("a contract operation must be the only one of its transaction"));
    }
    let Some(data) = envelope.soroban_data() else {
        return Err(malformed("a contract operation needs contract resources: simulate it first"));
    };
    let invalid = |why: String| (Code::TxSorobanInvalid, why);
    resources::check_limits(data, envelope.size, &Limits::of_network()).map_err(invalid)?;
    if envelope.fee_bump.is_none() && data.resource_fee > envelope.full_fee() {
        return Err(invalid("the resource fee is higher than the full fee".to_owned()));
    }
    let needed = resources::non_refundable_fee(data, envelope.size, prices);
    if data.resource_fee < needed {
        return Err(invalid(format!("the resource fee is {}, {needed} are needed", data.resource_fee)));
    }
    let footprint = &data.resources.footprint;
    let mut seen = BTreeSet::new();
    if !footprint.read_only.iter().chain(footprint.read_write.iter()).all(|key| seen.insert(key)) {
        return Err(invalid("a key is twice in the footprint".to_owned()));
    }
    Ok(())
}

fn check_time(conditions: &PreconditionsV2, closing: &Closing) -> Result<(), Code> {
    if let Some(bounds) = &conditions.time_bounds {
        if bounds.min_time.0 > closing.close_time {
            return Err(Code::TxTooEarly);
        }
        if bounds.max_time.0 != 0 && bounds.max_time.0 < closing.close_time {
            return Err(Code::TxTooLate);
        }
    }
    if let Some(bounds) = &conditions.ledger_bounds {
        if bounds.min_ledger > closing.sequence {
            return Err(Code::TxTooEarly);
        }
        if bounds.max_ledger != 0 && bounds.max_ledger <= closing.sequence {
            return Err(Code::TxTooLate);
        }
    }
    Ok(())
}

fn is_bad_sequence(
    sequence: i64,
    source: &AccountEntry,
    conditions: &PreconditionsV2,
    closing: &Closing,
) -> bool {
    if sequence == i64::from(closing.sequence) << 32 {
        return true;
    }
    let current = source.seq_num.0;
    match &conditions.min_seq_num {
        Some(minimum) => current < minimum.0 || current >= sequence,
        None => current == i64::MAX || current + 1 != sequence,
    }
}

fn is_too_early_for_account(source: &AccountEntry, conditions: &PreconditionsV2, closing: &Closing) -> bool {
    let (mut seq_ledger, mut seq_time) = (0, 0);
    if let AccountEntryExt::V1(v1) = &source.ext
        && let AccountEntryExtensionV1Ext::V2(v2) = &v1.ext
        && let AccountEntryExtensionV2Ext::V3(v3) = &v2.ext
    {
        (seq_ledger, seq_time) = (v3.seq_ledger, v3.seq_time.0);
    }
    closing.close_time.checked_sub(conditions.min_seq_age.0).is_none_or(|time| time < seq_time)
        || closing
            .sequence
            .checked_sub(conditions.min_seq_ledger_gap)
            .is_none_or(|ledger| ledger < seq_ledger)
}

/// Signatures and form of each operation. While applying, only signatures are looked at.
fn check_operations(
    envelope: &Envelope,
    entries: &dyn Entries,
    signatures: &mut Signatures<'_>,
    stage: Stage,
) -> Result<(), Code> {
    let mut all_good = true;
    let mut results = Vec::new();
    for operation in envelope.transaction.operations.iter() {
        let source = envelope.operation_source(operation);
        let refused = check_signed(envelope, operation, &source, entries, signatures, stage)
            .or_else(
                || if stage == Stage::Submitted { operations::malformed(operation, &source) } else { None },
            )
            .or_else(|| if stage == Stage::Submitted { too_large(&operation.body) } else { None });
        all_good &= refused.is_none();
        results.push(refused.unwrap_or_else(|| success_placeholder(&operation.body)));
    }
    if all_good { Ok(()) } else { Err(outcome::of_operations(results, false)) }
}

fn check_signed(
    envelope: &Envelope,
    operation: &stellar_xdr::Operation,
    source: &AccountId,
    entries: &dyn Entries,
    signatures: &mut Signatures<'_>,
    stage: Stage,
) -> Option<OperationResult> {
    match entries::account(entries, source) {
        Some(account) => (!signatures.authorize(&account, operations::threshold(operation)))
            .then_some(OperationResult::OpBadAuth),
        None if stage == Stage::Applied || *source == envelope.source() => Some(OperationResult::OpNoAccount),
        // Its account may be created by an earlier operation of this transaction.
        None => (!signatures.authorize_key(source)).then_some(OperationResult::OpBadAuth),
    }
}

fn too_large(body: &OperationBody) -> Option<OperationResult> {
    let OperationBody::InvokeHostFunction(invoke) = body else { return None };
    let HostFunction::UploadContractWasm(wasm) = &invoke.host_function else { return None };
    (wasm.len() > Limits::of_network().contract_bytes as usize).then_some(OperationResult::OpInner(
        OperationResultTr::InvokeHostFunction(InvokeHostFunctionResult::Malformed),
    ))
}

/// The result that stands for "nothing wrong here" beside another operation's failure.
fn success_placeholder(body: &OperationBody) -> OperationResult {
    use stellar_xdr as xdr;
    let result = match body {
        OperationBody::CreateAccount(_) => {
            OperationResultTr::CreateAccount(xdr::CreateAccountResult::Success)
        }
        OperationBody::Payment(_) => OperationResultTr::Payment(xdr::PaymentResult::Success),
        OperationBody::SetOptions(_) => OperationResultTr::SetOptions(xdr::SetOptionsResult::Success),
        OperationBody::ManageData(_) => OperationResultTr::ManageData(xdr::ManageDataResult::Success),
        OperationBody::BumpSequence(_) => OperationResultTr::BumpSequence(xdr::BumpSequenceResult::Success),
        OperationBody::AccountMerge(_) => {
            OperationResultTr::AccountMerge(xdr::AccountMergeResult::Success(0))
        }
        OperationBody::ExtendFootprintTtl(_) => {
            OperationResultTr::ExtendFootprintTtl(xdr::ExtendFootprintTtlResult::Success)
        }
        OperationBody::RestoreFootprint(_) => {
            OperationResultTr::RestoreFootprint(xdr::RestoreFootprintResult::Success)
        }
        OperationBody::InvokeHostFunction(_) => {
            OperationResultTr::InvokeHostFunction(InvokeHostFunctionResult::Success(xdr::Hash([0; 32])))
        }
        _ => return OperationResult::OpNotSupported,
    };
    OperationResult::OpInner(result)
}

/// The accounts whose one-time signers a transaction uses up.
pub(crate) fn acting_accounts(envelope: &Envelope) -> BTreeSet<AccountId> {
    std::iter::once(envelope.source())
        .chain(
            envelope
                .transaction
                .operations
                .iter()
                .filter_map(|op| op.source_account.as_ref())
                .map(envelope::account_id),
        )
        .collect()
}
