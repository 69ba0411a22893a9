//! The network's settings: the public test network's figures, as configuration entries of the first ledger.
//!
//! One place for every number; [`Limits`] is the same numbers for the code that enforces them.

use stellar_xdr::{
    ConfigSettingContractBandwidthV0, ConfigSettingContractComputeV0, ConfigSettingContractEventsV0,
    ConfigSettingContractExecutionLanesV0, ConfigSettingContractHistoricalDataV0,
    ConfigSettingContractLedgerCostExtV0, ConfigSettingContractLedgerCostV0,
    ConfigSettingContractParallelComputeV0, ConfigSettingEntry, ConfigSettingScpTiming,
    ContractCostParamEntry, ContractCostParams, EvictionIterator, ExtensionPoint, FreezeBypassTxs,
    FrozenLedgerKeys, StateArchivalSettings,
};

use super::costs::COSTS;

/// What one transaction and one entry may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Instructions of one transaction.
    pub instructions: i64,
    /// Memory of one transaction, in bytes.
    pub memory: u32,
    /// Entries of one footprint.
    pub footprint_entries: u32,
    /// Entries read from disk (classic ones and restored ones).
    pub disk_read_entries: u32,
    /// Bytes read from disk.
    pub disk_read_bytes: u32,
    /// Entries written.
    pub write_entries: u32,
    /// Bytes written.
    pub write_bytes: u32,
    /// Bytes of contract events and return value.
    pub events_bytes: u32,
    /// Bytes of the envelope.
    pub transaction_bytes: u32,
    /// Bytes of a contract's code.
    pub contract_bytes: u32,
    /// Bytes of a contract data key.
    pub data_key_bytes: u32,
    /// Bytes of a contract data entry.
    pub data_entry_bytes: u32,
    /// Longest life of an entry, in ledgers.
    pub max_entry_ttl: u32,
}

/// The limits in force.
pub(crate) const LIMITS: Limits = Limits {
    instructions: 100_000_000,
    memory: 41_943_040,
    footprint_entries: 100,
    disk_read_entries: 100,
    disk_read_bytes: 200_000,
    write_entries: 50,
    write_bytes: 132_096,
    events_bytes: 16_384,
    transaction_bytes: 132_096,
    contract_bytes: 131_072,
    data_key_bytes: 250,
    data_entry_bytes: 65_536,
    max_entry_ttl: 3_110_400,
};

impl Limits {
    /// The limits in force.
    pub(crate) const fn of_network() -> Self {
        LIMITS
    }
}

/// All configuration entries, in the order of their numbers.
pub(super) fn entries() -> Vec<ConfigSettingEntry> {
    use ConfigSettingEntry as Setting;
    vec![
        Setting::ContractMaxSizeBytes(LIMITS.contract_bytes),
        Setting::ContractComputeV0(ConfigSettingContractComputeV0 {
            ledger_max_instructions: 500_000_000,
            tx_max_instructions: LIMITS.instructions,
            fee_rate_per_instructions_increment: 25,
            tx_memory_limit: LIMITS.memory,
        }),
        Setting::ContractLedgerCostV0(ConfigSettingContractLedgerCostV0 {
            ledger_max_disk_read_entries: 500,
            ledger_max_disk_read_bytes: 3_500_000,
            ledger_max_write_ledger_entries: 250,
            ledger_max_write_bytes: 143_360,
            tx_max_disk_read_entries: LIMITS.disk_read_entries,
            tx_max_disk_read_bytes: LIMITS.disk_read_bytes,
            tx_max_write_ledger_entries: LIMITS.write_entries,
            tx_max_write_bytes: LIMITS.write_bytes,
            fee_disk_read_ledger_entry: 6_250,
            fee_write_ledger_entry: 10_000,
            fee_disk_read1_kb: 1_786,
            soroban_state_target_size_bytes: 3_000_000_000,
            rent_fee1_kb_soroban_state_size_low: -17_000,
            rent_fee1_kb_soroban_state_size_high: 10_000,
            soroban_state_rent_fee_growth_factor: 5_000,
        }),
        Setting::ContractHistoricalDataV0(ConfigSettingContractHistoricalDataV0 {
            fee_historical1_kb: 16_235,
        }),
        Setting::ContractEventsV0(ConfigSettingContractEventsV0 {
            tx_max_contract_events_size_bytes: LIMITS.events_bytes,
            fee_contract_events1_kb: 10_000,
        }),
        Setting::ContractBandwidthV0(ConfigSettingContractBandwidthV0 {
            ledger_max_txs_size_bytes: 133_120,
            tx_max_size_bytes: LIMITS.transaction_bytes,
            fee_tx_size1_kb: 1_624,
        }),
        Setting::ContractCostParamsCpuInstructions(cost_params(|(_, cpu, _)| *cpu)),
        Setting::ContractCostParamsMemoryBytes(cost_params(|(_, _, memory)| *memory)),
        Setting::ContractDataKeySizeBytes(LIMITS.data_key_bytes),
        Setting::ContractDataEntrySizeBytes(LIMITS.data_entry_bytes),
        Setting::StateArchival(StateArchivalSettings {
            max_entry_ttl: LIMITS.max_entry_ttl,
            min_temporary_ttl: 720,
            min_persistent_ttl: 120_960,
            persistent_rent_rate_denominator: 1_215,
            temp_rent_rate_denominator: 2_430,
            max_entries_to_archive: 1_000,
            live_soroban_state_size_window_sample_size: 30,
            live_soroban_state_size_window_sample_period: 64,
            eviction_scan_size: 500_000,
            starting_eviction_scan_level: 7,
        }),
        Setting::ContractExecutionLanes(ConfigSettingContractExecutionLanesV0 { ledger_max_tx_count: 100 }),
        // A local network's state is small beside the target, so rent stays at its floor; the window is constant.
        Setting::LiveSorobanStateSizeWindow(vec![0_u64; 30].try_into().expect("a window of 30 samples")),
        Setting::EvictionIterator(EvictionIterator {
            bucket_list_level: 7,
            is_curr_bucket: true,
            bucket_file_offset: 0,
        }),
        Setting::ContractParallelComputeV0(ConfigSettingContractParallelComputeV0 {
            ledger_max_dependent_tx_clusters: 1,
        }),
        Setting::ContractLedgerCostExtV0(ConfigSettingContractLedgerCostExtV0 {
            tx_max_footprint_entries: LIMITS.footprint_entries,
            fee_write1_kb: 3_500,
        }),
        Setting::ScpTiming(ConfigSettingScpTiming {
            ledger_target_close_time_milliseconds: 5_000,
            nomination_timeout_initial_milliseconds: 1_000,
            nomination_timeout_increment_milliseconds: 1_000,
            ballot_timeout_initial_milliseconds: 1_000,
            ballot_timeout_increment_milliseconds: 1_000,
        }),
        Setting::FrozenLedgerKeys(FrozenLedgerKeys { keys: Default::default() }),
        Setting::FreezeBypassTxs(FreezeBypassTxs { tx_hashes: Default::default() }),
    ]
}

fn cost_params(column: impl Fn(&super::costs::CostRow) -> (i64, i64)) -> ContractCostParams {
    let params: Vec<_> = COSTS
        .iter()
        .map(|row| {
            let (const_term, linear_term) = column(row);
            ContractCostParamEntry { ext: ExtensionPoint::V0, const_term, linear_term }
        })
        .collect();
    ContractCostParams(params.try_into().expect("one entry per cost type"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stellar_xdr::ContractCostType;

    #[test]
    fn every_cost_type_has_its_row_under_its_name() {
        for (number, (name, _, _)) in COSTS.iter().enumerate() {
            let kind = ContractCostType::try_from(number as i32).expect("a cost type of protocol 28");
            assert_eq!(kind.name(), *name);
        }
        assert!(ContractCostType::try_from(COSTS.len() as i32).is_err(), "a cost type is missing");
    }
}
