//! When a connection asks its other side for a sign of life, and when silence is its end. Pure: it is told what time it is,
//! what was heard, and whether streams are open.

use std::time::Duration;

use tokio::time::Instant;

use crate::unread::Opener;

/// Silence after which a connection is dead; later only if it was asked late.
pub(crate) const DEAD_AFTER: Duration = Duration::from_secs(10);
/// Quiet, since a stream is open, after which the other side is asked...
const ASK_AFTER: Duration = Duration::from_secs(3);
/// ...while none is, but one was [`LATELY`]...
const ASK_AFTER_USE: Duration = Duration::from_secs(7);
/// ...and later. The client's system then looks after the path ([`crate::tcp`]), which costs a relay with many sessions nothing.
const ASK_AFTER_AT_REST: Duration = Duration::from_secs(45);
/// How long a connection that was used, or is new, is looked after more closely.
const LATELY: Duration = Duration::from_secs(15);
/// How long any byte may take to follow the question, at least.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// By how much longer the relay waits: the client's question answers for both. A relay with many sessions at rest then wakes
/// once for each, to answer, and not once to ask and once to be answered.
const HEAD_START: Duration = Duration::from_secs(1);
/// What is due so soon is done now.
const SLACK: Duration = Duration::from_millis(100);

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Nothing.
    Wait,
    /// Ask for a sign of life.
    Ask,
    /// The other side is gone.
    End,
}

#[derive(Debug)]
pub(crate) struct Liveness {
    head_start: Duration,
    busy: bool,
    /// Since when it has been, or not.
    since: Instant,
    asked: Option<Asked>,
}

/// A question, open until something is heard from `since` on.
#[derive(Clone, Copy, Debug)]
struct Asked {
    since: Instant,
    by: Instant,
}

impl Liveness {
    /// Of a new connection. Streams are opened by relays.
    pub fn new(opener: Opener, now: Instant) -> Self {
        let head_start = if opener == Opener::Us { HEAD_START } else { Duration::ZERO };
        Self { head_start, busy: false, since: now, asked: None }
    }

    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// The first stream was opened, or the last one is gone.
    pub fn set_busy(&mut self, busy: bool, now: Instant) {
        (self.busy, self.since) = (busy, now);
    }

    /// Somebody doubts that the other side is still there: it is asked now and must be heard within this time.
    pub fn doubt(&mut self, within: Duration, heard: Instant, now: Instant) {
        let doubt = Asked { since: now, by: now + within };
        self.asked =
            Some(self.open(heard).map_or(doubt, |asked| Asked { by: asked.by.min(doubt.by), ..asked }));
    }

    pub fn look(&mut self, heard: Instant, now: Instant) -> Duty {
        self.asked = self.open(heard);
        match self.asked {
            Some(asked) if now >= asked.by => Duty::End,
            None if now + SLACK >= self.ask_at(heard) => {
                let quiet_since = if self.busy { heard.max(self.since) } else { heard };
                let by = (quiet_since + DEAD_AFTER).max(now + ANSWER_WITHIN);
                self.asked = Some(Asked { since: now, by });
                Duty::Ask
            }
            _ => Duty::Wait,
        }
    }

    /// When to look next.
    pub fn due(&self, heard: Instant, now: Instant) -> Instant {
        // Whether it was answered is seen before the next question is due.
        self.open(heard).map_or_else(|| self.ask_at(heard), |asked| asked.by.min(now + ASK_AFTER))
    }

    fn ask_at(&self, heard: Instant) -> Instant {
        let due = match self.busy {
            true => heard.max(self.since) + ASK_AFTER,
            false if heard < self.since + LATELY => heard + ASK_AFTER_USE,
            false => heard + ASK_AFTER_AT_REST,
        };
        due + self.head_start
    }

    fn open(&self, heard: Instant) -> Option<Asked> {
        self.asked.filter(|asked| heard < asked.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A side whose driver looks when it is due, in seconds.
    struct Side {
        liveness: Liveness,
        start: Instant,
        now: u64,
        heard: u64,
    }

    impl Side {
        fn new(opener: Opener) -> Self {
            let start = Instant::now();
            Self { liveness: Liveness::new(opener, start), start, now: 0, heard: 0 }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        /// Lets time pass until something is to be done.
        fn next(&mut self) -> (Duty, u64) {
            loop {
                let (heard, now) = (self.at(self.heard), self.at(self.now));
                let due = self.liveness.due(heard, now);
                assert!(due > now, "it would look again and again");
                self.now = (due - self.start).as_secs();
                let duty = self.liveness.look(heard, due);
                if duty != Duty::Wait {
                    return (duty, self.now);
                }
            }
        }

        fn asks(&mut self) -> u64 {
            let (duty, when) = self.next();
            assert_eq!(duty, Duty::Ask);
            when
        }

        fn hears(&mut self, now: u64) {
            (self.now, self.heard) = (now, now);
        }
    }

    const CLIENT: Opener = Opener::Them { at_most: 1 };

    #[test]
    fn a_connection_at_rest_is_asked_less_and_less_and_the_client_asks_first() {
        for (opener, asks) in [(CLIENT, [7, 14, 21, 66, 111]), (Opener::Us, [8, 16, 62, 108, 154])] {
            let mut side = Side::new(opener);
            for due in asks {
                assert_eq!(side.asks(), due);
                side.hears(due);
            }
        }
    }

    #[test]
    fn who_does_not_answer_is_gone_after_ten_seconds_of_silence_or_three_after_a_late_question() {
        for opener in [CLIENT, Opener::Us] {
            let mut new = Side::new(opener);
            new.asks();
            assert_eq!(new.next(), (Duty::End, if opener == Opener::Us { 11 } else { 10 }));
            let mut at_rest = Side::new(opener);
            at_rest.hears(100);
            let asked = at_rest.asks();
            assert_eq!(at_rest.next(), (Duty::End, asked + 3));
            let mut busy = Side::new(opener);
            busy.hears(100);
            busy.now = 120;
            busy.liveness.set_busy(true, busy.at(120));
            busy.asks();
            assert_eq!(busy.next(), (Duty::End, 130), "since there is something to lose");
        }
    }

    #[test]
    fn a_busy_connection_whose_answer_came_is_asked_again_in_time() {
        let mut side = Side::new(CLIENT);
        side.liveness.set_busy(true, side.at(0));
        assert_eq!(side.asks(), 3);
        side.heard = 4;
        assert_eq!(side.asks(), 7);
        assert_eq!(side.next(), (Duty::End, 14));
    }

    #[test]
    fn a_use_brings_closer_attention_back() {
        let mut side = Side::new(CLIENT);
        side.hears(100);
        side.liveness.set_busy(true, side.at(100));
        side.liveness.set_busy(false, side.at(101));
        assert_eq!(side.asks(), 107);
    }

    #[test]
    fn doubt_after_doubt_does_not_put_the_end_off() {
        let mut side = Side::new(CLIENT);
        side.hears(50);
        for now in [60, 61] {
            side.liveness.doubt(Duration::from_secs(2), side.at(50), side.at(now));
            side.now = now;
        }
        assert_eq!(side.next(), (Duty::End, 62));
    }
}
