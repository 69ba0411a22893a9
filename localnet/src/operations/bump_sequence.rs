//! `BumpSequence`.

use stellar_xdr::{AccountEntry, BumpSequenceOp, BumpSequenceResult, OperationResultTr};

use super::{Applied, Closing};
use crate::ledger::entries::Overlay;
use crate::transaction::apply::note_sequence_change;

pub(super) fn malformed(op: &BumpSequenceOp) -> Option<BumpSequenceResult> {
    (op.bump_to.0 < 0).then_some(BumpSequenceResult::BadSeq)
}

pub(super) fn apply(
    op: &BumpSequenceOp,
    mut source: AccountEntry,
    overlay: &mut Overlay<'_>,
    closing: &Closing,
) -> Applied {
    if op.bump_to.0 > source.seq_num.0 {
        source.seq_num = op.bump_to.clone();
        note_sequence_change(&mut source, closing);
        overlay.put_account(source);
    }
    Applied::success(OperationResultTr::BumpSequence(BumpSequenceResult::Success))
}
