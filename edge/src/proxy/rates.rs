//! How many requests a service takes, from one network and in all. Memory does not grow with the number of visitors.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tunnler_protocol::prefix::{self, Prefix};

/// Networks are counted in so many cells. Two may share one; which ones do is secret.
const CELLS: usize = 4096;

/// Requests a second, and how many may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub per_second: NonZeroU32,
    /// At once.
    pub burst: NonZeroU32,
}

/// The limits of one service.
pub struct Rates {
    each: Box<[DefaultDirectRateLimiter]>,
    all: Option<DefaultDirectRateLimiter>,
    hash: RandomState,
    clock: DefaultClock,
}

impl std::fmt::Debug for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rates").finish_non_exhaustive()
    }
}

impl Rates {
    /// Limits for each network and for all together; `None` means no limit.
    pub fn new(each: Option<Rate>, all: Option<Rate>) -> Self {
        let limiter =
            |rate: Rate| RateLimiter::direct(Quota::per_second(rate.per_second).allow_burst(rate.burst));
        let cells = each.map(|rate| (0..CELLS).map(|_| limiter(rate)).collect());
        let clock = DefaultClock::default();
        Self { each: cells.unwrap_or_default(), all: all.map(limiter), hash: RandomState::new(), clock }
    }

    /// Counts a request, or says after how long one would be taken. What its own network may not send costs the others
    /// nothing.
    pub(super) fn count(&self, visitor: IpAddr) -> Result<(), Duration> {
        let cell = self.hash.hash_one(Prefix::of(visitor, prefix::HOST)) as usize % CELLS;
        for limiter in self.each.get(cell).into_iter().chain(&self.all) {
            limiter.check().map_err(|wait| wait.wait_time_from(self.clock.now()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u32, burst: u32) -> Option<Rate> {
        let new = |n| NonZeroU32::new(n).unwrap();
        Some(Rate { per_second: new(per_second), burst: new(burst) })
    }

    fn taken(rates: &Rates, address: &str) -> usize {
        (0..100).filter(|_| rates.count(address.parse().unwrap()).is_ok()).count()
    }

    #[test]
    fn one_network_is_one_and_all_are_counted_together() {
        let rates = Rates::new(rate(1, 5), rate(1, 8));
        assert_eq!(taken(&rates, "2001:db8::1"), 5);
        assert_eq!(taken(&rates, "2001:db8::2"), 0, "the same /64");
        let wait = rates.count("2001:db8::3".parse().unwrap()).unwrap_err();
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        // A refused network uses nothing of what all share; another gets the rest of it.
        assert_eq!(taken(&rates, "192.0.2.1") + taken(&rates, "198.51.100.1"), 3);
        assert_eq!(taken(&Rates::new(None, None), "192.0.2.1"), 100);
    }
}
