//! One relay's feed as its reader sees it: what the relay said, and whether that still counts.
//!
//! A pure state machine. The driver turns frames and lost connections into [`FeedEvent`]s and asks for
//! [`RelayFeed::hearing`] again at [`RelayFeed::timeout`].

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Attachment;
use crate::feed::{BOOT_GRACE, SILENT_AFTER};
use crate::instance::BootId;
use crate::merge::InstanceKey;

/// A feed that fails for this long no longer holds up the reader's first answers.
pub const FAILING_AFTER: Duration = Duration::from_secs(5);

/// How far a relay's words carry now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hearing {
    /// Not connected, or nothing heard for 3 s: everything is unknown.
    Silent,
    /// The snapshot is not complete, or the relay has just started: what it names is attached, the rest unknown.
    Partial,
    /// What it names is attached, the rest absent.
    Complete,
}

/// A session that a relay's feed names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Session {
    /// It takes visitors.
    Attached,
    /// It ends soon.
    Draining,
}

/// What happened on a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedEvent {
    /// A verified `hello` on a new connection.
    Hello(BootId),
    /// A session is there.
    Session(InstanceKey, Session),
    /// A session is gone.
    Detached(InstanceKey),
    /// The snapshot is complete.
    Synced,
    /// Something arrived that changes nothing.
    Heard,
    /// The connection ended.
    Lost,
}

/// What one relay says about its sessions.
#[derive(Clone, Debug)]
pub struct RelayFeed {
    boot: Option<BootId>,
    link: Link,
    sessions: HashMap<InstanceKey, Session>,
    most: usize,
    /// Sessions that were named beyond `most` since the last `hello`.
    overflow: u64,
}

#[derive(Clone, Copy, Debug)]
enum Link {
    Down { since: Instant },
    Up { heard: Instant, believed_at: Instant, synced: bool },
}

impl Hearing {
    /// What a session is, given whether the feed names it.
    pub fn attachment(self, named: Option<Session>) -> Attachment {
        match (self, named) {
            (Self::Silent, _) | (Self::Partial, None) => Attachment::Unknown,
            (_, Some(Session::Attached)) => Attachment::Attached,
            (_, Some(Session::Draining)) => Attachment::Draining,
            (Self::Complete, None) => Attachment::Absent,
        }
    }
}

impl RelayFeed {
    /// A feed that was never heard, of a relay that may hold `most` sessions.
    pub fn new(most: usize, now: Instant) -> Self {
        Self { boot: None, link: Link::Down { since: now }, sessions: HashMap::new(), most, overflow: 0 }
    }

    /// Follows a change of the relay's capacity on chain.
    pub fn set_most(&mut self, most: usize) {
        self.most = most;
    }

    /// Takes in one event and returns the sessions whose state it changed.
    pub fn handle(&mut self, now: Instant, event: FeedEvent) -> Vec<InstanceKey> {
        match event {
            FeedEvent::Hello(boot) => {
                // Also after our own start: whether the relay has just started too is not known.
                let grace = if self.boot.replace(boot) == Some(boot) { Duration::ZERO } else { BOOT_GRACE };
                self.link = Link::Up { heard: now, believed_at: now + grace, synced: false };
                self.overflow = 0;
                return std::mem::take(&mut self.sessions).into_keys().collect();
            }
            FeedEvent::Lost => {
                self.link = Link::Down { since: now };
                return Vec::new();
            }
            FeedEvent::Session(..) | FeedEvent::Detached(_) | FeedEvent::Synced | FeedEvent::Heard => {}
        }
        let Link::Up { heard, synced, .. } = &mut self.link else { return Vec::new() };
        *heard = now;
        match event {
            FeedEvent::Synced => *synced = true,
            FeedEvent::Session(key, session) => {
                if self.sessions.len() >= self.most && !self.sessions.contains_key(&key) {
                    self.overflow += 1;
                } else if self.sessions.insert(key, session) != Some(session) {
                    return vec![key];
                }
            }
            FeedEvent::Detached(key) if self.sessions.remove(&key).is_some() => return vec![key],
            _ => {}
        }
        Vec::new()
    }

    /// How far its words carry at `now`.
    pub fn hearing(&self, now: Instant) -> Hearing {
        match self.link {
            Link::Up { heard, .. } if now.saturating_duration_since(heard) > SILENT_AFTER => Hearing::Silent,
            Link::Up { believed_at, synced: true, .. } if now >= believed_at => Hearing::Complete,
            Link::Up { .. } => Hearing::Partial,
            Link::Down { .. } => Hearing::Silent,
        }
    }

    /// When after `now` [`hearing`](Self::hearing) may change without an event.
    pub fn timeout(&self, now: Instant) -> Option<Instant> {
        let Link::Up { heard, believed_at, .. } = self.link else { return None };
        let silent_at = heard + SILENT_AFTER + Duration::from_millis(1);
        [believed_at, silent_at].into_iter().filter(|at| *at > now).min()
    }

    /// Whether a reader that has just started need not wait for this feed any longer: its snapshot is here, or it
    /// has been failing for [`FAILING_AFTER`].
    pub fn settled(&self, now: Instant) -> bool {
        match self.link {
            Link::Up { synced, .. } => synced,
            Link::Down { since } => now.saturating_duration_since(since) >= FAILING_AFTER,
        }
    }

    /// What the relay says of one session, as far as it can be heard.
    pub fn session(&self, key: &InstanceKey) -> Option<Session> {
        self.sessions.get(key).copied()
    }

    /// All sessions it named since its last `hello`.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = (&InstanceKey, Session)> {
        self.sessions.iter().map(|(key, session)| (key, *session))
    }

    /// How many sessions beyond the relay's capacity were passed over since its last `hello`.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::InstanceId;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(n: u8) -> InstanceKey {
        (crate::SecretKey::from_seed(&[n; 32]).address(), InstanceId([n; 16]))
    }

    /// A feed that said hello, named client 1 and synced, `age` ago.
    fn heard(start: Instant) -> RelayFeed {
        let mut feed = RelayFeed::new(2, start);
        feed.handle(start, FeedEvent::Hello(BootId([1; 16])));
        feed.handle(start, FeedEvent::Session(key(1), Session::Attached));
        feed.handle(start, FeedEvent::Synced);
        feed
    }

    fn says(feed: &RelayFeed, n: u8, now: Instant) -> Attachment {
        feed.hearing(now).attachment(feed.session(&key(n)))
    }

    #[test]
    fn absence_is_believed_only_when_synced_settled_and_fresh() {
        let start = Instant::now();
        let mut feed = heard(start);
        assert_eq!(says(&feed, 1, start), Attachment::Attached);
        assert_eq!(says(&feed, 2, start), Attachment::Unknown, "ten seconds after a new boot id");
        for second in 1..=10 {
            feed.handle(start + second * SECOND, FeedEvent::Heard);
        }
        let now = start + BOOT_GRACE;
        assert_eq!((says(&feed, 1, now), says(&feed, 2, now)), (Attachment::Attached, Attachment::Absent));
        assert_eq!(says(&feed, 1, now + SILENT_AFTER), Attachment::Attached);
        let silent = feed.timeout(now).unwrap();
        assert!(silent <= now + SILENT_AFTER + SECOND);
        assert_eq!(says(&feed, 1, silent), Attachment::Unknown, "silence is no word");
        feed.handle(now + 5 * SECOND, FeedEvent::Heard);
        assert_eq!(says(&feed, 2, now + 5 * SECOND), Attachment::Absent, "heard again");
    }

    #[test]
    fn a_lost_connection_makes_all_unknown_at_once_and_a_new_one_starts_over() {
        let start = Instant::now();
        let mut feed = heard(start);
        let later = start + BOOT_GRACE;
        feed.handle(later, FeedEvent::Lost);
        assert_eq!(says(&feed, 1, later), Attachment::Unknown);
        assert!(!feed.settled(later) && feed.settled(later + FAILING_AFTER));
        // The same process again: what it does not name by its `synced` is absent.
        assert_eq!(feed.handle(later, FeedEvent::Hello(BootId([1; 16]))), [key(1)]);
        assert_eq!(says(&feed, 1, later), Attachment::Unknown);
        feed.handle(later, FeedEvent::Synced);
        assert_eq!(says(&feed, 1, later), Attachment::Absent);
        // Another process: its clients are still on their way back.
        feed.handle(later, FeedEvent::Hello(BootId([2; 16])));
        feed.handle(later, FeedEvent::Synced);
        assert_eq!(says(&feed, 1, later), Attachment::Unknown);
    }

    #[test]
    fn a_relay_names_at_most_its_capacity() {
        let start = Instant::now();
        let mut feed = heard(start);
        assert_eq!(feed.handle(start, FeedEvent::Session(key(2), Session::Attached)), [key(2)]);
        assert!(feed.handle(start, FeedEvent::Session(key(3), Session::Attached)).is_empty());
        assert_eq!((feed.sessions().len(), feed.overflow()), (2, 1));
        assert_eq!(feed.handle(start, FeedEvent::Session(key(1), Session::Draining)), [key(1)]);
        feed.handle(start, FeedEvent::Detached(key(1)));
        assert_eq!(feed.handle(start, FeedEvent::Session(key(3), Session::Attached)), [key(3)]);
    }

    #[test]
    fn a_day_of_one_percent_loss_withdraws_at_most_once() {
        let start = Instant::now();
        let mut feed = heard(start);
        let (mut withdrawn, mut silent, mut lost, mut state) = (0, false, 0, 7_u64);
        for second in 1..=86_400_u32 {
            let now = start + second * SECOND;
            // A linear congruential generator: the same day each time.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Looked at just before the heartbeat that may end the silence.
            let heard = feed.hearing(now - Duration::from_millis(1));
            withdrawn += u32::from(heard == Hearing::Silent && !silent);
            silent = heard == Hearing::Silent;
            if state >> 33 < (1 << 31) / 100 {
                lost += 1;
            } else {
                feed.handle(now, FeedEvent::Heard);
            }
        }
        assert!((600..1200).contains(&lost), "{lost} heartbeats lost");
        assert!(withdrawn <= 1, "{withdrawn} false withdrawals");
    }

    #[test]
    fn words_on_a_lost_connection_are_ignored() {
        let start = Instant::now();
        let mut feed = RelayFeed::new(2, start);
        assert!(feed.handle(start, FeedEvent::Session(key(1), Session::Attached)).is_empty());
        feed.handle(start, FeedEvent::Synced);
        assert_eq!((feed.hearing(start), feed.sessions().len()), (Hearing::Silent, 0));
    }
}
