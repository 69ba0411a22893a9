//! The wall clock, read in one place.

use std::time::SystemTime;

use tunnler_protocol::{UnixMillis, UnixSeconds};

/// Now, in milliseconds.
pub fn millis() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Now, in seconds.
pub fn seconds() -> UnixSeconds {
    millis().seconds()
}
