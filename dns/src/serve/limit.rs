//! Limits per network: a rate limit in constant memory for UDP, and counted slots for TCP connections.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tunnler_protocol::Prefix;

/// Cells of the rate limit. Two networks may share one; which ones do is secret.
const CELLS: usize = 1 << 16;
/// Every so many answers over the limit one is sent truncated, so that an honest asker comes back by TCP.
const SLIP: u64 = 2;

/// How many answers one network gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Any number.
    Unlimited,
    /// So many a second, and as many again at once.
    PerSecond(u32),
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer it.
    Answer,
    /// Send it to TCP.
    Truncate,
    /// Say nothing.
    Drop,
}

/// Answers per second and network (GCRA: each cell holds the time at which its network is even again).
#[derive(Debug)]
pub struct RateLimit {
    interval: Option<Duration>,
    burst: Duration,
    start: Instant,
    hash: RandomState,
    cells: Box<[AtomicU64]>,
    slipped: AtomicU64,
}

impl RateLimit {
    /// A limit that starts even.
    pub fn new(rate: Rate, start: Instant) -> Self {
        let interval = match rate {
            Rate::Unlimited => None,
            Rate::PerSecond(rate) => Some(Duration::from_secs(1) / rate.max(1)),
        };
        let cells = if interval.is_some() { CELLS } else { 0 };
        Self {
            interval,
            burst: Duration::from_secs(1),
            start,
            hash: RandomState::new(),
            cells: (0..cells).map(|_| AtomicU64::new(0)).collect(),
            slipped: AtomicU64::new(0),
        }
    }

    /// Counts one packet of `prefix`.
    pub fn count(&self, prefix: Prefix, now: Instant) -> Verdict {
        let Some(interval) = self.interval else { return Verdict::Answer };
        let now = now.saturating_duration_since(self.start).as_nanos() as u64;
        let cell = &self.cells[self.hash.hash_one(prefix) as usize % CELLS];
        let even = cell.load(Ordering::Relaxed).max(now);
        if even - now > self.burst.as_nanos() as u64 {
            let slip = self.slipped.fetch_add(1, Ordering::Relaxed).is_multiple_of(SLIP);
            return if slip { Verdict::Truncate } else { Verdict::Drop };
        }
        // Two workers that meet in one cell may count once for two: a rate limit need not be exact.
        cell.store(even + interval.as_nanos() as u64, Ordering::Relaxed);
        Verdict::Answer
    }
}

/// Connection slots, in total and per network.
#[derive(Debug)]
pub struct Slots {
    most: usize,
    most_per_prefix: usize,
    taken: Arc<Mutex<HashMap<Prefix, usize>>>,
}

/// One taken slot, given back when dropped.
#[derive(Debug)]
pub struct Slot {
    prefix: Prefix,
    taken: Arc<Mutex<HashMap<Prefix, usize>>>,
}

impl Slots {
    /// Slots of which none is taken.
    pub fn new(most: usize, most_per_prefix: usize) -> Self {
        Self { most, most_per_prefix, taken: Arc::default() }
    }

    /// Takes a slot, unless there is none left.
    pub fn take(&self, prefix: Prefix) -> Option<Slot> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = taken.values().sum();
        let own = taken.get(&prefix).copied().unwrap_or(0);
        if total >= self.most || own >= self.most_per_prefix {
            return None;
        }
        taken.insert(prefix, own + 1);
        Some(Slot { prefix, taken: self.taken.clone() })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.prefix) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.prefix);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::network;

    fn prefix(text: &str) -> Prefix {
        network(text.parse().unwrap())
    }

    #[test]
    fn networks_are_24_and_56_bits() {
        assert_eq!(prefix("192.0.2.1"), prefix("192.0.2.254"));
        assert_ne!(prefix("192.0.2.1"), prefix("192.0.3.1"));
        assert_eq!(prefix("::ffff:192.0.2.1"), prefix("192.0.2.7"));
        assert_eq!(prefix("2001:db8:0:1::1"), prefix("2001:db8:0:ff::1"));
        assert_ne!(prefix("2001:db8:0:1::1"), prefix("2001:db8:0:100::1"));
    }

    #[test]
    fn a_network_over_its_rate_is_sent_to_tcp_half_the_time_and_others_are_not_affected() {
        let start = Instant::now();
        let limit = RateLimit::new(Rate::PerSecond(100), start);
        let (noisy, quiet) = (prefix("192.0.2.1"), prefix("198.51.100.1"));
        let counts = |now| {
            let mut counts = [0_u32; 3];
            for _ in 0..1000 {
                counts[limit.count(noisy, now) as usize] += 1;
            }
            counts
        };
        let [answered, truncated, dropped] = counts(start);
        assert!((100..=102).contains(&answered), "{answered}");
        assert!(truncated.abs_diff(dropped) <= 1);
        // One in 65,536 runs the two share a cell.
        assert_eq!(limit.count(quiet, start), Verdict::Answer);
        let [answered, ..] = counts(start + Duration::from_millis(500));
        assert!((49..=51).contains(&answered), "{answered}");
    }

    #[test]
    fn slots_are_capped_in_total_and_per_network_and_come_back() {
        let slots = Slots::new(3, 2);
        let (a, b) = (prefix("192.0.2.1"), prefix("198.51.100.1"));
        let taken = [slots.take(a).unwrap(), slots.take(a).unwrap()];
        assert!(slots.take(a).is_none());
        let other = slots.take(b).unwrap();
        assert!(slots.take(b).is_none());
        drop(taken);
        assert!(slots.take(a).is_some());
        drop(other);
        assert!(slots.taken.lock().unwrap().is_empty());
    }
}
