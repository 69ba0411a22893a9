//! What fits into one ledger: the network's limits over all transactions of a ledger.
//!
//! Transactions that do not fit wait for the next ledger, in their order; there is no bidding for places here.

use stellar_xdr::LedgerKey;

use crate::transaction::Envelope;

/// What a ledger holds at most. The figures are the public test network's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Capacity {
    classic_operations: u64,
    contract_transactions: u64,
    instructions: u64,
    disk_read_entries: u64,
    disk_read_bytes: u64,
    write_entries: u64,
    write_bytes: u64,
    contract_transaction_bytes: u64,
}

const LEDGER: Capacity = Capacity {
    classic_operations: 100,
    contract_transactions: 100,
    instructions: 500_000_000,
    disk_read_entries: 500,
    disk_read_bytes: 3_500_000,
    write_entries: 250,
    write_bytes: 143_360,
    contract_transaction_bytes: 133_120,
};

/// Splits pending transactions into those of the next ledger and those that wait.
pub(super) fn next_ledger(pending: Vec<Envelope>) -> (Vec<Envelope>, Vec<Envelope>) {
    let mut used = Capacity::default();
    pending.into_iter().partition(|envelope| match used.with(envelope) {
        Some(more) => {
            used = more;
            true
        }
        None => false,
    })
}

impl Capacity {
    /// What is used with one more transaction; `None`: it does not fit.
    fn with(self, envelope: &Envelope) -> Option<Self> {
        let mut used = self;
        match envelope.soroban_data() {
            None => used.classic_operations += envelope.transaction.operations.len() as u64,
            Some(data) => {
                let footprint = &data.resources.footprint;
                let in_memory =
                    |key: &&LedgerKey| matches!(key, LedgerKey::ContractData(_) | LedgerKey::ContractCode(_));
                let keys = footprint.read_only.iter().chain(footprint.read_write.iter());
                used.contract_transactions += 1;
                used.instructions += u64::from(data.resources.instructions);
                used.disk_read_entries += keys.filter(|key| !in_memory(key)).count() as u64;
                used.disk_read_bytes += u64::from(data.resources.disk_read_bytes);
                used.write_entries += footprint.read_write.len() as u64;
                used.write_bytes += u64::from(data.resources.write_bytes);
                used.contract_transaction_bytes += u64::from(envelope.size);
            }
        }
        used.fits().then_some(used)
    }

    fn fits(&self) -> bool {
        self.classic_operations <= LEDGER.classic_operations
            && self.contract_transactions <= LEDGER.contract_transactions
            && self.instructions <= LEDGER.instructions
            && self.disk_read_entries <= LEDGER.disk_read_entries
            && self.disk_read_bytes <= LEDGER.disk_read_bytes
            && self.write_entries <= LEDGER.write_entries
            && self.write_bytes <= LEDGER.write_bytes
            && self.contract_transaction_bytes <= LEDGER.contract_transaction_bytes
    }
}
