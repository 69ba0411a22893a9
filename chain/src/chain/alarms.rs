//! Alarms that last: said once when they have lasted, once when they are over, and shown as metrics meanwhile. A call
//! that fails now and then is no alarm, nor is the first second of a program. Nothing is decided by this.

use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use crate::status::Alarm;

/// How long something must go on to be told.
const LASTING: Duration = Duration::from_secs(15);

/// What goes on.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    going_on: Vec<Ongoing>,
}

#[derive(Debug)]
struct Ongoing {
    kind: Discriminant<Alarm>,
    since: Instant,
    is_told: bool,
}

/// What is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Raised(Alarm),
    Over(Discriminant<Alarm>),
}

impl Alarms {
    /// Says and shows what there is to say about `alarms`, those of now.
    pub(super) fn tell(&mut self, alarms: &[Alarm], now: Instant) {
        for word in self.observe(alarms, now) {
            match word {
                Word::Raised(alarm) => tracing::warn!(%alarm, "reading the chain needs attention"),
                Word::Over(_) => tracing::info!(alarms = alarms.len(), "an alarm about the chain is over"),
            }
        }
        for (kind, name) in Alarm::kinds() {
            let is_told = self.going_on.iter().any(|ongoing| ongoing.kind == kind && ongoing.is_told);
            metrics::gauge!("chain_alarms", "alarm" => name).set(f64::from(u8::from(is_told)));
        }
    }

    fn observe(&mut self, alarms: &[Alarm], now: Instant) -> Vec<Word> {
        let mut words = Vec::new();
        let is_over = |ongoing: &mut Ongoing| !alarms.iter().any(|alarm| discriminant(alarm) == ongoing.kind);
        let over = self.going_on.extract_if(.., is_over).filter(|ongoing| ongoing.is_told);
        words.extend(over.map(|ongoing| Word::Over(ongoing.kind)));
        for alarm in alarms {
            let kind = discriminant(alarm);
            match self.going_on.iter_mut().find(|ongoing| ongoing.kind == kind) {
                None => self.going_on.push(Ongoing { kind, since: now, is_told: false }),
                Some(ongoing) if !ongoing.is_told && now.duration_since(ongoing.since) >= LASTING => {
                    ongoing.is_told = true;
                    words.push(Word::Raised(alarm.clone()));
                }
                Some(_) => {}
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_once_and_its_end_too() {
        let (mut alarms, start) = (Alarms::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let stale = |age| Alarm::Stale { age };
        assert_eq!(alarms.observe(&[Alarm::Empty], at(0)), [], "a start is no alarm");
        assert_eq!(alarms.observe(&[], at(1)), [], "nothing was said, so nothing is over");
        assert_eq!(alarms.observe(&[stale(300)], at(10)), []);
        assert_eq!(alarms.observe(&[stale(314)], at(24)), []);
        assert_eq!(alarms.observe(&[stale(315)], at(25)), [Word::Raised(stale(315))]);
        assert_eq!(alarms.observe(&[stale(316)], at(26)), [], "an age that grows is no other alarm");
        let kind = discriminant(&stale(0));
        assert_eq!(alarms.observe(&[], at(40)), [Word::Over(kind)]);
        assert_eq!(alarms.observe(&[stale(300)], at(41)), [], "it must last again");
    }
}
