//! `ManageData`: named values of at most 64 bytes on an account.

use stellar_xdr::{
    AccountEntry, DataEntry, DataEntryExt, LedgerEntryData, LedgerEntryExt, LedgerKey, LedgerKeyData,
    ManageDataOp, ManageDataResult, OperationResultTr,
};

use super::Applied;
use crate::genesis;
use crate::ledger::entries::{Entries, Overlay};

pub(super) fn malformed(op: &ManageDataOp) -> Option<ManageDataResult> {
    let printable = op.data_name.iter().all(|byte| (0x20..0x7f).contains(byte));
    (op.data_name.is_empty() || !printable).then_some(ManageDataResult::InvalidName)
}

pub(super) fn apply(op: &ManageDataOp, mut source: AccountEntry, overlay: &mut Overlay<'_>) -> Applied {
    let fail = |result| Applied::failure(OperationResultTr::ManageData(result));
    let key = LedgerKey::Data(LedgerKeyData {
        account_id: source.account_id.clone(),
        data_name: op.data_name.clone(),
    });
    let exists = overlay.live(&key).is_some();
    match &op.data_value {
        Some(value) => {
            if !exists {
                if super::spendable(&source) < i64::from(genesis::BASE_RESERVE) {
                    return fail(ManageDataResult::LowReserve);
                }
                source.num_sub_entries += 1;
            }
            let entry = DataEntry {
                account_id: source.account_id.clone(),
                data_name: op.data_name.clone(),
                data_value: value.clone(),
                ext: DataEntryExt::V0,
            };
            overlay.put(LedgerEntryData::Data(entry), LedgerEntryExt::V0);
        }
        None if !exists => return fail(ManageDataResult::NameNotFound),
        None => {
            source.num_sub_entries -= 1;
            overlay.remove(&key);
        }
    }
    overlay.put_account(source);
    Applied::success(OperationResultTr::ManageData(ManageDataResult::Success))
}
