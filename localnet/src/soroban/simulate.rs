//! Simulation: what a transaction would do and need, on the state of the last closed ledger.
//!
//! Neither the source account nor its sequence is looked at, as on the real servers: clients simulate with accounts
//! that do not exist.

use std::rc::Rc;
use std::sync::Arc;

use soroban_env_host::LedgerInfo;
use soroban_env_host::e2e_invoke::RecordingInvocationAuthMode;
use soroban_simulation::AutoRestoringSnapshotSource;
use soroban_simulation::simulation::{
    InvokeHostFunctionSimulationResult, LedgerEntryDiff, SimulationAdjustmentConfig, simulate_extend_ttl_op,
    simulate_invoke_host_function_op, simulate_restore_op,
};
use stellar_xdr::{
    AccountId, DiagnosticEvent, HostFunction, LedgerKey, OperationBody, ScVal, SorobanAuthorizationEntry,
    SorobanTransactionData,
};

use super::Prices;
use super::snapshot::Snapshot;
use crate::genesis::Limits;
use crate::ledger::state::State;
use crate::operations::Closing;
use crate::transaction::Envelope;

/// How authorisation is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthMode {
    /// The transaction's own entries are checked.
    Enforce,
    /// What is needed is recorded, for the root invocation only.
    Record,
    /// What is needed is recorded, also where a contract below the root asks.
    RecordAllowNonRoot,
}

/// What a simulation may be asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// `None`: enforce where the transaction carries entries, else record.
    pub auth_mode: Option<AuthMode>,
    /// Whether recorded entries are of the kind that binds the address (CAP-71).
    pub upgraded_auth: bool,
    /// Instructions to allow beyond the simulated ones.
    pub instruction_leeway: u32,
}

/// What a simulation found.
#[derive(Debug, Default)]
pub(crate) struct Simulated {
    /// Why the transaction would fail.
    pub error: Option<String>,
    pub result: Option<(ScVal, Vec<SorobanAuthorizationEntry>)>,
    pub data: Option<SorobanTransactionData>,
    pub events: Vec<DiagnosticEvent>,
    pub changes: Vec<LedgerEntryDiff>,
    /// A restoration that must come first; only extending asks for it.
    pub restore: Option<SorobanTransactionData>,
}

impl Simulated {
    pub(crate) fn failed(error: impl Into<String>) -> Self {
        Self { error: Some(error.into()), ..Self::default() }
    }
}

/// Simulates a transaction.
pub(crate) fn simulate(
    envelope: &Envelope,
    options: Options,
    state: &Arc<State>,
    closing: &Closing,
    prices: &Prices,
) -> Simulated {
    let [operation] = envelope.transaction.operations.as_slice() else {
        return Simulated::failed("Transaction contains more than one operation");
    };
    let source = envelope.operation_source(operation);
    let snapshot = Snapshot(state.clone());
    let info = super::ledger_info(closing, prices);
    let adjustment = adjustment(options);
    let keys = |read_write: bool| {
        envelope.soroban_data().map(|data| {
            let footprint = &data.resources.footprint;
            if read_write { footprint.read_write.to_vec() } else { footprint.read_only.to_vec() }
        })
    };
    const NO_FOOTPRINT: &str = "To perform a SimulateTransaction for ExtendFootprintTtl or RestoreFootprint \
                                operations, SorobanTransactionData must be provided";
    match &operation.body {
        OperationBody::InvokeHostFunction(invoke) => {
            let auth = match auth_mode(options, invoke.auth.to_vec()) {
                Ok(auth) => auth,
                Err(error) => return Simulated::failed(error),
            };
            simulate_invocation(&invoke.host_function, auth, &source, snapshot, closing, prices, &adjustment)
        }
        OperationBody::ExtendFootprintTtl(extend) => {
            let Some(keys) = keys(false) else { return Simulated::failed(NO_FOOTPRINT) };
            if extend.extend_to >= prices.max_entry_ttl {
                let longest = prices.max_entry_ttl - 1;
                return Simulated::failed(format!("a life can be extended by at most {longest} ledgers"));
            }
            simulate_extension(snapshot, extend.extend_to, &keys, &info, prices, &adjustment)
        }
        OperationBody::RestoreFootprint(_) => {
            let Some(keys) = keys(true) else { return Simulated::failed(NO_FOOTPRINT) };
            match simulate_restore_op(&snapshot, prices, &adjustment, &info, &keys) {
                Ok(result) => Simulated { data: Some(result.transaction_data), ..Simulated::default() },
                Err(error) => Simulated::failed(error.to_string()),
            }
        }
        other => Simulated::failed(format!(
            "Transaction contains unsupported operation type: {}",
            other.discriminant().name()
        )),
    }
}

/// Runs a host function that is part of the first ledger.
pub(crate) fn at_genesis(
    function: HostFunction,
    source: &AccountId,
    state: &Arc<State>,
    closing: &Closing,
    prices: &Prices,
) -> Vec<LedgerEntryDiff> {
    let auth = RecordingInvocationAuthMode::recording(false, false);
    let adjustment = SimulationAdjustmentConfig::no_adjustments();
    simulate_invocation(&function, auth, source, Snapshot(state.clone()), closing, prices, &adjustment)
        .changes
}

fn simulate_invocation(
    function: &HostFunction,
    auth: RecordingInvocationAuthMode,
    source: &AccountId,
    snapshot: Snapshot,
    closing: &Closing,
    prices: &Prices,
    adjustment: &SimulationAdjustmentConfig,
) -> Simulated {
    // Any seed does: what a contract draws in a simulation is not what it draws in the ledger.
    let seed = [0; 32];
    let info = super::ledger_info(closing, prices);
    let simulated = simulate_invoke_host_function_op(
        Rc::new(snapshot),
        prices,
        adjustment,
        &info,
        function.clone(),
        auth,
        source,
        seed,
        true,
    );
    match simulated {
        Ok(simulated) => of_invocation(simulated),
        Err(error) => Simulated::failed(error.to_string()),
    }
}

fn of_invocation(simulated: InvokeHostFunctionSimulationResult) -> Simulated {
    let (error, result) = match simulated.invoke_result {
        Ok(value) => (None, Some((value, simulated.auth))),
        Err(error) => (Some(format!("{error:?}")), None),
    };
    Simulated {
        error,
        result,
        data: simulated.transaction_data,
        events: simulated.diagnostic_events,
        changes: simulated.modified_entries,
        restore: None,
    }
}

/// Extending an archived entry needs a restoration first: it is found on the way.
fn simulate_extension(
    snapshot: Snapshot,
    extend_to: u32,
    keys: &[LedgerKey],
    info: &LedgerInfo,
    prices: &Prices,
    adjustment: &SimulationAdjustmentConfig,
) -> Simulated {
    let simulated = AutoRestoringSnapshotSource::new(Rc::new(snapshot), info).and_then(|snapshot| {
        let extended = simulate_extend_ttl_op(&snapshot, prices, adjustment, info, keys, extend_to)?;
        Ok((extended, snapshot.simulate_restore_keys_op(prices, adjustment, info)?))
    });
    match simulated {
        Ok((extended, restore)) => Simulated {
            data: Some(extended.transaction_data),
            restore: restore.map(|restore| restore.transaction_data),
            ..Simulated::default()
        },
        Err(error) => Simulated::failed(error.to_string()),
    }
}

fn auth_mode(
    options: Options,
    entries: Vec<SorobanAuthorizationEntry>,
) -> Result<RecordingInvocationAuthMode, &'static str> {
    let recording = |only_root| RecordingInvocationAuthMode::recording(only_root, options.upgraded_auth);
    match options.auth_mode {
        Some(AuthMode::Enforce) => Ok(RecordingInvocationAuthMode::Enforcing(entries)),
        None if !entries.is_empty() => Ok(RecordingInvocationAuthMode::Enforcing(entries)),
        Some(AuthMode::Record) if !entries.is_empty() => {
            Err("cannot set authMode to 'record' with an auth footprint")
        }
        Some(AuthMode::RecordAllowNonRoot) if !entries.is_empty() => {
            Err("cannot set authMode to 'record_allow_nonroot' with an auth footprint")
        }
        Some(AuthMode::RecordAllowNonRoot) => Ok(recording(false)),
        Some(AuthMode::Record) | None => Ok(recording(true)),
    }
}

fn adjustment(options: Options) -> SimulationAdjustmentConfig {
    let mut adjustment = SimulationAdjustmentConfig::default_adjustment();
    let limit = Limits::of_network().instructions as u32;
    adjustment.instructions.additive_factor =
        adjustment.instructions.additive_factor.max(options.instruction_leeway).min(limit);
    adjustment
}
