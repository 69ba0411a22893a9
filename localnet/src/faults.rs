//! What an endpoint does wrong on purpose. Each fault is one that clients of real networks meet.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};

use serde::{Deserialize, Serialize};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_switch_is_an_error() {
        assert!(serde_json::from_str::<FaultSwitches>(r#"{ "dwon": true }"#).is_err());
    }
}
