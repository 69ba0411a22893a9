//! How much work one feed may make us do. Pure token bucket; who is out of tokens waits, so that a flood slows down its
//! own feed only.

use std::time::{Duration, Instant};

/// Tokens of one feed.
#[derive(Debug)]
pub(super) struct Budget {
    tokens: f64,
    most: f64,
    rate: f64,
    at: Instant,
}

impl Budget {
    /// A full bucket that holds `burst` tokens and earns `rate` a second.
    pub(super) fn new(burst: u32, rate: u32, now: Instant) -> Self {
        let most = f64::from(burst);
        Self { tokens: most, most, rate: f64::from(rate), at: now }
    }

    /// Takes one token and returns how long to wait before it may be used.
    pub(super) fn take(&mut self, now: Instant) -> Duration {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + earned).min(self.most) - 1.0;
        self.at = now;
        Duration::from_secs_f64((-self.tokens).max(0.0) / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_a_flood_is_slowed_to_the_rate() {
        let start = Instant::now();
        let mut budget = Budget::new(100, 200, start);
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
