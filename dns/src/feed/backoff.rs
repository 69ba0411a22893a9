//! How long to wait before a feed is dialled again. Pure; the jitter comes in.

use std::time::Duration;

/// First wait.
const FIRST: Duration = Duration::from_millis(250);
/// Longest wait for a relay that proved its key at this address: it will be back.
const PROVEN_MOST: Duration = Duration::from_secs(5);
/// Longest wait for an address that never did: it may be a stranger's, who should not be bothered.
const UNPROVEN_MOST: Duration = Duration::from_secs(600);

/// Waits that double, up to a bound that depends on what the address is known for.
#[derive(Debug)]
pub(super) struct Backoff {
    failures: u32,
    proven: bool,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { failures: 0, proven: false }
    }

    /// The address proved to be the relay's.
    pub(super) fn proven(&mut self) {
        *self = Self { failures: 0, proven: true };
    }

    /// The next wait: between half and all of the current step; `jitter` is uniform in [0, 1).
    pub(super) fn next(&mut self, jitter: f64) -> Duration {
        let most = if self.proven { PROVEN_MOST } else { UNPROVEN_MOST };
        let step = FIRST.saturating_mul(1 << self.failures.min(16)).min(most);
        self.failures += 1;
        step.mul_f64(0.5 + jitter / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_left_alone_and_relays_found_again() {
        let mut backoff = Backoff::new();
        let unproven: Vec<_> = (0..14).map(|_| backoff.next(0.999_999)).collect();
        assert!(unproven.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(unproven[0] <= FIRST && *unproven.last().unwrap() > Duration::from_secs(599));
        let first_hour: usize = {
            let mut spent = Duration::ZERO;
            unproven
                .iter()
                .take_while(|wait| {
                    spent += **wait;
                    spent < Duration::from_secs(3600)
                })
                .count()
        };
        assert!(first_hour <= 16, "a few attempts an hour");
        backoff.proven();
        assert!((0..14).map(|_| backoff.next(0.5)).all(|wait| wait <= PROVEN_MOST));
    }
}
