//! What a contract transaction declares: is it within the limits, and what does it cost before it runs.

use soroban_env_host::fees::{TransactionResources, compute_transaction_resource_fee};
use stellar_xdr::{LedgerKey, SorobanTransactionData, SorobanTransactionDataExt};

use super::Prices;
use crate::codec;
use crate::genesis::Limits;
use crate::ledger::entries::durability;

/// Whether declared resources stay within what one transaction may use. The error says which does not.
pub(crate) fn check_limits(data: &SorobanTransactionData, size: u32, limits: &Limits) -> Result<(), String> {
    let resources = &data.resources;
    let footprint = &resources.footprint;
    let keys = footprint.read_only.iter().chain(footprint.read_write.iter());
    let entries = (footprint.read_only.len() + footprint.read_write.len()) as u32;
    let within = |what: &str, value: u64, limit: u64| {
        if value <= limit { Ok(()) } else { Err(format!("{what}: {value}, at most {limit} are allowed")) }
    };
    within("instructions", resources.instructions.into(), limits.instructions as u64)?;
    within("bytes read from disk", resources.disk_read_bytes.into(), limits.disk_read_bytes.into())?;
    within("bytes written", resources.write_bytes.into(), limits.write_bytes.into())?;
    within("entries in the footprint", entries.into(), limits.footprint_entries.into())?;
    within("entries read from disk", disk_read_entries(data).into(), limits.disk_read_entries.into())?;
    within("entries written", footprint.read_write.len() as u64, limits.write_entries.into())?;
    within("bytes of the transaction", size.into(), limits.transaction_bytes.into())?;
    if data.resource_fee < 0 {
        return Err("the resource fee is negative".to_owned());
    }
    for key in keys {
        match key {
            LedgerKey::ContractData(_) | LedgerKey::ContractCode(_) => {
                within("bytes of a key", codec::encode(key).len() as u64, limits.data_key_bytes.into())?;
            }
            LedgerKey::Account(_) | LedgerKey::Trustline(_) => {}
            _ => return Err("a key in the footprint is of a kind that contracts cannot use".to_owned()),
        }
    }
    let archived = archived_indices(data);
    let in_order = archived.windows(2).all(|pair| pair[0] < pair[1]);
    let all_persistent = archived.iter().all(|index| {
        footprint
            .read_write
            .get(*index as usize)
            .is_some_and(|key| durability(key) == Some(stellar_xdr::ContractDataDurability::Persistent))
    });
    if !in_order || !all_persistent {
        return Err("the indices of archived entries are not those of persistent keys, in order".to_owned());
    }
    Ok(())
}

/// The part of the resource fee that is charged whatever happens, in stroops.
pub(crate) fn non_refundable_fee(data: &SorobanTransactionData, size: u32, prices: &Prices) -> i64 {
    fee_of(data, size, 0, prices).0
}

/// The fee for contract events and return value of this many bytes, in stroops.
pub(crate) fn events_fee(data: &SorobanTransactionData, events_bytes: u32, prices: &Prices) -> i64 {
    fee_of(data, 0, events_bytes, prices).1
}

fn fee_of(data: &SorobanTransactionData, size: u32, events_bytes: u32, prices: &Prices) -> (i64, i64) {
    let resources = TransactionResources {
        instructions: data.resources.instructions,
        disk_read_entries: disk_read_entries(data),
        write_entries: data.resources.footprint.read_write.len() as u32,
        disk_read_bytes: data.resources.disk_read_bytes,
        write_bytes: data.resources.write_bytes,
        contract_events_size_bytes: events_bytes,
        transaction_size_bytes: size,
    };
    compute_transaction_resource_fee(&resources, &prices.fee_configuration)
}

/// Which keys of the read-write footprint the transaction wants restored.
pub(crate) fn archived_indices(data: &SorobanTransactionData) -> &[u32] {
    match &data.ext {
        SorobanTransactionDataExt::V1(ext) => ext.archived_soroban_entries.as_slice(),
        SorobanTransactionDataExt::V0 => &[],
    }
}

/// Live contract state is in memory; classic and restored entries come from disk.
fn disk_read_entries(data: &SorobanTransactionData) -> u32 {
    let footprint = &data.resources.footprint;
    let classic = footprint
        .read_only
        .iter()
        .chain(footprint.read_write.iter())
        .filter(|key| durability(key).is_none())
        .count();
    (classic + archived_indices(data).len()) as u32
}
