//! What an endpoint does wrong on purpose. Each fault is one that clients of real networks meet.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ledger::state::State;

/// The faults of one endpoint, as asked for. None by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultSwitches {
    /// Connections break before an answer.
    pub down: bool,
    /// Milliseconds to wait before each answer.
    pub slow_ms: u64,
    /// Answer everything with this HTTP status: 429, 500, 502, 503…
    pub http_status: Option<NonZeroU16>,
    /// Answer everything with something that is not JSON.
    pub garbage: bool,
    /// Answer one in this many `sendTransaction` with TRY_AGAIN_LATER, and drop the transaction.
    pub try_again_later_every: Option<NonZeroU32>,
    /// Go on answering from the ledger that was the latest when this was switched on.
    pub stale: bool,
    /// Pretend to keep only this many ledgers.
    pub retention: Option<NonZeroU32>,
    /// Claim to be a network with this passphrase.
    pub passphrase: Option<String>,
    /// Answer these keys (base64 `LedgerKey`) with these entries (base64 `LedgerEntryData`; empty: missing).
    pub forged: BTreeMap<String, String>,
}

/// The faults of one endpoint, in force.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    pub switches: Arc<FaultSwitches>,
    pub passphrase: Option<String>,
    pub retention: Option<NonZeroU32>,
    pub forged: Arc<BTreeMap<String, String>>,
    pub frozen: Option<Frozen>,
    /// Not a fault: where this endpoint says that the friendbot is.
    pub friendbot_url: Option<String>,
    sends: Arc<AtomicU32>,
}

/// The ledger at which a stale endpoint stopped.
#[derive(Clone)]
pub(crate) struct Frozen {
    pub ledger: u32,
    pub state: Arc<State>,
}

impl Faults {
    /// Faults as asked for; `frozen` is where a stale endpoint stops.
    pub(crate) fn new(
        switches: FaultSwitches,
        frozen: Option<Frozen>,
        friendbot_url: Option<String>,
    ) -> Self {
        Self {
            passphrase: switches.passphrase.clone(),
            retention: switches.retention,
            forged: Arc::new(switches.forged.clone()),
            frozen,
            friendbot_url,
            sends: Arc::default(),
            switches: Arc::new(switches),
        }
    }

    /// How long to wait before an answer.
    pub(crate) fn delay(&self) -> Duration {
        Duration::from_millis(self.switches.slow_ms)
    }

    /// Whether it is the turn of this send to be refused.
    pub(crate) fn refuses_this_send(&self) -> bool {
        let Some(every) = self.switches.try_again_later_every else { return false };
        let number = self.sends.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        number % every == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_n_sends_is_refused() {
        let switches =
            FaultSwitches { try_again_later_every: NonZeroU32::new(3), ..FaultSwitches::default() };
        let faults = Faults::new(switches, None, None);
        let refused: Vec<bool> = (0..6).map(|_| faults.refuses_this_send()).collect();
        assert_eq!(refused, [false, false, true, false, false, true]);
    }

    #[test]
    fn an_unknown_switch_is_an_error() {
        assert!(serde_json::from_str::<FaultSwitches>(r#"{ "dwon": true }"#).is_err());
    }
}
