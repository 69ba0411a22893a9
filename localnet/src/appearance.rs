//! How one endpoint shows the ledger: under which name and address, and with which faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::faults::FaultSwitches;
use crate::ledger::state::State;

/// One endpoint's way of answering, as it is now.
#[derive(Clone, Default)]
pub(crate) struct Appearance {
    pub passphrase: String,
    /// Where this endpoint says that the friendbot is.
    pub friendbot_url: String,
    pub faults: Arc<FaultSwitches>,
    /// Where a stale endpoint stopped.
    pub frozen: Option<Frozen>,
    sends: Arc<AtomicU32>,
}

/// The ledger at which a stale endpoint stopped.
#[derive(Clone)]
pub(crate) struct Frozen {
    pub ledger: u32,
    pub state: Arc<State>,
}

impl Appearance {
    /// An endpoint without faults.
    pub(crate) fn new(passphrase: &str, friendbot_url: String) -> Self {
        Self { passphrase: passphrase.to_owned(), friendbot_url, ..Self::default() }
    }

    /// The same endpoint with other faults.
    pub(crate) fn with_faults(&self, faults: FaultSwitches, frozen: Option<Frozen>) -> Self {
        Self { faults: Arc::new(faults), frozen, sends: Arc::default(), ..self.clone() }
    }

    /// How long to wait before an answer.
    pub(crate) fn delay(&self) -> Duration {
        Duration::from_millis(self.faults.slow_ms)
    }

    /// Whether it is the turn of this send to be refused.
    pub(crate) fn refuses_this_send(&self) -> bool {
        let Some(every) = self.faults.try_again_later_every else { return false };
        let number = self.sends.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        number % every == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    #[test]
    fn one_in_n_sends_is_refused() {
        let faults = FaultSwitches { try_again_later_every: NonZeroU32::new(3), ..FaultSwitches::default() };
        let appearance = Appearance { faults: Arc::new(faults), ..Appearance::default() };
        let refused: Vec<bool> = (0..6).map(|_| appearance.refuses_this_send()).collect();
        assert_eq!(refused, [false, false, true, false, false, true]);
    }
}
