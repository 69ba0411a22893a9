//! The one place of this crate that reads the wall clock. Decisions get the time as an argument.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tunnler_protocol::time::UnixMillis;

/// One moment on both clocks: feeds are judged by the monotonic one, signed documents by the wall's.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic time.
    pub instant: Instant,
    /// Wall clock.
    pub unix: UnixMillis,
}

/// Reads the wall clock.
pub fn unix_now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Reads both clocks.
pub fn now() -> Now {
    Now { instant: Instant::now(), unix: unix_now() }
}
