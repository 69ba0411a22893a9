//! What calls cost, and whether that is within bounds and near what is written down.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use soroban_sdk::Env;

/// Set to write the table of costs anew instead of comparing with it.
const REWRITE: &str = "TUNNLER_WRITE_COSTS";

/// The entry that each signature leaves on the ledger against its repetition. One signer of a call is the source of the
/// transaction, whose signature leaves none; here all do.
const NONCE: Cost = Cost { instructions: 0, entries: 1, written: 76 };

/// Resources of one call, as the network meters them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cost {
    /// CPU instructions; only those of wasm builds mean something.
    pub instructions: u64,
    /// Ledger entries in the footprint.
    pub entries: u64,
    /// Bytes written to the ledger.
    pub written: u64,
}

/// What no call may exceed.
pub const BOUND: Cost = Cost { instructions: 5_000_000, entries: 10, written: 2_048 };

impl Cost {
    /// The cost of the call made last.
    pub fn of_last_call(env: &Env) -> Self {
        let spent = env.cost_estimate().resources();
        let nonce = if spent.write_entries > 0 { NONCE } else { Self { entries: 0, written: 0, ..NONCE } };
        Self {
            instructions: spent.instructions.unsigned_abs(),
            entries: u64::from(spent.memory_read_entries + spent.disk_read_entries) - nonce.entries,
            written: u64::from(spent.write_bytes) - nonce.written,
        }
    }

    /// Whether nothing of it is above the other, by more than so many percent.
    pub fn is_within(&self, other: &Self, percent: u64) -> bool {
        let within = |own: u64, other: u64| own * 100 <= other * (100 + percent);
        within(self.instructions, other.instructions)
            && within(self.entries, other.entries)
            && within(self.written, other.written)
    }
}

/// Costs of all calls of a contract, with their fee and the rent in it, in stroops.
#[derive(Default)]
pub struct Costs(BTreeMap<&'static str, (Cost, i64, i64)>);

impl Costs {
    /// Notes the cost of the call made last.
    pub fn note(&mut self, env: &Env, call: &'static str) -> Cost {
        let cost = Cost::of_last_call(env);
        let fee = env.cost_estimate().fee();
        self.0.insert(call, (cost, fee.total, fee.persistent_entry_rent + fee.temporary_entry_rent));
        cost
    }

    /// Compares with the bounds and, within a quarter, with a table of lines `call, instructions, entries, bytes, fee, rent`;
    /// the last two are told only, as prices change.
    ///
    /// # Panics
    /// When a call costs too much or has no line.
    pub fn check(&self, table: &Path) {
        let mut measured = String::from("# call\tinstructions\tentries\tbytes written\tfee\tof which rent\n");
        for (call, (cost, fee, rent)) in &self.0 {
            let Cost { instructions, entries, written } = cost;
            assert!(cost.is_within(&BOUND, 0), "{call} is above the bounds: {cost:?}");
            writeln!(measured, "{call}\t{instructions}\t{entries}\t{written}\t{fee}\t{rent}")
                .expect("a string takes all");
        }
        if std::env::var_os(REWRITE).is_some() {
            std::fs::write(table, &measured).expect("the table can be written");
        }
        let known = std::fs::read_to_string(table).unwrap_or_default();
        for (call, (cost, ..)) in &self.0 {
            let Some(expected) = known.lines().find_map(|line| Self::parse(line, call)) else {
                panic!("{call} is not in {}; {REWRITE}=1 writes it anew:\n{measured}", table.display());
            };
            assert!(
                cost.is_within(&expected, 25),
                "{call} costs {cost:?}, which was {expected:?}:\n{measured}"
            );
        }
    }

    /// The cost in a line of the table, if it is the call's.
    fn parse(line: &str, call: &str) -> Option<Cost> {
        let mut numbers = line.strip_prefix(call)?.strip_prefix('\t')?.split('\t').map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Cost { instructions: next()?, entries: next()?, written: next()? })
    }
}
