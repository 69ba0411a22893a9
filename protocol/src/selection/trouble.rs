//! Failures of one relay: each excludes it for a while, longer each time, and all are forgotten bit by bit.

use std::time::{Duration, Instant};

/// Exclusion after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// Longest exclusion of a relay that proved its key before.
const PROVEN_MAX: Duration = Duration::from_secs(15);
/// Longest exclusion of an address that never did (DESIGN §11).
const UNPROVEN_MAX: Duration = Duration::from_secs(600);
/// After each such time without a failure half of them are forgotten.
const HALF_LIFE: Duration = Duration::from_secs(600);

/// Failures that still count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    count: u32,
    last: Option<Instant>,
    until: Option<Instant>,
    firm: bool,
}

impl Trouble {
    /// One more failure. `proven` tells whether the relay ever proved its key; `jitter` is in 0..=255.
    pub fn failed(&mut self, now: Instant, proven: bool, jitter: u8) {
        self.count = self.failures(now).saturating_add(1);
        let longest = if proven { PROVEN_MAX } else { UNPROVEN_MAX };
        let wait = FIRST.saturating_mul(1 << (self.count - 1).min(10)).min(longest);
        // Up to a quarter less, so that clients which failed together do not return together.
        self.exclude(now, wait - wait * u32::from(jitter) / 1024);
        self.firm = false;
    }

    /// A failure whose cause will last at least `wait`.
    pub fn failed_for(&mut self, now: Instant, wait: Duration) {
        self.count = self.failures(now).saturating_add(1);
        self.exclude(now, wait);
        self.firm = true;
    }

    /// Ends an exclusion that only spreads attempts, not one whose cause lasts; failures still count.
    pub fn forgive(&mut self) {
        if !self.firm {
            self.until = None;
        }
    }

    /// It worked well for a long time: what was before counts no more.
    pub fn forget(&mut self) {
        self.count = 0;
    }

    /// Failures that still count.
    pub fn failures(&self, now: Instant) -> u32 {
        let Some(last) = self.last else { return 0 };
        let halvings = now.saturating_duration_since(last).as_secs() / HALF_LIFE.as_secs();
        self.count.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0)
    }

    /// How long it is still excluded.
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    fn exclude(&mut self, now: Instant, wait: Duration) {
        self.last = Some(now);
        self.until = Some(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclusion_grows_is_bounded_and_fades() {
        let start = Instant::now();
        let mut trouble = Trouble::default();
        let mut waits = Vec::new();
        for _ in 0..6 {
            trouble.failed(start, true, 0);
            waits.push(trouble.remaining(start).unwrap().as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 15, 15]);
        assert_eq!(trouble.failures(start + Duration::from_secs(1300)), 1);
        assert_eq!(trouble.failures(start + Duration::from_secs(99_999_999)), 0);
        assert_eq!(trouble.remaining(start + Duration::from_secs(15)), None);
        let mut stranger = Trouble::default();
        for _ in 0..40 {
            stranger.failed(start, false, 255);
        }
        let left = stranger.remaining(start).unwrap();
        assert!(left <= UNPROVEN_MAX && left >= UNPROVEN_MAX * 3 / 4, "{left:?}");
        stranger.forgive();
        assert_eq!(stranger.remaining(start), None);
        stranger.failed_for(start, HALF_LIFE);
        stranger.forgive();
        assert_eq!(stranger.remaining(start), Some(HALF_LIFE), "a lasting cause is not forgiven");
        stranger.forget();
        assert_eq!(stranger.failures(start), 0);
    }
}
