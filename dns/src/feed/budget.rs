//! How many signatures one feed may make us check. Pure token bucket; who is out of tokens waits, so that a flood
//! slows down its own feed only.

use std::time::{Duration, Instant};

/// Checks a second, once the burst is used up.
const RATE: f64 = 200.0;

/// Tokens of one feed.
#[derive(Debug)]
pub(super) struct Budget {
    tokens: f64,
    most: f64,
    at: Instant,
}

impl Budget {
    /// A full bucket that holds `burst` checks: what a snapshot may need.
    pub(super) fn new(burst: usize, now: Instant) -> Self {
        let most = burst as f64;
        Self { tokens: most, most, at: now }
    }

    /// Takes one token and returns how long to wait before it may be used.
    pub(super) fn take(&mut self, now: Instant) -> Duration {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * RATE;
        self.tokens = (self.tokens + earned).min(self.most) - 1.0;
        self.at = now;
        Duration::from_secs_f64((-self.tokens).max(0.0) / RATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_a_flood_is_slowed_to_the_rate() {
        let start = Instant::now();
        let mut budget = Budget::new(100, start);
        assert!((0..100).all(|_| budget.take(start).is_zero()));
        let mut now = start;
        for _ in 0..1000 {
            now += budget.take(now);
        }
        let seconds = (now - start).as_secs_f64();
        assert!((4.9..5.2).contains(&seconds), "1000 checks took {seconds} s");
        assert!((0..100).all(|_| budget.take(now + Duration::from_secs(10)).is_zero()));
    }
}
