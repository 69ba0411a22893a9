//! What the ledger still has of an entry, as a reader of the ledger sees it.

use soroban_sdk::{Address, Env, IntoVal, TryFromVal, Val, xdr};

use crate::Testbed;

/// Where an entry of a contract's persistent storage is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Life {
    /// There.
    Live,
    /// Valid, but to be restored before use.
    Archived,
    /// Never written, or removed.
    Absent,
}

impl Testbed {
    /// Where the entry under `key` is in its life.
    pub fn life(&self, contract: &Address, key: impl IntoVal<Env, Val>) -> Life {
        let key =
            xdr::ScVal::try_from_val(&self.env, &key.into_val(&self.env)).expect("keys are plain values");
        let key = xdr::LedgerKey::ContractData(xdr::LedgerKeyContractData {
            contract: contract.into(),
            key,
            durability: xdr::ContractDataDurability::Persistent,
        });
        // Not asked of the host, which restores what it is asked for.
        let ledger = self.env.to_ledger_snapshot();
        match ledger.ledger_entries.iter().find(|(found, _)| **found == key) {
            None => Life::Absent,
            Some((_, (_, Some(until)))) if *until < self.env.ledger().sequence() => Life::Archived,
            Some(_) => Life::Live,
        }
    }
}
