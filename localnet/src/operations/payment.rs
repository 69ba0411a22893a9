//! `Payment`, in the native asset; no other asset can be held here.

use stellar_xdr::{AccountEntry, Asset, OperationResultTr, PaymentOp, PaymentResult};

use super::{Applied, Closing};
use crate::events;
use crate::ledger::entries::{self, Overlay};
use crate::transaction::envelope::account_id;

pub(super) fn malformed(op: &PaymentOp) -> Option<PaymentResult> {
    (op.amount <= 0).then_some(PaymentResult::Malformed)
}

pub(super) fn apply(
    op: &PaymentOp,
    source: AccountEntry,
    overlay: &mut Overlay<'_>,
    closing: &Closing,
) -> Applied {
    let fail = |result| Applied::failure(OperationResultTr::Payment(result));
    let destination = account_id(&op.destination);
    if entries::account(overlay, &destination).is_none() {
        return fail(PaymentResult::NoDestination);
    }
    if op.asset != Asset::Native {
        return fail(PaymentResult::SrcNoTrust);
    }
    if super::spendable(&source) < op.amount {
        return fail(PaymentResult::Underfunded);
    }
    let from = source.account_id.clone();
    let mut source = source;
    source.balance -= op.amount;
    overlay.put_account(source);
    // Read after the debit: an account may pay itself.
    let mut receiver = entries::account(overlay, &destination).expect("checked above");
    let Some(balance) = receiver.balance.checked_add(op.amount) else { return fail(PaymentResult::LineFull) };
    receiver.balance = balance;
    overlay.put_account(receiver);
    Applied::success(OperationResultTr::Payment(PaymentResult::Success)).with_event(events::native_transfer(
        &closing.native_contract,
        &from,
        &destination,
        op.amount,
    ))
}
