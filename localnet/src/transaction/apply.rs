//! What a transaction does to the ledger: fee first, then sequence number, then operations, all or none.
//!
//! Each step reads the state and returns changes; the caller applies them. A step that fails leaves none behind.

use stellar_xdr::{
    AccountEntry, AccountEntryExt, AccountEntryExtensionV1, AccountEntryExtensionV1Ext,
    AccountEntryExtensionV2, AccountEntryExtensionV2Ext, AccountEntryExtensionV3, DiagnosticEvent,
    ExtensionPoint, LedgerEntryChange, LedgerEntryChanges, Liabilities, OperationMetaV2, OperationResult,
    SignerKey, SorobanTransactionMetaExt, SorobanTransactionMetaExtV1, SorobanTransactionMetaV2,
    SponsorshipDescriptor, TimePoint, TransactionResultResult as Code,
};

use super::check::{self, Stage};
use super::{Envelope, outcome};
use crate::ledger::entries::{self, Overlay};
use crate::ledger::state::State;
use crate::operations::{self, Applied, Closing};
use crate::soroban::{self, Terms, resources};

/// Takes the fee from whoever pays: the network's price of inclusion, and all of the declared resource fee.
///
/// Returns what was taken and the changes.
pub(crate) fn take_fee(
    envelope: &Envelope,
    state: &State,
    closing: &Closing,
) -> (i64, Vec<LedgerEntryChange>) {
    let Some(mut payer) = entries::account(state, &envelope.fee_source()) else { return (0, Vec::new()) };
    let inclusion = check::minimum_fee(envelope).min(envelope.inclusion_fee());
    let fee = inclusion.saturating_add(envelope.resource_fee()).min(payer.balance);
    payer.balance -= fee;
    let mut overlay = Overlay::new(state, closing.sequence);
    overlay.put_account(payer);
    (fee, overlay.changes())
}

/// Gives the unused part of the resource fee back.
pub(crate) fn give_back(
    envelope: &Envelope,
    refund: i64,
    state: &State,
    closing: &Closing,
) -> Vec<LedgerEntryChange> {
    // The payer may be gone (merged) by now; what nobody can receive stays in the fee pool.
    let Some(mut payer) = entries::account(state, &envelope.fee_source()) else { return Vec::new() };
    payer.balance = payer.balance.saturating_add(refund);
    let mut overlay = Overlay::new(state, closing.sequence);
    overlay.put_account(payer);
    overlay.changes()
}

/// What running a transaction gave.
pub(crate) struct Run {
    /// The code, already in the form that the envelope's kind asks for.
    pub code: Code,
    pub before: Vec<LedgerEntryChange>,
    pub operations: Vec<OperationMetaV2>,
    pub soroban: Option<SorobanTransactionMetaV2>,
    pub diagnostics: Vec<DiagnosticEvent>,
    /// Part of the resource fee that was not used, in stroops.
    pub refund: i64,
}

/// Runs a transaction whose fee was taken.
pub(crate) fn run(envelope: &Envelope, state: &State, terms: &Terms<'_>) -> Run {
    let Terms { closing, prices, .. } = terms;
    let refundable = envelope
        .soroban_data()
        .map_or(0, |data| data.resource_fee - resources::non_refundable_fee(data, envelope.size, prices));
    let mut run = Run {
        code: Code::TxInternalError,
        before: Vec::new(),
        operations: Vec::new(),
        soroban: None,
        diagnostics: Vec::new(),
        refund: refundable.max(0),
    };
    if let Err(refusal) = check::check(envelope, state, closing, prices, Stage::Applied) {
        run.code = refusal.result.result;
        if refusal.consumes_sequence {
            run.before = use_sequence(envelope, state, closing);
        }
        return run;
    }
    run.before = use_sequence(envelope, state, closing);
    let mut overlay = Overlay::new(state, closing.sequence);
    overlay.absorb(&run.before);
    let code = if envelope.is_soroban() {
        run_contract(envelope, &mut overlay, terms, &mut run)
    } else {
        run_classic(envelope, &mut overlay, closing, &mut run)
    };
    run.code = outcome::finished(envelope, 0, code).result;
    run
}

/// Moves the source's sequence number, and uses up signers that are good for this one transaction.
fn use_sequence(envelope: &Envelope, state: &State, closing: &Closing) -> Vec<LedgerEntryChange> {
    let mut overlay = Overlay::new(state, closing.sequence);
    if let Some(mut source) = entries::account(&overlay, &envelope.source()) {
        source.seq_num = envelope.transaction.seq_num.clone();
        note_sequence_change(&mut source, closing);
        overlay.put_account(source);
    }
    for id in check::acting_accounts(envelope) {
        let Some(mut account) = entries::account(&overlay, &id) else { continue };
        let once = SignerKey::PreAuthTx(stellar_xdr::Uint256(envelope.inner_hash.0));
        let mut signers = account.signers.to_vec();
        let Some(position) = signers.iter().position(|signer| signer.key == once) else { continue };
        signers.remove(position);
        if let AccountEntryExt::V1(v1) = &mut account.ext
            && let AccountEntryExtensionV1Ext::V2(v2) = &mut v1.ext
        {
            let mut sponsors = v2.signer_sponsoring_i_ds.to_vec();
            sponsors.remove(position);
            v2.signer_sponsoring_i_ds = sponsors.try_into().expect("one fewer than before");
        }
        account.signers = signers.try_into().expect("one fewer than before");
        account.num_sub_entries -= 1;
        overlay.put_account(account);
    }
    overlay.changes()
}

/// Notes when an account's sequence number changed last (CAP-21), in the extension that holds it.
pub(crate) fn note_sequence_change(account: &mut AccountEntry, closing: &Closing) {
    if let AccountEntryExt::V0 = account.ext {
        account.ext = AccountEntryExt::V1(AccountEntryExtensionV1 {
            liabilities: Liabilities { buying: 0, selling: 0 },
            ext: AccountEntryExtensionV1Ext::V0,
        });
    }
    let AccountEntryExt::V1(v1) = &mut account.ext else { return };
    if let AccountEntryExtensionV1Ext::V0 = v1.ext {
        let unsponsored = vec![SponsorshipDescriptor(None); account.signers.len()];
        v1.ext = AccountEntryExtensionV1Ext::V2(AccountEntryExtensionV2 {
            num_sponsored: 0,
            num_sponsoring: 0,
            signer_sponsoring_i_ds: unsponsored.try_into().expect("as many as signers"),
            ext: AccountEntryExtensionV2Ext::V0,
        });
    }
    let AccountEntryExtensionV1Ext::V2(v2) = &mut v1.ext else { return };
    v2.ext = AccountEntryExtensionV2Ext::V3(AccountEntryExtensionV3 {
        ext: ExtensionPoint::V0,
        seq_ledger: closing.sequence,
        seq_time: TimePoint(closing.close_time),
    });
}

fn run_classic(envelope: &Envelope, overlay: &mut Overlay<'_>, closing: &Closing, run: &mut Run) -> Code {
    let mut results = Vec::new();
    let mut metas = Vec::new();
    let mut all_succeeded = true;
    for operation in envelope.transaction.operations.iter() {
        let mut layer = Overlay::new(overlay, closing.sequence);
        let applied = match entries::account(&layer, &envelope.operation_source(operation)) {
            Some(source) => operations::apply(operation, source, &mut layer, closing),
            None => Applied::refused(OperationResult::OpNoAccount),
        };
        all_succeeded &= applied.succeeded;
        if applied.succeeded {
            let changes = layer.changes();
            overlay.absorb(&changes);
            metas.push(operation_meta(changes, &applied));
        }
        results.push(applied.result);
    }
    if all_succeeded {
        run.operations = metas;
    }
    outcome::of_operations(results, all_succeeded)
}

fn run_contract(envelope: &Envelope, overlay: &mut Overlay<'_>, terms: &Terms<'_>, run: &mut Run) -> Code {
    let mut layer = Overlay::new(overlay, terms.closing.sequence);
    let executed = soroban::apply(envelope, &mut layer, terms);
    run.diagnostics = executed.diagnostics;
    let succeeded = executed.applied.succeeded;
    if succeeded {
        run.refund -= executed.refundable_used;
        run.operations = vec![operation_meta(layer.changes(), &executed.applied)];
    }
    let non_refundable = envelope
        .soroban_data()
        .map_or(0, |data| resources::non_refundable_fee(data, envelope.size, terms.prices));
    run.soroban = Some(SorobanTransactionMetaV2 {
        ext: SorobanTransactionMetaExt::V1(SorobanTransactionMetaExtV1 {
            ext: ExtensionPoint::V0,
            total_non_refundable_resource_fee_charged: non_refundable,
            total_refundable_resource_fee_charged: executed.refundable_used,
            rent_fee_charged: executed.rent,
        }),
        return_value: executed.return_value,
    });
    outcome::of_operations(vec![executed.applied.result], succeeded)
}

fn operation_meta(changes: Vec<LedgerEntryChange>, applied: &Applied) -> OperationMetaV2 {
    OperationMetaV2 {
        ext: ExtensionPoint::V0,
        changes: LedgerEntryChanges(
            changes.try_into().expect("an operation changes a bounded number of entries"),
        ),
        events: applied.events.clone().try_into().expect("an operation's events are bounded"),
    }
}
