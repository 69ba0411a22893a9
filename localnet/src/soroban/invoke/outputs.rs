//! What the host gave back: is it within limits, and how it gets into the ledger.

use soroban_env_host::e2e_invoke::LedgerEntryChange as HostChange;
use stellar_xdr::{LedgerEntry, LedgerKey, SorobanTransactionData};

use super::Failure;
use crate::codec;
use crate::genesis::Limits;
use crate::ledger::entries::{Entries, Overlay, durability, live_until};

/// Whether what would be written is within what was declared and what an entry may be.
pub(super) fn check(
    changes: &[HostChange],
    data: &SorobanTransactionData,
    limits: &Limits,
) -> Result<(), Failure> {
    let mut written = 0;
    for change in changes.iter().filter(|change| !change.read_only) {
        let Some(value) = &change.encoded_new_value else { continue };
        written += value.len();
        let (what, allowed) = match key(change)? {
            LedgerKey::ContractCode(_) => ("bytes of a code entry", limits.contract_bytes as usize),
            LedgerKey::ContractData(_) => ("bytes of a data entry", limits.data_entry_bytes as usize),
            _ => continue,
        };
        if value.len() > allowed {
            return Err(Failure::over_limit(what, value.len(), allowed));
        }
    }
    let allowed = data.resources.write_bytes as usize;
    if written > allowed {
        return Err(Failure::over_limit("bytes written", written, allowed));
    }
    Ok(())
}

/// Writes the host's changes: values of the read-write footprint, longer lives of all of it.
pub(super) fn write(changes: Vec<HostChange>, overlay: &mut Overlay<'_>) -> Result<(), Failure> {
    for change in changes {
        let key = key(&change)?;
        match &change.encoded_new_value {
            _ if change.read_only => {}
            Some(value) => {
                let entry: LedgerEntry = codec::decode(value).map_err(|_| Failure::trapped())?;
                overlay.put(entry.data, entry.ext);
            }
            None => {
                if overlay.live(&key).is_some() {
                    overlay.remove(&key);
                }
                continue;
            }
        }
        if let Some(life) = &change.ttl_change
            && durability(&key).is_some()
            && overlay.live(&key).is_some()
            && live_until(overlay, &key).is_none_or(|old| life.new_live_until_ledger > old)
        {
            overlay.put_live_until(&key, life.new_live_until_ledger);
        }
    }
    Ok(())
}

fn key(change: &HostChange) -> Result<LedgerKey, Failure> {
    codec::decode(&change.encoded_key).map_err(|_| Failure::trapped())
}
