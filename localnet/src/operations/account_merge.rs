//! `AccountMerge`.

use stellar_xdr::{AccountEntry, AccountId, AccountMergeResult, MuxedAccount, OperationResultTr};

use super::{Applied, Closing};
use crate::events;
use crate::ledger::entries::{self, Overlay};
use crate::transaction::envelope::account_id;

pub(super) fn malformed(to: &MuxedAccount, source: &AccountId) -> Option<AccountMergeResult> {
    (account_id(to) == *source).then_some(AccountMergeResult::Malformed)
}

pub(super) fn apply(
    to: &MuxedAccount,
    source: AccountEntry,
    overlay: &mut Overlay<'_>,
    closing: &Closing,
) -> Applied {
    let fail = |result| Applied::failure(OperationResultTr::AccountMerge(result));
    let to = account_id(to);
    let Some(mut receiver) = entries::account(overlay, &to) else {
        return fail(AccountMergeResult::NoAccount);
    };
    if source.flags & 0x4 != 0 {
        return fail(AccountMergeResult::ImmutableSet);
    }
    if source.num_sub_entries as usize != source.signers.len() {
        return fail(AccountMergeResult::HasSubEntries);
    }
    // The key must not come back in this ledger with sequence numbers that were used.
    if source.seq_num.0 >= i64::from(closing.sequence) << 32 {
        return fail(AccountMergeResult::SeqnumTooFar);
    }
    let Some(balance) = receiver.balance.checked_add(source.balance) else {
        return fail(AccountMergeResult::DestFull);
    };
    receiver.balance = balance;
    overlay.put_account(receiver);
    overlay.remove(&entries::account_key(&source.account_id));
    Applied::success(OperationResultTr::AccountMerge(AccountMergeResult::Success(source.balance))).with_event(
        events::native_transfer(&closing.native_contract, &source.account_id, &to, source.balance),
    )
}
