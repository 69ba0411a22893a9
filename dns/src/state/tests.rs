//! The path from events to snapshots, without tasks or sockets.

use std::time::Instant;

use tunnler_protocol::instance::{BootId, InstanceId};
use tunnler_protocol::live::{Attachment, Session, Witness};

use super::*;
use crate::fixture::{NOW, TERMS, address, claims, directory, name, relay, signed};
use crate::snapshot::Sessions;

struct Rig {
    state: State,
    now: Now,
}

impl Rig {
    fn new(restored: Vec<Arc<Presence>>) -> Self {
        let now = Now { instant: Instant::now(), unix: NOW };
        Self { state: State::new(TERMS, restored, now), now }
    }

    fn handle(&mut self, event: Event) {
        self.state.handle(event, self.now);
    }

    fn directory(&mut self) {
        let relays = (1..=3).map(relay);
        self.handle(Event::Directory(Arc::new(directory(relays, [name("mynode", 101)]))));
    }

    fn feed(&mut self, n: u8, event: FeedEvent) {
        self.handle(Event::Feed(address(n), event));
    }

    fn pass(&mut self, duration: Duration) {
        self.now = Now { instant: self.now.instant + duration, unix: self.now.unix.plus(duration) };
    }

    fn snapshot(&mut self) -> Arc<Snapshot> {
        self.state.publish(self.now).unwrap_or_else(|| self.state.published.clone())
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn session(n: u8) -> FeedEvent {
    FeedEvent::Session((address(n), InstanceId([n; 16])), Session::Attached)
}

#[test]
fn synced_needs_the_directory_and_each_feed_or_five_seconds() {
    let mut rig = Rig::new(Vec::new());
    assert_eq!(rig.snapshot().footing, Footing::Unsynced);
    rig.directory();
    assert_eq!(rig.state.subscriptions().len(), 3);
    for n in [1, 2] {
        rig.feed(n, FeedEvent::Hello(BootId([n; 16])));
        rig.feed(n, FeedEvent::Synced);
    }
    assert_eq!(rig.snapshot().footing, Footing::Unsynced, "the third has not spoken");
    rig.pass(5 * SECOND);
    assert_eq!(rig.snapshot().footing, Footing::Synced);
    rig.feed(1, FeedEvent::Lost);
    assert_eq!(rig.snapshot().footing, Footing::Synced, "once synced, always");
}

#[test]
fn a_session_and_its_presence_meet_in_either_order() {
    let presence = signed(101, claims(101, &["mynode"], &[1]));
    for session_first in [true, false] {
        let mut rig = Rig::new(Vec::new());
        rig.directory();
        rig.feed(1, FeedEvent::Hello(BootId([1; 16])));
        let event = Event::Presence(presence.clone(), Source::Relay(address(1)));
        if session_first {
            rig.feed(1, session(101));
            rig.handle(event);
        } else {
            rig.handle(event);
            rig.feed(1, session(101));
        }
        let says = |snapshot: &Snapshot| {
            let client = snapshot.client(&address(101)).unwrap();
            Sessions { snapshot, client }.attachment(&address(1), &address(101), &InstanceId([101; 16]))
        };
        assert_eq!(says(&rig.snapshot()), Attachment::Attached);
        rig.pass(2 * SECOND);
        assert!(rig.state.publish(rig.now).is_none(), "nothing changed");
        rig.pass(2 * SECOND);
        assert_eq!(says(&rig.snapshot()), Attachment::Unknown, "silent for more than 3 s");
    }
}

#[test]
fn what_was_known_before_a_restart_is_known_at_once() {
    let presence = signed(101, claims(101, &["mynode"], &[1]));
    let mut rig = Rig::new(vec![presence.clone()]);
    assert_eq!(rig.snapshot().footing, Footing::Restored);
    assert_eq!(rig.snapshot().client(&address(101)).unwrap().presences, [presence]);
    assert!(rig.state.take_unsaved().is_empty());
}

#[test]
fn a_hostile_feed_makes_us_remember_no_more_than_its_capacity() {
    let mut rig = Rig::new(Vec::new());
    let mut small = relay(1);
    small.capacity = 3;
    rig.handle(Event::Directory(Arc::new(directory([small, relay(2)], [name("mynode", 109)]))));
    for n in 101..=109 {
        rig.handle(Event::Presence(signed(n, claims(n, &[], &[1])), Source::Relay(address(1))));
    }
    assert_eq!(rig.state.presences(), 4, "three, and the one a name points to");
    assert_eq!(rig.snapshot().clients(), 4);
    assert_eq!(rig.state.take_unsaved().len(), 4);
    rig.handle(Event::Presence(signed(104, claims(104, &[], &[1])), Source::Relay(address(99))));
    assert_eq!(rig.state.presences(), 4, "an unregistered relay has no room at all");
}

#[test]
fn a_relay_that_leaves_the_chain_is_no_longer_read() {
    let mut rig = Rig::new(Vec::new());
    rig.directory();
    let before = rig.state.subscriptions();
    rig.directory();
    assert_eq!(rig.state.subscriptions(), before, "the same feeds go on");
    rig.handle(Event::Directory(Arc::new(directory([relay(2)], []))));
    assert_eq!(rig.state.subscriptions().len(), 1);
    rig.directory();
    let again = rig.state.subscriptions();
    assert_eq!(again.len(), 3);
    let generation = |subscriptions: &[Subscription], n| {
        subscriptions.iter().find(|one| one.relay.address == address(n)).unwrap().generation
    };
    assert_ne!(generation(&again, 1), generation(&before, 1), "taken up anew");
    assert_eq!(generation(&again, 2), generation(&before, 2));
}

#[test]
fn the_clock_is_compared_with_each_new_ledger() {
    let mut rig = Rig::new(Vec::new());
    let mut at = |sequence: u32, closed_before: i64| {
        let mut directory = directory([relay(1)], []);
        directory.ledger.sequence = sequence;
        let closed_at = rig.now.unix.seconds().0.saturating_add_signed(-closed_before);
        directory.ledger.closed_at = tunnler_protocol::time::UnixSeconds(closed_at);
        rig.handle(Event::Directory(Arc::new(directory)));
        rig.snapshot().clock_lead
    };
    assert_eq!(at(10, 86_400), 0, "what was kept says nothing");
    assert_eq!(at(11, 6), 6);
    assert_eq!(at(11, 300), 6, "the same ledger, later");
    assert_eq!(at(12, -600), -600);
}
