//! What one endpoint sees of the ledger: normally all of it; a stale or forgetful one sees less.

use std::sync::Arc;

use stellar_xdr::Hash;

use crate::appearance::Appearance;
use crate::ledger::Ledger;
use crate::ledger::history::ClosedLedger;
use crate::ledger::state::State;

/// A ledger through one endpoint's eyes.
pub(crate) struct View<'a> {
    pub ledger: &'a Ledger,
    pub appearance: &'a Appearance,
    /// Unix seconds.
    pub now: u64,
}

impl<'a> View<'a> {
    /// The passphrase that this endpoint tells.
    pub(crate) fn passphrase(&self) -> &str {
        self.appearance.faults.passphrase.as_deref().unwrap_or(&self.appearance.passphrase)
    }

    /// The newest ledger that this endpoint knows.
    pub(crate) fn latest(&self) -> &'a Arc<ClosedLedger> {
        let history = self.ledger.history();
        self.appearance
            .frozen
            .as_ref()
            .and_then(|frozen| history.ledger(frozen.ledger))
            .unwrap_or(history.latest())
    }

    /// The oldest ledger that this endpoint has kept.
    pub(crate) fn oldest(&self) -> &'a Arc<ClosedLedger> {
        let history = self.ledger.history();
        let first_kept = self
            .appearance
            .faults
            .retention
            .map_or(0, |kept| (self.latest().sequence() + 1).saturating_sub(kept.get()));
        history.ledger(first_kept).unwrap_or(history.oldest())
    }

    /// Ledgers that this endpoint keeps at most.
    pub(crate) fn retention(&self) -> u32 {
        self.appearance.faults.retention.map_or(self.ledger.history().retention(), |kept| kept.get())
    }

    /// The ledgers from `start` to the latest, in order.
    pub(crate) fn ledgers_from(&self, start: u32) -> impl Iterator<Item = &'a Arc<ClosedLedger>> {
        let latest = self.latest().sequence();
        self.ledger.history().from(start).take_while(move |ledger| ledger.sequence() <= latest)
    }

    /// The ledger of a transaction that this endpoint knows.
    pub(crate) fn ledger_of(&self, hash: &Hash) -> Option<&'a Arc<ClosedLedger>> {
        let known = self.oldest().sequence()..=self.latest().sequence();
        self.ledger.history().ledger_of(hash).filter(|ledger| known.contains(&ledger.sequence()))
    }

    /// The state after the latest ledger that this endpoint knows.
    pub(crate) fn state(&self) -> &State {
        match &self.appearance.frozen {
            Some(frozen) => &frozen.state,
            None => self.ledger.state(),
        }
    }

    /// The same, to share.
    pub(crate) fn shared_state(&self) -> Arc<State> {
        match &self.appearance.frozen {
            Some(frozen) => frozen.state.clone(),
            None => self.ledger.shared_state(),
        }
    }

    /// Whether a ledger is one that this endpoint has.
    pub(crate) fn has(&self, sequence: u32) -> bool {
        (self.oldest().sequence()..=self.latest().sequence()).contains(&sequence)
    }
}
