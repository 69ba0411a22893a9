//! What the host gets to see: the entries of the footprint, in its order.

use soroban_env_host::e2e_invoke::TtlLedgerEntryMeta;
use stellar_xdr::{InvokeHostFunctionResult as Code, LedgerEntry, LedgerKey, SorobanTransactionData};

use super::{Failure, Prices, resources, restored_until};
use crate::codec;
use crate::ledger::entries::{Entries, Overlay, live_until};
use crate::operations::Closing;

/// The entries, and which of the read-write footprint are archived now and to be restored.
pub(super) struct Inputs {
    pub entries: Vec<(Option<Vec<u8>>, Option<TtlLedgerEntryMeta>)>,
    pub restored: Vec<u32>,
}

/// Reads the footprint. An archived entry is seen only where the transaction asked for its restoration; one that an
/// earlier transaction restored is simply live.
pub(super) fn read(
    data: &SorobanTransactionData,
    overlay: &Overlay<'_>,
    closing: &Closing,
    prices: &Prices,
) -> Result<Inputs, Failure> {
    let footprint = &data.resources.footprint;
    let mut inputs = Inputs { entries: Vec::new(), restored: Vec::new() };
    let mut disk_bytes = 0;
    let read_only = footprint.read_only.iter().map(|key| (key, None));
    let read_write = footprint.read_write.iter().zip(0_u32..).map(|(key, index)| (key, Some(index)));
    for (key, index) in read_only.chain(read_write) {
        if let Some(entry) = overlay.live(key) {
            let encoded = codec::encode(&*entry);
            let life = live_until(overlay, key);
            if life.is_none() {
                disk_bytes += encoded.len();
            }
            inputs.entries.push((Some(encoded), life.map(|life| meta(&entry, life, prices))));
        } else if let Some(entry) = overlay.archived(key) {
            let Some(index) = index.filter(|index| resources::archived_indices(data).contains(index)) else {
                return Err(archived(key));
            };
            let encoded = codec::encode(&*entry);
            disk_bytes += encoded.len();
            inputs.restored.push(index);
            inputs.entries.push((Some(encoded), Some(meta(&entry, restored_until(closing, prices), prices))));
        } else {
            inputs.entries.push((None, None));
        }
    }
    let allowed = data.resources.disk_read_bytes as usize;
    if disk_bytes > allowed {
        return Err(Failure::over_limit("bytes read from disk", disk_bytes, allowed));
    }
    Ok(inputs)
}

fn meta(entry: &LedgerEntry, live_until_ledger: u32, prices: &Prices) -> TtlLedgerEntryMeta {
    TtlLedgerEntryMeta { live_until_ledger, entry_size_for_rent: super::super::rent_size(entry, prices) }
}

fn archived(key: &LedgerKey) -> Failure {
    let kind = if matches!(key, LedgerKey::ContractCode(_)) { "code" } else { "data" };
    let why = format!("trying to access an archived contract {kind} entry");
    Failure { code: Code::EntryArchived, why: Some(why) }
}
