//! `CreateAccount`.

use stellar_xdr::{AccountEntry, AccountId, CreateAccountOp, CreateAccountResult, OperationResultTr};

use super::{Applied, Closing};
use crate::events;
use crate::genesis;
use crate::ledger::entries::{self, Overlay};

pub(super) fn malformed(op: &CreateAccountOp, source: &AccountId) -> Option<CreateAccountResult> {
    (op.starting_balance < 0 || op.destination == *source).then_some(CreateAccountResult::Malformed)
}

pub(super) fn apply(
    op: &CreateAccountOp,
    mut source: AccountEntry,
    overlay: &mut Overlay<'_>,
    closing: &Closing,
) -> Applied {
    let fail = |result| Applied::failure(OperationResultTr::CreateAccount(result));
    if entries::account(overlay, &op.destination).is_some() {
        return fail(CreateAccountResult::AlreadyExist);
    }
    if op.starting_balance < 2 * i64::from(genesis::BASE_RESERVE) {
        return fail(CreateAccountResult::LowReserve);
    }
    if super::spendable(&source) < op.starting_balance {
        return fail(CreateAccountResult::Underfunded);
    }
    let from = source.account_id.clone();
    source.balance -= op.starting_balance;
    overlay.put_account(source);
    // Sequence numbers of a new account start above those that an earlier account of this key can have used.
    let sequence = i64::from(closing.sequence) << 32;
    overlay.put_account(genesis::new_account(op.destination.clone(), op.starting_balance, sequence));
    Applied::success(OperationResultTr::CreateAccount(CreateAccountResult::Success)).with_event(
        events::native_transfer(&closing.native_contract, &from, &op.destination, op.starting_balance),
    )
}
