//! `InvokeHostFunction`: the enforcing execution of a contract call, creation or upload.
//!
//! The footprint decides what the host sees; everything the host changed is written to the overlay or nothing is.

mod inputs;
mod outputs;

use soroban_env_host::budget::Budget;
use soroban_env_host::e2e_invoke::{
    InvokeHostFunctionResult as HostOutcome, extract_rent_changes, invoke_host_function,
};
use soroban_env_host::fees::compute_rent_fee;
use stellar_xdr::{
    AccountId, ContractEvent, DiagnosticEvent, InvokeHostFunctionOp, InvokeHostFunctionResult as Code,
    InvokeHostFunctionSuccessPreImage, OperationResult, OperationResultTr, ScVal, SorobanTransactionData,
};

use super::{Declared, Executed, Prices, Terms, resources};
use crate::genesis::Limits;
use crate::ledger::entries::Overlay;
use crate::operations::{Applied, Closing};
use crate::{codec, events};
use inputs::Inputs;

/// Why an invocation failed.
struct Failure {
    code: Code,
    /// For a developer, where the host has not said it.
    why: Option<String>,
}

impl Failure {
    fn trapped() -> Self {
        Self { code: Code::Trapped, why: None }
    }

    fn over_limit(what: &str, used: usize, allowed: usize) -> Self {
        Self {
            code: Code::ResourceLimitExceeded,
            why: Some(format!("{what}: {used}, {allowed} are allowed")),
        }
    }
}

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
        Err(Failure { code, why }) => {
            diagnostics.extend(why.as_deref().and_then(events::error));
            Executed::failed(OperationResultTr::InvokeHostFunction(code), diagnostics)
        }
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
    let Inputs { entries, restored } = inputs::read(data, overlay, closing, prices)?;
    let budget = super::budget(prices, data.resources.instructions.into(), limits.memory.into());
    let auth: Vec<Vec<u8>> = op.auth.iter().map(codec::encode).collect();
    let outcome = invoke_host_function(
        &budget,
        true,
        codec::encode(&op.host_function),
        codec::encode(&data.resources),
        &restored,
        codec::encode(source),
        auth.into_iter(),
        super::ledger_info(closing, prices),
        entries.into_iter(),
        seed.to_vec(),
        diagnostics,
        None,
        Some(modules.handle()),
    );
    let Ok(HostOutcome { encoded_invoke_result: Ok(encoded), ledger_changes, encoded_contract_events }) =
        outcome
    else {
        return Err(over_budget(&budget, data, &limits).unwrap_or_else(Failure::trapped));
    };

    outputs::check(&ledger_changes, data, &limits)?;
    let events_bytes = encoded.len() + encoded_contract_events.iter().map(Vec::len).sum::<usize>();
    if events_bytes > limits.events_bytes as usize {
        return Err(Failure::over_limit("bytes of events", events_bytes, limits.events_bytes as usize));
    }
    let rent = compute_rent_fee(
        &extract_rent_changes(&ledger_changes),
        &prices.rent_fee_configuration,
        closing.sequence,
    );
    let refundable_used = rent.saturating_add(resources::events_fee(data, events_bytes as u32, prices));
    if refundable_used > refundable {
        let why =
            format!("refundable resource fee: {refundable_used}, {refundable} are left of the declared fee");
        return Err(Failure { code: Code::InsufficientRefundableFee, why: Some(why) });
    }

    let undecodable = |_| Failure::trapped();
    let return_value: ScVal = codec::decode(&encoded).map_err(undecodable)?;
    let events: Vec<ContractEvent> = encoded_contract_events
        .iter()
        .map(|event| codec::decode(event))
        .collect::<Result<_, _>>()
        .map_err(undecodable)?;
    for index in restored {
        if let Some(key) = data.resources.footprint.read_write.get(index as usize) {
            overlay.restore(key, restored_until(closing, prices));
        }
    }
    outputs::write(ledger_changes, overlay)?;
    let preimage = InvokeHostFunctionSuccessPreImage {
        return_value: return_value.clone(),
        events: events.clone().try_into().map_err(undecodable)?,
    };
    let result = OperationResultTr::InvokeHostFunction(Code::Success(codec::hash_of(&preimage)));
    Ok(Executed {
        applied: Applied { result: OperationResult::OpInner(result), succeeded: true, events },
        return_value: Some(return_value),
        diagnostics: Vec::new(),
        refundable_used,
        rent,
    })
}

/// The last ledger in which an entry restored in this ledger is live.
pub(super) fn restored_until(closing: &Closing, prices: &Prices) -> u32 {
    closing.sequence.saturating_add(prices.min_persistent_entry_ttl.saturating_sub(1))
}

/// Whether the host gave up because the budget was used up.
fn over_budget(budget: &Budget, data: &SorobanTransactionData, limits: &Limits) -> Option<Failure> {
    let instructions = budget.get_cpu_insns_consumed().unwrap_or(u64::MAX) as usize;
    let memory = budget.get_mem_bytes_consumed().unwrap_or(u64::MAX) as usize;
    let allowed = data.resources.instructions as usize;
    if instructions > allowed {
        return Some(Failure::over_limit("instructions", instructions, allowed));
    }
    let allowed = limits.memory as usize;
    (memory > allowed).then(|| Failure::over_limit("bytes of memory", memory, allowed))
}
