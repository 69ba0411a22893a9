//! Contracts: executing, simulating, extending and restoring, through the host that validators run.
//!
//! This module prepares what the host needs and writes down what it says; it never interprets contract values.

pub(crate) mod footprint;
pub(crate) mod invoke;
pub(crate) mod modules;
pub(crate) mod resources;
pub(crate) mod simulate;
pub(crate) mod snapshot;

use soroban_env_host::LedgerInfo;
use soroban_env_host::budget::Budget;
use soroban_env_host::e2e_invoke::entry_size_for_rent;
use soroban_simulation::NetworkConfig;
use stellar_xdr::{LedgerEntry, OperationResult};

use crate::codec;
use crate::genesis;
use crate::ledger::entries::Overlay;
use crate::operations::{Applied, Closing};
use crate::transaction::Envelope;
use modules::Modules;
use stellar_xdr::{DiagnosticEvent, OperationBody, ScVal, SorobanTransactionData};

/// The network's prices and life spans, as the simulation library reads them from the settings.
pub(crate) type Prices = NetworkConfig;

/// What a contract operation did, beside what any operation says.
#[derive(Debug)]
pub(crate) struct Executed {
    pub applied: Applied,
    pub return_value: Option<ScVal>,
    pub diagnostics: Vec<DiagnosticEvent>,
    /// Fee for rent and events, in stroops.
    pub refundable_used: i64,
    /// The rent in it.
    pub rent: i64,
}

impl Executed {
    fn failed(result: stellar_xdr::OperationResultTr, diagnostics: Vec<DiagnosticEvent>) -> Self {
        Self {
            applied: Applied::refused(OperationResult::OpInner(result)),
            return_value: None,
            diagnostics,
            refundable_used: 0,
            rent: 0,
        }
    }
}

/// What transactions of one ledger run under.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub closing: &'a Closing,
    pub prices: &'a Prices,
    pub modules: &'a Modules,
    /// What this transaction's randomness comes from.
    pub seed: [u8; 32],
}

/// What a transaction declared: its resources, and the part of its fee that may come back, in stroops.
#[derive(Clone, Copy)]
struct Declared<'a> {
    data: &'a SorobanTransactionData,
    refundable: i64,
}

/// Applies the contract operation of a transaction that passed all checks.
pub(crate) fn apply(envelope: &Envelope, overlay: &mut Overlay<'_>, terms: &Terms<'_>) -> Executed {
    let operation = &envelope.transaction.operations[0];
    let Some(data) = envelope.soroban_data() else {
        unreachable!("checked: a contract transaction has resources")
    };
    let refundable = data.resource_fee - resources::non_refundable_fee(data, envelope.size, terms.prices);
    let declared = Declared { data, refundable };
    match &operation.body {
        OperationBody::InvokeHostFunction(invoke) => {
            let source = envelope.operation_source(operation);
            invoke::apply(invoke, &source, declared, overlay, terms)
        }
        OperationBody::ExtendFootprintTtl(extend) => footprint::extend(extend, declared, overlay, terms),
        OperationBody::RestoreFootprint(_) => footprint::restore(declared, overlay, terms),
        _ => unreachable!("checked: a contract transaction has one contract operation"),
    }
}

/// The ledger as the host wants to know it.
pub(crate) fn ledger_info(closing: &Closing, prices: &Prices) -> LedgerInfo {
    let mut info = LedgerInfo {
        protocol_version: genesis::PROTOCOL,
        sequence_number: closing.sequence,
        timestamp: closing.close_time,
        network_id: closing.network_id.0,
        base_reserve: genesis::BASE_RESERVE,
        ..LedgerInfo::default()
    };
    prices.fill_config_fields_in_ledger_info(&mut info);
    info
}

/// A budget with the network's cost model.
pub(crate) fn budget(prices: &Prices, instructions: u64, memory: u64) -> Budget {
    Budget::try_from_configs(
        instructions,
        memory,
        prices.cpu_cost_params.clone(),
        prices.memory_cost_params.clone(),
    )
    .expect("the network's cost model is complete")
}

/// The size of an entry for rent, in bytes: code counts with the memory that its module takes.
pub(crate) fn rent_size(entry: &LedgerEntry, prices: &Prices) -> u32 {
    let size = codec::encode(entry).len() as u32;
    entry_size_for_rent(&budget(prices, u64::MAX, u64::MAX), entry, size).unwrap_or(size)
}
