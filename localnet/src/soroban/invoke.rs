//! `InvokeHostFunction`: the enforcing execution of a contract call, creation or upload.
//!
//! The footprint decides what the host sees; everything the host changed is written to the overlay or nothing is.

use soroban_env_host::budget::Budget;
use soroban_env_host::e2e_invoke::{
    InvokeHostFunctionResult as HostOutcome, LedgerEntryChange as HostChange, TtlLedgerEntryMeta,
    extract_rent_changes, invoke_host_function,
};
use soroban_env_host::fees::compute_rent_fee;
use stellar_xdr::{
    AccountId, ContractEvent, DiagnosticEvent, InvokeHostFunctionOp, InvokeHostFunctionResult,
    InvokeHostFunctionSuccessPreImage, LedgerEntry, LedgerKey, OperationResult, OperationResultTr, ScVal,
    SorobanTransactionData,
};

use super::{Declared, Executed, Prices, Terms, resources};
use crate::codec;
use crate::genesis::Limits;
use crate::ledger::entries::{Entries, Overlay, durability, live_until};
use crate::operations::{Applied, Closing};

type Failure = InvokeHostFunctionResult;

/// Runs a host function within declared resources.
pub(super) fn apply(
    op: &InvokeHostFunctionOp,
    source: &AccountId,
    declared: Declared<'_>,
    overlay: &mut Overlay<'_>,
    terms: &Terms<'_>,
) -> Executed {
    let mut diagnostics = Vec::new();
    match run(op, source, declared, overlay, terms, &mut diagnostics) {
        Ok(mut executed) => {
            executed.diagnostics = diagnostics;
            executed
        }
        Err(failure) => Executed::failed(OperationResultTr::InvokeHostFunction(failure), diagnostics),
    }
}

fn run(
    op: &InvokeHostFunctionOp,
    source: &AccountId,
    Declared { data, refundable }: Declared<'_>,
    overlay: &mut Overlay<'_>,
    Terms { closing, prices, modules, seed }: &Terms<'_>,
    diagnostics: &mut Vec<DiagnosticEvent>,
) -> Result<Executed, Failure> {
    let limits = Limits::of_network();
    let inputs = read_footprint(data, overlay, closing, prices)?;
    let budget = super::budget(prices, data.resources.instructions.into(), limits.memory.into());
    let auth: Vec<Vec<u8>> = op.auth.iter().map(codec::encode).collect();
    let outcome = invoke_host_function(
        &budget,
        true,
        codec::encode(&op.host_function),
        codec::encode(&data.resources),
        resources::archived_indices(data),
        codec::encode(source),
        auth.into_iter(),
        super::ledger_info(closing, prices),
        inputs.into_iter(),
        seed.to_vec(),
        diagnostics,
        None,
        Some(modules.handle()),
    );
    let exceeded = exceeded(&budget, data, &limits);
    let HostOutcome { encoded_invoke_result: Ok(encoded), ledger_changes, encoded_contract_events } =
        outcome.map_err(|_| if exceeded { Failure::ResourceLimitExceeded } else { Failure::Trapped })?
    else {
        return Err(if exceeded { Failure::ResourceLimitExceeded } else { Failure::Trapped });
    };

    check_writes(&ledger_changes, data, &limits)?;
    let events_bytes = (encoded.len() + encoded_contract_events.iter().map(Vec::len).sum::<usize>()) as u32;
    if events_bytes > limits.events_bytes {
        return Err(Failure::ResourceLimitExceeded);
    }
    let rent = compute_rent_fee(
        &extract_rent_changes(&ledger_changes),
        &prices.rent_fee_configuration,
        closing.sequence,
    );
    let refundable_used = rent.saturating_add(resources::events_fee(data, events_bytes, prices));
    if refundable_used > refundable {
        return Err(Failure::InsufficientRefundableFee);
    }

    let return_value: ScVal = codec::decode(&encoded).map_err(|_| Failure::Trapped)?;
    let events: Vec<ContractEvent> = encoded_contract_events
        .iter()
        .map(|event| codec::decode(event))
        .collect::<Result<_, _>>()
        .map_err(|_| Failure::Trapped)?;
    restore_requested(data, overlay, closing, prices);
    write(ledger_changes, overlay)?;
    let preimage = InvokeHostFunctionSuccessPreImage {
        return_value: return_value.clone(),
        events: events.clone().try_into().map_err(|_| Failure::Trapped)?,
    };
    let result = InvokeHostFunctionResult::Success(codec::hash_of(&preimage));
    Ok(Executed {
        applied: Applied {
            result: OperationResult::OpInner(OperationResultTr::InvokeHostFunction(result)),
            succeeded: true,
            events,
        },
        return_value: Some(return_value),
        diagnostics: Vec::new(),
        refundable_used,
        rent,
    })
}

type HostInput = (Option<Vec<u8>>, Option<TtlLedgerEntryMeta>);

/// The entries of the footprint in its order, archived ones only where the transaction asked for them.
fn read_footprint(
    data: &SorobanTransactionData,
    overlay: &Overlay<'_>,
    closing: &Closing,
    prices: &Prices,
) -> Result<Vec<HostInput>, Failure> {
    let footprint = &data.resources.footprint;
    let mut inputs = Vec::with_capacity(footprint.read_only.len() + footprint.read_write.len());
    let mut disk_bytes = 0_u32;
    let restorable = |index: Option<usize>| {
        index.is_some_and(|index| resources::archived_indices(data).contains(&(index as u32)))
    };
    let keys = footprint
        .read_only
        .iter()
        .map(|key| (key, None))
        .chain(footprint.read_write.iter().enumerate().map(|(index, key)| (key, Some(index))));
    for (key, index) in keys {
        if let Some(entry) = overlay.live(key) {
            let encoded = codec::encode(&*entry);
            let life = live_until(overlay, key);
            if life.is_none() {
                disk_bytes = disk_bytes.saturating_add(encoded.len() as u32);
            }
            inputs.push((Some(encoded), life.map(|life| meta(&entry, life, prices))));
        } else if let Some(entry) = overlay.archived(key) {
            if !restorable(index) {
                return Err(Failure::EntryArchived);
            }
            let encoded = codec::encode(&*entry);
            disk_bytes = disk_bytes.saturating_add(encoded.len() as u32);
            inputs.push((Some(encoded), Some(meta(&entry, restored_until(closing, prices), prices))));
        } else {
            inputs.push((None, None));
        }
    }
    if disk_bytes > data.resources.disk_read_bytes {
        return Err(Failure::ResourceLimitExceeded);
    }
    Ok(inputs)
}

fn meta(entry: &LedgerEntry, live_until_ledger: u32, prices: &Prices) -> TtlLedgerEntryMeta {
    TtlLedgerEntryMeta { live_until_ledger, entry_size_for_rent: super::rent_size(entry, prices) }
}

/// The last ledger in which an entry restored in this ledger is live.
pub(super) fn restored_until(closing: &Closing, prices: &Prices) -> u32 {
    closing.sequence.saturating_add(prices.min_persistent_entry_ttl.saturating_sub(1))
}

fn exceeded(budget: &Budget, data: &SorobanTransactionData, limits: &Limits) -> bool {
    let cpu = budget.get_cpu_insns_consumed().unwrap_or(u64::MAX);
    let memory = budget.get_mem_bytes_consumed().unwrap_or(u64::MAX);
    cpu > u64::from(data.resources.instructions) || memory > u64::from(limits.memory)
}

fn check_writes(
    changes: &[HostChange],
    data: &SorobanTransactionData,
    limits: &Limits,
) -> Result<(), Failure> {
    let mut written = 0_usize;
    for change in changes.iter().filter(|change| !change.read_only) {
        let Some(value) = &change.encoded_new_value else { continue };
        written += value.len();
        let key: LedgerKey = codec::decode(&change.encoded_key).map_err(|_| Failure::Trapped)?;
        let too_large = match key {
            LedgerKey::ContractCode(_) => value.len() > limits.contract_bytes as usize + 1_024,
            LedgerKey::ContractData(_) => value.len() > limits.data_entry_bytes as usize,
            _ => false,
        };
        if too_large {
            return Err(Failure::ResourceLimitExceeded);
        }
    }
    if written > data.resources.write_bytes as usize {
        return Err(Failure::ResourceLimitExceeded);
    }
    Ok(())
}

fn restore_requested(
    data: &SorobanTransactionData,
    overlay: &mut Overlay<'_>,
    closing: &Closing,
    prices: &Prices,
) {
    let until = restored_until(closing, prices);
    for index in resources::archived_indices(data) {
        if let Some(key) = data.resources.footprint.read_write.get(*index as usize) {
            // Restored already by an earlier transaction: nothing to do.
            overlay.restore(key, until);
        }
    }
}

fn write(changes: Vec<HostChange>, overlay: &mut Overlay<'_>) -> Result<(), Failure> {
    for change in changes {
        let key: LedgerKey = codec::decode(&change.encoded_key).map_err(|_| Failure::Trapped)?;
        if !change.read_only {
            match &change.encoded_new_value {
                Some(value) => {
                    let entry: LedgerEntry = codec::decode(value).map_err(|_| Failure::Trapped)?;
                    overlay.put(entry.data, entry.ext);
                }
                None => {
                    if overlay.live(&key).is_some() {
                        overlay.remove(&key);
                    }
                    continue;
                }
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
