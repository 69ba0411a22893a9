//! When the last byte of a visit moved. Noted by whatever task moves it, without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The last sign of life of one visit, to the microsecond. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Pulse {
    began: Instant,
    /// Microseconds from the beginning to the last beat.
    last: Arc<AtomicU64>,
}

impl Pulse {
    /// One that beats for the first time `now`.
    pub fn new(now: Instant) -> Self {
        Self { began: now, last: Arc::default() }
    }

    /// Bytes moved.
    pub fn beat(&self, now: Instant) {
        let since = now.saturating_duration_since(self.began).as_micros();
        self.last.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When bytes moved last.
    pub fn last(&self) -> Instant {
        self.began + Duration::from_micros(self.last.load(Ordering::Relaxed))
    }
}
