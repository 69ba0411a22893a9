//! The ledger: current state, pending transactions, closed ledgers, and the one way forward, closing the next.
//!
//! Everything happens under one owner, at times that the caller passes in; there is no clock, socket or task here.

mod capacity;
pub(crate) mod close;
pub(crate) mod entries;
pub(crate) mod history;
pub(crate) mod state;
pub(crate) mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use soroban_simulation::NetworkConfig;
use stellar_xdr::{Hash, LedgerHeaderHistoryEntry, TransactionEnvelope, TransactionResult};

use crate::genesis;
use crate::operations::{self, Closing};
use crate::soroban::Prices;
use crate::soroban::modules::Modules;
use crate::soroban::simulate::{self, Options, Simulated};
use crate::soroban::snapshot::Snapshot;
use crate::transaction::Envelope;
use crate::transaction::check::{self, Stage};
use history::History;
use state::State;
use store::{Store, StoreError};

/// Transactions that may wait for the next ledger.
const MAX_PENDING: usize = 1_000;

/// A whole network.
pub(crate) struct Ledger {
    network_id: Hash,
    native_contract: Hash,
    prices: Prices,
    modules: Modules,
    state: Arc<State>,
    last: LedgerHeaderHistoryEntry,
    history: History,
    pending: Vec<Envelope>,
    store: Option<Store>,
}

/// What became of a submitted transaction.
#[derive(Debug)]
pub(crate) enum Submission {
    /// It waits for the next ledger.
    Pending { hash: Hash },
    /// The very same one is waiting already.
    Duplicate { hash: Hash },
    /// Not now: the queue is full, or another transaction of this account waits.
    TryAgainLater { hash: Hash },
    /// The network does not take it.
    Refused { hash: Hash, result: TransactionResult, detail: Option<String> },
}

impl Ledger {
    /// A network as it was left in a directory, or a new one; `None`: a new one that is kept in memory only.
    pub(crate) fn open(
        passphrase: &str,
        store: Option<Store>,
        retention: u32,
        now: u64,
    ) -> Result<Self, StoreError> {
        let network_id = genesis::network_id(passphrase);
        let native_contract = genesis::native_contract_id(&network_id);
        let mut state = State::default();
        genesis::entries(passphrase).into_iter().for_each(|entry| state.insert(entry));
        let mut state = Arc::new(state);
        let prices = NetworkConfig::load_from_snapshot(&Snapshot(state.clone()))
            .expect("the settings of the first ledger are complete");
        let modules = Modules::new(&prices);
        let (last, history, store) = match store {
            Some(mut store) => {
                let restored = store.load(&network_id, retention)?;
                match restored {
                    Some(restored) => {
                        state = Arc::new(restored.state);
                        (restored.last, restored.history, Some(store))
                    }
                    None => {
                        let (last, history) = close::first(
                            &mut state,
                            &network_id,
                            &native_contract,
                            &prices,
                            passphrase,
                            now,
                            retention,
                        );
                        store.snapshot(&network_id, &last, &state)?;
                        store.append(history.latest())?;
                        store.sync()?;
                        (last, history, Some(store))
                    }
                }
            }
            None => {
                let (last, history) = close::first(
                    &mut state,
                    &network_id,
                    &native_contract,
                    &prices,
                    passphrase,
                    now,
                    retention,
                );
                (last, history, None)
            }
        };
        state.live_entries().chain(state.archived_entries()).for_each(|entry| modules.add(entry, &prices));
        Ok(Self {
            network_id,
            native_contract,
            prices,
            modules,
            state,
            last,
            history,
            pending: Vec::new(),
            store,
        })
    }

    /// The id under which transactions are signed.
    pub(crate) fn network_id(&self) -> &Hash {
        &self.network_id
    }

    /// The native asset's contract.
    pub(crate) fn native_contract(&self) -> &Hash {
        &self.native_contract
    }

    /// The state after the last closed ledger.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The same, to keep: it stays as it is when the ledger goes on.
    pub(crate) fn shared_state(&self) -> Arc<State> {
        self.state.clone()
    }

    /// The last closed ledger's header.
    pub(crate) fn last(&self) -> &LedgerHeaderHistoryEntry {
        &self.last
    }

    /// Closed ledgers, as far back as they are kept.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// Whether transactions wait for the next ledger.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The ledger that would close at `now` (Unix seconds): never earlier than the last one.
    fn next(&self, now: u64) -> Closing {
        self.after(&self.last, now)
    }

    fn after(&self, last: &LedgerHeaderHistoryEntry, now: u64) -> Closing {
        Closing {
            sequence: last.header.ledger_seq + 1,
            close_time: now.max(last.header.scp_value.close_time.0),
            network_id: self.network_id.clone(),
            native_contract: self.native_contract.clone(),
        }
    }

    /// Takes a transaction into the queue, or says why not.
    pub(crate) fn submit(&mut self, envelope: TransactionEnvelope, now: u64) -> Submission {
        let envelope = Envelope::new(envelope, &self.network_id);
        let hash = envelope.hash.clone();
        if self.pending.iter().any(|pending| pending.hash == hash) || self.history.closed_in_latest(&hash) {
            return Submission::Duplicate { hash };
        }
        if let Err(refusal) =
            check::check(&envelope, &*self.state, &self.next(now), &self.prices, Stage::Submitted)
        {
            return Submission::Refused { hash, result: refusal.result, detail: refusal.detail };
        }
        let source = envelope.source();
        if self.pending.len() >= MAX_PENDING || self.pending.iter().any(|pending| pending.source() == source)
        {
            return Submission::TryAgainLater { hash };
        }
        self.pending.push(envelope);
        Submission::Pending { hash }
    }

    /// Simulates a transaction on a state, as if the ledger after the one that left it closed at `now`.
    pub(crate) fn simulate(
        &self,
        envelope: TransactionEnvelope,
        options: Options,
        state: &Arc<State>,
        last: &LedgerHeaderHistoryEntry,
        now: u64,
    ) -> Simulated {
        let envelope = Envelope::new(envelope, &self.network_id);
        simulate::simulate(&envelope, options, state, &self.after(last, now), &self.prices)
    }

    /// Closes `count` ledgers in a row, with the pending transactions as they fit. They are on disk when this
    /// returns, and nobody can see any of them before.
    ///
    /// # Errors
    /// A ledger could not be written. The network must not go on then: restart it, and it continues from the last
    /// ledger that is on disk.
    pub(crate) fn close(&mut self, count: u32, now: u64) -> Result<(), StoreError> {
        for _ in 0..count {
            self.close_one(now)?;
        }
        self.store.as_mut().map_or(Ok(()), Store::sync)
    }

    fn close_one(&mut self, now: u64) -> Result<(), StoreError> {
        let closing = self.next(now);
        let (fitting, waiting) = capacity::next_ledger(std::mem::take(&mut self.pending));
        self.pending = waiting;
        // Copies only where a stale endpoint holds the state, once.
        let state = Arc::make_mut(&mut self.state);
        let closed = close::close(state, &self.last, fitting, &closing, &self.prices, &self.modules);
        if let Some(store) = &mut self.store {
            store.append(&closed)?;
        }
        self.last = closed.header.clone();
        self.history.push(closed);
        if let Some(store) = &mut self.store
            && store.wants_snapshot()
        {
            store.snapshot(&self.network_id, &self.last, &self.state)?;
            store.forget_before(self.history.oldest().sequence())?;
        }
        Ok(())
    }

    /// What an account can spend, in stroops; `None`: it does not exist.
    pub(crate) fn spendable(&self, id: &stellar_xdr::AccountId) -> Option<i64> {
        entries::account(&*self.state, id).map(|account| operations::spendable(&account))
    }
}
