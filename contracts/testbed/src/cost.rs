//! What the last call cost.

use soroban_sdk::Env;

/// Resources of one call, as the network meters them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cost {
    /// CPU instructions; only those of wasm builds mean something.
    pub instructions: u64,
    /// Ledger entries in the footprint, without the contract's code.
    pub entries: u32,
    /// Bytes written.
    pub written: u32,
}

impl Cost {
    /// The cost of the call made last.
    pub fn of_last_call(env: &Env) -> Self {
        let spent = env.cost_estimate().resources();
        Self {
            instructions: spent.instructions.unsigned_abs(),
            entries: spent.memory_read_entries + spent.disk_read_entries,
            written: spent.write_bytes,
        }
    }
}
