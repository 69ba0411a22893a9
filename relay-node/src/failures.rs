//! How often logins may fail, per visitor prefix and per key. Pure: time comes in as an argument.
//!
//! A token bucket each: [`BURST`] failures at once, then one every [`REFILL`]. Bounded in memory: what has refilled is
//! forgotten, and beyond [`MOST`] entries the one nearest to refilled is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tunnler_protocol::Address;
use tunnler_protocol::prefix::{self, Prefix};

/// Failures allowed at once.
const BURST: u32 = 10;
/// Time that makes up for one failure.
const REFILL: Duration = Duration::from_secs(6);
/// Entries remembered.
const MOST: usize = 16_384;

/// Whose failures are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Culprit {
    /// An IPv4 address or an IPv6 /64.
    Prefix(Prefix),
    /// A client that signed what failed.
    Key(Address),
}

impl Culprit {
    /// The prefix of `address`.
    pub fn prefix(address: IpAddr) -> Self {
        Self::Prefix(Prefix::of(address, prefix::HOST))
    }
}

/// Recent failures.
#[derive(Debug, Default)]
pub struct Failures {
    /// When each culprit's bucket will be full again.
    full_at: HashMap<Culprit, Instant>,
}

impl Failures {
    /// Whether `culprit` has failed too often lately.
    pub fn exhausted(&self, culprit: Culprit, now: Instant) -> bool {
        self.full_at.get(&culprit).is_some_and(|full_at| *full_at > now + REFILL * (BURST - 1))
    }

    /// Counts one failure.
    pub fn count(&mut self, culprit: Culprit, now: Instant) {
        if self.full_at.len() >= MOST && !self.full_at.contains_key(&culprit) {
            self.full_at.retain(|_, full_at| *full_at > now);
            if self.full_at.len() >= MOST
                && let Some(mildest) =
                    self.full_at.iter().min_by_key(|(_, full_at)| **full_at).map(|(c, _)| *c)
            {
                self.full_at.remove(&mildest);
            }
        }
        let full_at = self.full_at.entry(culprit).or_insert(now);
        *full_at = ((*full_at).max(now) + REFILL).min(now + REFILL * BURST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_failures_then_one_each_six_seconds() {
        let start = Instant::now();
        let culprit = Culprit::prefix("192.0.2.1".parse().unwrap());
        let mut failures = Failures::default();
        for n in 0..BURST {
            assert!(!failures.exhausted(culprit, start), "after {n}");
            failures.count(culprit, start);
        }
        assert!(failures.exhausted(culprit, start));
        assert!(failures.exhausted(culprit, start + REFILL - Duration::from_millis(1)));
        assert!(!failures.exhausted(culprit, start + REFILL));
        failures.count(culprit, start + REFILL);
        assert!(failures.exhausted(culprit, start + REFILL));
        assert!(!failures.exhausted(Culprit::prefix("192.0.2.2".parse().unwrap()), start));
    }

    #[test]
    fn memory_is_bounded() {
        let now = Instant::now();
        let mut failures = Failures::default();
        for n in 0..(MOST as u32 + 100) {
            failures.count(Culprit::prefix(IpAddr::from(n.to_be_bytes())), now);
        }
        assert_eq!(failures.full_at.len(), MOST);
    }
}
