//! Whether one of several upstreams is worth asking. Pure: time comes in as an argument.

use std::time::Duration;

use tokio::time::Instant;

/// So many failures in a row take an upstream out.
const FALL: u32 = 3;
/// So many successes in a row bring it back.
const RISE: u32 = 2;
/// How often one that is out is given a request, to see.
const TRIAL: Duration = Duration::from_secs(10);

/// What is known of an upstream: neither a single failure nor a single success changes its standing.
#[derive(Debug, Default)]
pub(super) enum Health {
    /// In use, with so many failures in a row.
    #[default]
    Sound,
    Failing(u32),
    /// Out of use, with so many successes in a row, until the next trial.
    Out {
        successes: u32,
        trial: Instant,
    },
}

/// What finds out whether an upstream that is out is well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trials {
    /// A visitor's request now and then.
    ByVisitors,
    /// Requests of our own.
    ByChecks,
}

impl Health {
    /// Whether to give it a visitor's request now. One that is out gets at most a single one whenever its trial is due.
    pub(super) fn usable(&mut self, now: Instant, trials: Trials) -> bool {
        match self {
            Self::Sound | Self::Failing(_) => true,
            Self::Out { trial, .. } if trials == Trials::ByVisitors && *trial <= now => {
                *trial = now + TRIAL;
                true
            }
            Self::Out { .. } => false,
        }
    }

    /// A request was answered. After the first success of one that is out the next trial is at once.
    pub(super) fn passed(&mut self) {
        *self = match *self {
            Self::Out { successes, trial } if successes + 1 < RISE => {
                Self::Out { successes: successes + 1, trial: trial - TRIAL }
            }
            _ => Self::Sound,
        };
    }

    /// A request failed. True when that takes it out.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        let failures = match self {
            Self::Sound => 1,
            Self::Failing(failures) => *failures + 1,
            Self::Out { successes, .. } => {
                *successes = 0;
                return false;
            }
        };
        let out = failures >= FALL;
        *self = if out { Self::Out { successes: 0, trial: now + TRIAL } } else { Self::Failing(failures) };
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable(health: &mut Health, now: Instant) -> bool {
        health.usable(now, Trials::ByVisitors)
    }

    #[test]
    fn it_takes_three_failures_to_fall_and_two_successes_to_rise() {
        let start = Instant::now();
        let mut health = Health::default();
        assert!(!health.failed(start) && !health.failed(start));
        health.passed();
        assert!(!health.failed(start) && !health.failed(start) && usable(&mut health, start));
        assert!(health.failed(start), "the third in a row");
        assert!(!usable(&mut health, start + TRIAL - Duration::from_millis(1)));
        assert!(
            !health.usable(start + 10 * TRIAL, Trials::ByChecks),
            "no visitor is used for what checks do"
        );
        // One trial at a time; a failed one begins the wait anew.
        let later = start + TRIAL;
        assert!(usable(&mut health, later) && !usable(&mut health, later));
        assert!(!health.failed(later), "it is out already");
        assert!(!usable(&mut health, later + TRIAL / 2));
        let again = later + TRIAL;
        assert!(usable(&mut health, again));
        health.passed();
        assert!(usable(&mut health, again), "a second trial at once");
        assert!(!usable(&mut health, again), "but no third");
        health.passed();
        assert!(usable(&mut health, again) && usable(&mut health, again));
    }
}
