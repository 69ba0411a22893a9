//! Wall-clock and ledger time as distinct types. Monotonic time is [`std::time::Instant`]; none of the three
//! converts into another by accident, and nothing here reads a clock.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Seconds since the Unix epoch (NumericDate of RFC 7519, section 2, without fractions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixSeconds(pub u64);

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

/// The newest closed ledger somebody speaks of: its sequence number and its close time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LedgerTime {
    /// Ledger sequence number.
    pub sequence: u32,
    /// Close time of that ledger.
    pub closed_at: UnixSeconds,
}

impl UnixSeconds {
    /// The same moment in milliseconds (saturating).
    pub fn millis(self) -> UnixMillis {
        UnixMillis(self.0.saturating_mul(1000))
    }

    /// This moment plus `duration`, in whole seconds (saturating).
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs()))
    }

    /// Time from `earlier` to this moment; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

impl UnixMillis {
    /// The second this moment lies in.
    pub fn seconds(self) -> UnixSeconds {
        UnixSeconds(self.0 / 1000)
    }

    /// This moment plus `duration`, in whole milliseconds (saturating).
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Time from `earlier` to this moment; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}
