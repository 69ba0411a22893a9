//! Reading ledger entries, and collecting changes to them above a state that stays as it is.
//!
//! An entry's life is an entry of its own (`TTL`, keyed by the hash of the key), as on the real ledger. Nothing
//! here knows operations or fees.

use std::collections::BTreeMap;
use std::sync::Arc;

use stellar_xdr::{
    AccountEntry, AccountId, ContractDataDurability, Hash, LedgerEntry, LedgerEntryChange, LedgerEntryData,
    LedgerEntryExt, LedgerKey, LedgerKeyAccount, LedgerKeyTtl, TtlEntry,
};

use crate::codec;

/// Something entries can be read from.
pub(crate) trait Entries {
    /// The live entry under a key.
    fn live(&self, key: &LedgerKey) -> Option<Arc<LedgerEntry>>;
    /// The archived entry under a key: persistent, expired, restorable.
    fn archived(&self, key: &LedgerKey) -> Option<Arc<LedgerEntry>>;
}

/// The key of an entry's `TTL` entry.
pub(crate) fn ttl_key(key: &LedgerKey) -> LedgerKey {
    LedgerKey::Ttl(LedgerKeyTtl { key_hash: codec::hash_of(key) })
}

/// The key of an account.
pub(crate) fn account_key(id: &AccountId) -> LedgerKey {
    LedgerKey::Account(LedgerKeyAccount { account_id: id.clone() })
}

/// Whether entries under this key expire, and how.
pub(crate) fn durability(key: &LedgerKey) -> Option<ContractDataDurability> {
    soroban_env_host::ledger_info::get_key_durability(key)
}

/// The last ledger in which a live entry is live; `None` for entries without a life span.
pub(crate) fn live_until(entries: &dyn Entries, key: &LedgerKey) -> Option<u32> {
    durability(key)?;
    match &entries.live(&ttl_key(key))?.data {
        LedgerEntryData::Ttl(ttl) => Some(ttl.live_until_ledger_seq),
        _ => None,
    }
}

/// The account under an id.
pub(crate) fn account(entries: &dyn Entries, id: &AccountId) -> Option<AccountEntry> {
    match &entries.live(&account_key(id))?.data {
        LedgerEntryData::Account(account) => Some(account.clone()),
        _ => None,
    }
}

/// Changes above a base. Dropped, it changes nothing.
pub(crate) struct Overlay<'a> {
    base: &'a dyn Entries,
    ledger: u32,
    writes: BTreeMap<LedgerKey, Option<Arc<LedgerEntry>>>,
    restored: BTreeMap<LedgerKey, Arc<LedgerEntry>>,
}

impl Entries for Overlay<'_> {
    fn live(&self, key: &LedgerKey) -> Option<Arc<LedgerEntry>> {
        match self.writes.get(key) {
            Some(written) => written.clone(),
            None => self.base.live(key),
        }
    }

    fn archived(&self, key: &LedgerKey) -> Option<Arc<LedgerEntry>> {
        if self.restored.contains_key(key) || matches!(self.writes.get(key), Some(Some(_))) {
            return None;
        }
        self.base.archived(key)
    }
}

impl<'a> Overlay<'a> {
    /// No changes yet; what is written will carry `ledger` as the one that modified it.
    pub(crate) fn new(base: &'a dyn Entries, ledger: u32) -> Self {
        Self { base, ledger, writes: BTreeMap::new(), restored: BTreeMap::new() }
    }

    /// Creates or replaces an entry.
    pub(crate) fn put(&mut self, data: LedgerEntryData, ext: LedgerEntryExt) {
        let entry = LedgerEntry { last_modified_ledger_seq: self.ledger, data, ext };
        self.writes.insert(entry.to_key(), Some(Arc::new(entry)));
    }

    /// Creates or replaces an account, keeping the entry's extension.
    pub(crate) fn put_account(&mut self, account: AccountEntry) {
        let ext = self
            .live(&account_key(&account.account_id))
            .map_or(LedgerEntryExt::V0, |entry| entry.ext.clone());
        self.put(LedgerEntryData::Account(account), ext);
    }

    /// Sets the last ledger in which the entry under `key` is live.
    pub(crate) fn put_live_until(&mut self, key: &LedgerKey, live_until: u32) {
        let ttl = TtlEntry { key_hash: codec::hash_of(key), live_until_ledger_seq: live_until };
        self.put(LedgerEntryData::Ttl(ttl), LedgerEntryExt::V0);
    }

    /// Removes an entry, and its life with it.
    pub(crate) fn remove(&mut self, key: &LedgerKey) {
        self.writes.insert(key.clone(), None);
        if durability(key).is_some() {
            self.writes.insert(ttl_key(key), None);
        }
    }

    /// Brings an archived entry back, live until the given ledger. `false`: there is none.
    pub(crate) fn restore(&mut self, key: &LedgerKey, live_until: u32) -> bool {
        let Some(entry) = self.archived(key) else { return false };
        let ttl = LedgerEntry {
            last_modified_ledger_seq: self.ledger,
            data: LedgerEntryData::Ttl(TtlEntry {
                key_hash: codec::hash_of(key),
                live_until_ledger_seq: live_until,
            }),
            ext: LedgerEntryExt::V0,
        };
        for entry in [
            Arc::new(LedgerEntry { last_modified_ledger_seq: self.ledger, ..(*entry).clone() }),
            Arc::new(ttl),
        ] {
            let key = entry.to_key();
            self.restored.insert(key.clone(), entry.clone());
            self.writes.insert(key, Some(entry));
        }
        true
    }

    /// Takes over the changes that a layer above made.
    pub(crate) fn absorb(&mut self, changes: &[LedgerEntryChange]) {
        for change in changes {
            match change {
                LedgerEntryChange::Created(entry) | LedgerEntryChange::Updated(entry) => {
                    self.writes.insert(entry.to_key(), Some(Arc::new(entry.clone())));
                }
                LedgerEntryChange::Restored(entry) => {
                    let entry = Arc::new(entry.clone());
                    self.restored.insert(entry.to_key(), entry.clone());
                    self.writes.insert(entry.to_key(), Some(entry));
                }
                LedgerEntryChange::Removed(key) => {
                    self.writes.insert(key.clone(), None);
                }
                LedgerEntryChange::State(_) => {}
            }
        }
    }

    /// The changes as a ledger's metadata states them. What was written back unchanged is no change.
    pub(crate) fn changes(self) -> Vec<LedgerEntryChange> {
        let mut changes = Vec::new();
        for (key, after) in self.writes {
            if let Some(restored) = self.restored.get(&key) {
                changes.push(LedgerEntryChange::Restored((**restored).clone()));
                match after {
                    Some(after) if !same_content(restored, &after) => {
                        changes.push(LedgerEntryChange::Updated((*after).clone()));
                    }
                    Some(_) => {}
                    None => changes.push(LedgerEntryChange::Removed(key)),
                }
                continue;
            }
            match (self.base.live(&key), after) {
                (None, Some(after)) => changes.push(LedgerEntryChange::Created((*after).clone())),
                (Some(before), Some(after)) if !same_content(&before, &after) => {
                    changes.push(LedgerEntryChange::State((*before).clone()));
                    changes.push(LedgerEntryChange::Updated((*after).clone()));
                }
                (Some(before), None) => {
                    changes.push(LedgerEntryChange::State((*before).clone()));
                    changes.push(LedgerEntryChange::Removed(key));
                }
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        changes
    }
}

fn same_content(a: &LedgerEntry, b: &LedgerEntry) -> bool {
    a.data == b.data && a.ext == b.ext
}

/// The hash under which an entry's life is filed.
pub(crate) fn key_hash(key: &LedgerKey) -> Hash {
    codec::hash_of(key)
}
