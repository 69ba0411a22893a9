//! When to order a certificate: pure arithmetic on times, seeded.
//!
//! After failures 1, 10, 100 minutes, then daily (what Let's Encrypt asks for); renewal when two thirds of the lifetime
//! are over or when the CA suggests (RFC 9773), spread so that clients do not come all at once.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tunnler_protocol::UnixSeconds;

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;
/// Longest time that a CA is left alone because it asks for it.
const LONGEST_LIMIT: u64 = 8 * DAY;

/// Failures since the last certificate; kept on disk, so that a restart is no way around the waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// How many in a row.
    pub count: u32,
    /// When the last one was, in Unix seconds.
    pub last: u64,
    /// Until when the CA wants to be left alone, in Unix seconds.
    #[serde(default)]
    pub until: u64,
}

/// The renewal window that a CA suggests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its beginning.
    pub start: UnixSeconds,
    /// Its end.
    pub end: UnixSeconds,
}

impl Failures {
    /// One more failure, now.
    #[must_use]
    pub fn failed(self, now: UnixSeconds) -> Self {
        Self { count: self.count.saturating_add(1), last: now.0, ..self }
    }

    /// The CA asks to be left alone until then. No failure of the name's.
    #[must_use]
    pub fn told_to_wait(self, until: UnixSeconds) -> Self {
        Self { until: until.0, ..self }
    }

    /// The earliest moment of the next attempt. A clock that jumped back shortens the wait, never prolongs it beyond
    /// one step.
    pub fn next_attempt(self, now: UnixSeconds) -> UnixSeconds {
        // Never longer than the CA can have asked for, whatever the clock does.
        let told = if self.until > now.0 + LONGEST_LIMIT { now.0 } else { self.until };
        let wait = match self.count {
            0 => return UnixSeconds(told.max(now.0)),
            1 => MINUTE,
            2 => 10 * MINUTE,
            3 => 100 * MINUTE,
            _ => DAY,
        };
        UnixSeconds(self.last.min(now.0).saturating_add(wait).max(told))
    }
}

/// When a certificate valid from `not_before` to `not_after` is to be renewed. `seed` is any number that differs
/// between clients and stays the same for one certificate.
pub fn renewal(
    not_before: UnixSeconds,
    not_after: UnixSeconds,
    suggested: Option<Window>,
    seed: u64,
) -> UnixSeconds {
    // A suggestion that ends after the certificate would leave visitors without one.
    if let Some(window) = suggested.filter(|window| window.start < window.end && window.end < not_after) {
        return UnixSeconds(window.start.0 + seed % (window.end.0 - window.start.0));
    }
    let lifetime = not_after.since(not_before).as_secs();
    let spread = (lifetime / 24).max(1);
    UnixSeconds(not_before.0 + lifetime * 2 / 3 - seed % spread)
}

/// How long to sleep until `then`; at most an hour, so that a jump of the clock is noticed.
pub fn nap(now: UnixSeconds, then: UnixSeconds) -> Duration {
    then.since(now).clamp(Duration::from_secs(1), Duration::from_secs(3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_wait_longer_and_longer_and_survive_clock_jumps() {
        let now = UnixSeconds(1_000_000);
        let mut failures = Failures::default();
        assert_eq!(failures.next_attempt(now), now);
        for wait in [60, 600, 6000, 86_400, 86_400] {
            failures = failures.failed(now);
            assert_eq!(failures.next_attempt(now), UnixSeconds(now.0 + wait));
        }
        assert_eq!(failures.next_attempt(UnixSeconds(10)), UnixSeconds(10 + 86_400));
    }

    #[test]
    fn what_the_ca_asks_for_is_kept_to() {
        let now = UnixSeconds(1_000_000);
        let told = Failures::default().told_to_wait(UnixSeconds(1_007_200));
        assert_eq!(told.next_attempt(now), UnixSeconds(1_007_200));
        assert_eq!(told.failed(now).next_attempt(now), UnixSeconds(1_007_200), "longer than a minute");
        assert_eq!(told.next_attempt(UnixSeconds(1_007_201)), UnixSeconds(1_007_201));
        assert_eq!(told.next_attempt(UnixSeconds(0)), UnixSeconds(0), "a clock that jumped back");
    }

    #[test]
    fn a_week_of_failing_stays_within_the_ca_budget() {
        // Five failures an hour is the CA's limit.
        let (mut failures, mut now, mut attempts) = (Failures::default(), UnixSeconds(0), Vec::new());
        while now.0 < 7 * DAY {
            attempts.push(now.0);
            failures = failures.failed(now);
            now = failures.next_attempt(now);
        }
        for start in &attempts {
            let within = attempts.iter().filter(|at| (*start..start + 3600).contains(at)).count();
            assert!(within <= 3, "{within} attempts within an hour of {start}");
        }
        assert!((8..=12).contains(&attempts.len()), "{attempts:?}");
    }

    #[test]
    fn renewal_comes_at_two_thirds_or_when_the_ca_says() {
        let (from, to) = (UnixSeconds(0), UnixSeconds(90 * DAY));
        for seed in [0, 1, u64::MAX] {
            let at = renewal(from, to, None, seed).0;
            assert!((56 * DAY..=60 * DAY).contains(&at), "{at}");
            let window = Window { start: UnixSeconds(10 * DAY), end: UnixSeconds(12 * DAY) };
            let at = renewal(from, to, Some(window), seed).0;
            assert!((10 * DAY..12 * DAY).contains(&at), "{at}");
            let late = Window { start: UnixSeconds(89 * DAY), end: UnixSeconds(91 * DAY) };
            assert!(renewal(from, to, Some(late), seed).0 <= 60 * DAY);
        }
        assert!(renewal(from, UnixSeconds(30), None, 7).0 <= 20);
    }
}
