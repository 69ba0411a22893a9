//! The state as the simulation library reads it: archived entries show up as expired, never as missing.

use std::rc::Rc;
use std::sync::Arc;

use soroban_env_host::HostError;
use soroban_env_host::storage::{EntryWithLiveUntil, SnapshotSource};
use stellar_xdr::LedgerKey;

use crate::ledger::entries::{Entries, live_until};
use crate::ledger::state::State;

/// One state, readable by the simulation library.
pub(crate) struct Snapshot(pub Arc<State>);

impl SnapshotSource for Snapshot {
    fn get(&self, key: &Rc<LedgerKey>) -> Result<Option<EntryWithLiveUntil>, HostError> {
        if let Some(entry) = self.0.live(key) {
            return Ok(Some((Rc::new((*entry).clone()), live_until(&*self.0, key))));
        }
        Ok(self.0.archived(key).map(|entry| (Rc::new((*entry).clone()), Some(0))))
    }
}
