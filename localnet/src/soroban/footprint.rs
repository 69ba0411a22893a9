//! `ExtendFootprintTtl` and `RestoreFootprint`: lives of entries, without running a contract.

use soroban_env_host::fees::{LedgerEntryRentChange, compute_rent_fee};
use stellar_xdr::{
    ContractDataDurability, ExtendFootprintTtlOp, ExtendFootprintTtlResult, LedgerKey, OperationResult,
    OperationResultTr, RestoreFootprintResult,
};

use super::{Declared, Executed, Terms, invoke};
use crate::codec;
use crate::ledger::entries::{Entries, Overlay, durability, live_until};
use crate::operations::Applied;

/// Extends the life of the live entries in the read-only footprint.
pub(super) fn extend(
    op: &ExtendFootprintTtlOp,
    Declared { data, refundable }: Declared<'_>,
    overlay: &mut Overlay<'_>,
    Terms { closing, prices, .. }: &Terms<'_>,
) -> Executed {
    let fail = |result| Executed::failed(OperationResultTr::ExtendFootprintTtl(result), Vec::new());
    let footprint = &data.resources.footprint;
    let only_lives = footprint.read_only.iter().all(|key| durability(key).is_some());
    if !footprint.read_write.is_empty() || !only_lives || op.extend_to >= prices.max_entry_ttl {
        return fail(ExtendFootprintTtlResult::Malformed);
    }
    let until = closing.sequence.saturating_add(op.extend_to);
    let mut rent_changes = Vec::new();
    for key in footprint.read_only.iter() {
        let Some(entry) = overlay.live(key) else { continue };
        let Some(old) = live_until(overlay, key).filter(|old| *old < until) else { continue };
        let size = super::rent_size(&entry, prices);
        rent_changes.push(rent_change(key, size, (old, size), until));
        overlay.put_live_until(key, until);
    }
    let rent = compute_rent_fee(&rent_changes, &prices.rent_fee_configuration, closing.sequence);
    if rent > refundable {
        return fail(ExtendFootprintTtlResult::InsufficientRefundableFee);
    }
    done(OperationResultTr::ExtendFootprintTtl(ExtendFootprintTtlResult::Success), rent)
}

/// Brings the archived entries of the read-write footprint back.
pub(super) fn restore(
    Declared { data, refundable }: Declared<'_>,
    overlay: &mut Overlay<'_>,
    Terms { closing, prices, .. }: &Terms<'_>,
) -> Executed {
    let fail = |result| Executed::failed(OperationResultTr::RestoreFootprint(result), Vec::new());
    let footprint = &data.resources.footprint;
    let only_persistent =
        footprint.read_write.iter().all(|key| durability(key) == Some(ContractDataDurability::Persistent));
    if !footprint.read_only.is_empty() || !only_persistent {
        return fail(RestoreFootprintResult::Malformed);
    }
    let until = invoke::restored_until(closing, prices);
    let mut rent_changes = Vec::new();
    let mut bytes = 0_u32;
    for key in footprint.read_write.iter() {
        let Some(entry) = overlay.archived(key) else { continue };
        bytes = bytes.saturating_add(codec::encode(&*entry).len() as u32);
        if bytes > data.resources.disk_read_bytes || bytes > data.resources.write_bytes {
            return fail(RestoreFootprintResult::ResourceLimitExceeded);
        }
        rent_changes.push(rent_change(key, super::rent_size(&entry, prices), (0, 0), until));
        overlay.restore(key, until);
    }
    let rent = compute_rent_fee(&rent_changes, &prices.rent_fee_configuration, closing.sequence);
    if rent > refundable {
        return fail(RestoreFootprintResult::InsufficientRefundableFee);
    }
    done(OperationResultTr::RestoreFootprint(RestoreFootprintResult::Success), rent)
}

fn rent_change(
    key: &LedgerKey,
    size: u32,
    (old_until, old_size): (u32, u32),
    until: u32,
) -> LedgerEntryRentChange {
    LedgerEntryRentChange {
        is_persistent: durability(key) == Some(ContractDataDurability::Persistent),
        is_code_entry: matches!(key, LedgerKey::ContractCode(_)),
        old_size_bytes: old_size,
        new_size_bytes: size,
        old_live_until_ledger: old_until,
        new_live_until_ledger: until,
    }
}

fn done(result: OperationResultTr, rent: i64) -> Executed {
    Executed {
        applied: Applied { result: OperationResult::OpInner(result), succeeded: true, events: Vec::new() },
        return_value: None,
        diagnostics: Vec::new(),
        refundable_used: rent,
        rent,
    }
}
