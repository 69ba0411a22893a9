//! The current state: live entries, archived entries, and what expires when.
//!
//! It changes in two ways only: by the changes that a closed ledger's metadata states, and by eviction. Replaying
//! the metadata of closed ledgers therefore gives the same state; nothing is executed twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use stellar_xdr::{
    ContractDataDurability, Hash, LedgerEntry, LedgerEntryChange, LedgerEntryData, LedgerKey, LedgerKeyTtl,
};

use super::entries::{self, Entries};

/// The state after a ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    live: BTreeMap<LedgerKey, Arc<LedgerEntry>>,
    archive: BTreeMap<LedgerKey, Arc<LedgerEntry>>,
    /// Hash of a key that has a life span → the key.
    mortal: HashMap<Hash, LedgerKey>,
    /// (last live ledger, hash of the key), soonest first.
    expiry: BTreeSet<(u32, Hash)>,
}

impl Entries for State {
    fn live(&self, key: &LedgerKey) -> Option<Arc<LedgerEntry>> {
        self.live.get(key).cloned()
    }

    fn archived(&self, key: &LedgerKey) -> Option<Arc<LedgerEntry>> {
        self.archive.get(key).cloned()
    }
}

impl State {
    /// Follows one step of a ledger's metadata.
    pub(crate) fn apply(&mut self, changes: &[LedgerEntryChange]) {
        for change in changes {
            match change {
                LedgerEntryChange::Created(entry) | LedgerEntryChange::Updated(entry) => {
                    self.insert(entry.clone());
                }
                LedgerEntryChange::Restored(entry) => {
                    self.archive.remove(&entry.to_key());
                    self.insert(entry.clone());
                }
                LedgerEntryChange::Removed(key) => self.remove(key),
                LedgerEntryChange::State(_) => {}
            }
        }
    }

    /// The entries that are no longer live in `ledger`, by key: temporary ones vanish, persistent ones are archived.
    pub(crate) fn expired(&self, ledger: u32) -> Vec<LedgerKey> {
        let mut keys: Vec<LedgerKey> = self
            .expiry
            .iter()
            .take_while(|(live_until, _)| *live_until < ledger)
            .filter_map(|(_, hash)| self.mortal.get(hash).cloned())
            .collect();
        keys.sort();
        keys
    }

    /// Takes expired entries out of the live state.
    pub(crate) fn evict(&mut self, keys: &[LedgerKey]) {
        for key in keys {
            let Some(entry) = self.live.get(key).cloned() else { continue };
            self.remove(&entries::ttl_key(key));
            self.remove(key);
            if entries::durability(key) == Some(ContractDataDurability::Persistent) {
                self.archive.insert(key.clone(), entry);
            }
        }
    }

    /// Puts an entry in place, as read from a snapshot or made at genesis.
    pub(crate) fn insert(&mut self, entry: LedgerEntry) {
        let key = entry.to_key();
        if let LedgerEntryData::Ttl(ttl) = &entry.data {
            self.forget_life(&ttl.key_hash);
            self.expiry.insert((ttl.live_until_ledger_seq, ttl.key_hash.clone()));
        } else if entries::durability(&key).is_some() {
            self.mortal.insert(entries::key_hash(&key), key.clone());
            self.archive.remove(&key);
        }
        self.live.insert(key, Arc::new(entry));
    }

    /// Puts an archived entry in place, as read from a snapshot.
    pub(crate) fn insert_archived(&mut self, entry: LedgerEntry) {
        self.archive.insert(entry.to_key(), Arc::new(entry));
    }

    fn remove(&mut self, key: &LedgerKey) {
        if let LedgerKey::Ttl(LedgerKeyTtl { key_hash }) = key {
            self.forget_life(key_hash);
        } else if entries::durability(key).is_some() {
            self.mortal.remove(&entries::key_hash(key));
        }
        self.live.remove(key);
    }

    fn forget_life(&mut self, key_hash: &Hash) {
        let key = LedgerKey::Ttl(LedgerKeyTtl { key_hash: key_hash.clone() });
        if let Some(LedgerEntryData::Ttl(old)) = self.live.get(&key).map(|entry| &entry.data) {
            self.expiry.remove(&(old.live_until_ledger_seq, key_hash.clone()));
        }
    }

    /// All live entries, for a snapshot.
    pub(crate) fn live_entries(&self) -> impl Iterator<Item = &LedgerEntry> {
        self.live.values().map(|entry| &**entry)
    }

    /// All archived entries, for a snapshot.
    pub(crate) fn archived_entries(&self) -> impl Iterator<Item = &LedgerEntry> {
        self.archive.values().map(|entry| &**entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::entries::Overlay;
    use stellar_xdr::{
        ContractDataEntry, ContractId, ExtensionPoint, LedgerEntryExt, LedgerKeyContractData, ScAddress,
        ScVal,
    };

    fn key(durability: ContractDataDurability) -> LedgerKey {
        LedgerKey::ContractData(LedgerKeyContractData {
            contract: ScAddress::Contract(ContractId(Hash([7; 32]))),
            key: ScVal::U32(1),
            durability,
        })
    }

    fn data(durability: ContractDataDurability) -> LedgerEntryData {
        LedgerEntryData::ContractData(ContractDataEntry {
            ext: ExtensionPoint::V0,
            contract: ScAddress::Contract(ContractId(Hash([7; 32]))),
            key: ScVal::U32(1),
            durability,
            val: ScVal::U32(42),
        })
    }

    fn with_entry(durability: ContractDataDurability, live_until: u32) -> State {
        let mut state = State::default();
        let mut overlay = Overlay::new(&state, 1);
        overlay.put(data(durability), LedgerEntryExt::V0);
        overlay.put_live_until(&key(durability), live_until);
        let changes = overlay.changes();
        state.apply(&changes);
        state
    }

    #[test]
    fn a_temporary_entry_vanishes_and_a_persistent_one_is_archived_and_comes_back() {
        for (durability, archived) in
            [(ContractDataDurability::Temporary, false), (ContractDataDurability::Persistent, true)]
        {
            let mut state = with_entry(durability, 10);
            let key = key(durability);
            assert_eq!(state.expired(10), []);
            assert_eq!(state.expired(11), std::slice::from_ref(&key));
            state.evict(&state.expired(11));
            assert!(state.live(&key).is_none());
            assert!(state.live(&entries::ttl_key(&key)).is_none());
            assert_eq!(state.archived(&key).is_some(), archived);
            assert_eq!(state.expired(1_000), []);

            let mut overlay = Overlay::new(&state, 20);
            assert_eq!(overlay.restore(&key, 30), archived);
            let changes = overlay.changes();
            state.apply(&changes);
            assert_eq!(state.live(&key).is_some(), archived);
            assert_eq!(entries::live_until(&state, &key), archived.then_some(30));
            assert!(state.archived(&key).is_none());
        }
    }

    #[test]
    fn extending_a_life_moves_its_expiry() {
        let mut state = with_entry(ContractDataDurability::Persistent, 10);
        let key = key(ContractDataDurability::Persistent);
        let mut overlay = Overlay::new(&state, 5);
        overlay.put_live_until(&key, 50);
        let changes = overlay.changes();
        assert_eq!(changes.len(), 2, "one state and one update: {changes:?}");
        state.apply(&changes);
        assert_eq!(state.expired(50), []);
        assert_eq!(state.expired(51), [key]);
    }

    #[test]
    fn writing_back_the_same_is_no_change() {
        let state = with_entry(ContractDataDurability::Persistent, 10);
        let mut overlay = Overlay::new(&state, 9);
        overlay.put(data(ContractDataDurability::Persistent), LedgerEntryExt::V0);
        assert!(overlay.changes().is_empty());
    }
}
