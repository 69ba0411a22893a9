//! The table with connections that only count.

use super::*;
use crate::route::Claimed;
use crate::testing::{key, presence};

#[derive(Clone)]
struct Fake(&'static str, Prospect, Arc<Mutex<Vec<(&'static str, CloseCode)>>>);

impl Connection for Fake {
    fn streams(&self) -> usize {
        0
    }

    fn prospect(&self, _: Origin) -> Prospect {
        self.1
    }

    fn close(&self, code: CloseCode, _: &str) {
        self.2.lock().unwrap().push((self.0, code));
    }
}

const NOW: UnixMillis = UnixMillis(1_000_000_000);

fn relay() -> Address {
    key(9).address()
}

fn identity(ins: u8, session: u8) -> Identity {
    Identity { client: key(1).address(), ins: InstanceId([ins; 16]), session: SessionId([session; 16]) }
}

fn web() -> Vec<ServiceName> {
    vec!["web".parse().unwrap()]
}

fn wanted() -> Wanted {
    Wanted { client: key(1).address(), name: Claimed::Label("mynode".parse().unwrap()), service: None }
}

fn somewhere() -> Origin {
    Origin::Direct([192, 0, 2, 1].into())
}

/// Nobody is there.
const EMPTY: Prospect = Prospect::Free(0);

fn live(ins: u8, seq: u64) -> Arc<Presence> {
    Arc::new(presence(&key(1), InstanceId([ins; 16]), UnixMillis(NOW.0 + seq), &["mynode"], &[relay()]))
}

fn picked(sessions: &Sessions<Fake>) -> Option<&'static str> {
    sessions.pick(&wanted(), somewhere(), NOW).ok().map(|picked| picked.connection.0)
}

#[test]
fn the_newer_session_wins_and_the_older_ones_end_leaves_it_alone() {
    let closed = Arc::default();
    let sessions = Sessions::new(relay(), 10, 2);
    sessions.offer(live(1, 0), NOW);
    let old =
        sessions.attach(identity(1, 1), web(), Fake("old", EMPTY, Arc::clone(&closed)), NOW).ok().unwrap();
    assert_eq!(picked(&sessions), Some("old"));
    let new =
        sessions.attach(identity(1, 2), web(), Fake("new", EMPTY, Arc::clone(&closed)), NOW).ok().unwrap();
    assert_eq!(*closed.lock().unwrap(), [("old", CloseCode::Superseded)]);
    drop(old);
    assert_eq!((picked(&sessions), sessions.count()), (Some("new"), 1));
    drop(new);
    assert_eq!((picked(&sessions), sessions.count()), (None, 0));
}

#[test]
fn connections_join_their_session_and_the_least_loaded_serves() {
    let closed = Arc::default();
    let fake = |name, taken| Fake(name, Prospect::Free(taken), Arc::clone(&closed));
    let sessions = Sessions::new(relay(), 10, 2);
    sessions.offer(live(1, 0), NOW);
    let _a = sessions.attach(identity(1, 1), web(), fake("busy", 7), NOW).ok().unwrap();
    let b = sessions.attach(identity(1, 1), web(), fake("calm", 3), NOW).ok().unwrap();
    let third = sessions.attach(identity(1, 1), web(), fake("third", 0), NOW);
    assert_eq!(third.err(), Some(Refusal::TooManyConnections));
    assert_eq!((picked(&sessions), sessions.count()), (Some("calm"), 1));
    drop(b);
    assert_eq!((picked(&sessions), sessions.count()), (Some("busy"), 1));
}

#[test]
fn instances_take_turns_and_leaving_ones_come_last() {
    let closed = Arc::default();
    let fake = |name| Fake(name, EMPTY, Arc::clone(&closed));
    let sessions = Sessions::new(relay(), 10, 1);
    for ins in [1, 2] {
        sessions.offer(live(ins, 0), NOW);
    }
    let _a = sessions.attach(identity(1, 1), web(), fake("a"), NOW).ok().unwrap();
    let b = sessions.attach(identity(2, 1), web(), fake("b"), NOW).ok().unwrap();
    let mut two = [picked(&sessions), picked(&sessions)];
    two.sort();
    assert_eq!(two, [Some("a"), Some("b")]);
    sessions.leave(&identity(1, 1));
    assert_eq!([picked(&sessions), picked(&sessions)], [Some("b"), Some("b")]);
    drop(b);
    assert_eq!(picked(&sessions), Some("a"));
}

#[test]
fn a_visitor_goes_where_there_is_room_for_it() {
    let closed = Arc::default();
    let sessions = Sessions::new(relay(), 10, 2);
    for ins in [1, 2] {
        sessions.offer(live(ins, 0), NOW);
    }
    let mut attached = Vec::new();
    for (name, ins, room) in [
        ("crowded", 1, Prospect::Queue(0)),
        ("another's", 1, Prospect::Another),
        ("more crowded", 2, Prospect::Queue(3)),
        ("free", 2, Prospect::Free(255)),
    ] {
        let fake = Fake(name, room, Arc::clone(&closed));
        attached.push((name, sessions.attach(identity(ins, 1), web(), fake, NOW).ok().unwrap()));
    }
    for best in ["free", "another's"] {
        assert_eq!([picked(&sessions), picked(&sessions)], [Some(best); 2]);
        attached.retain(|(name, _)| *name != best);
    }
    let mut two = [picked(&sessions), picked(&sessions)];
    two.sort();
    assert_eq!(two, [Some("crowded"), Some("more crowded")], "in turn: nobody has room");
}

#[test]
fn a_stream_needs_name_relay_and_service_in_presence_and_token() {
    let closed = Arc::default();
    let sessions = Sessions::new(relay(), 10, 1);
    let attach =
        |services| sessions.attach(identity(1, 1), services, Fake("a", EMPTY, Arc::clone(&closed)), NOW);
    let bare = attach(vec!["other".parse().unwrap()]).ok().unwrap();
    assert_eq!(picked(&sessions), None, "no presence");
    sessions.offer(live(1, 0), NOW);
    assert_eq!(picked(&sessions), None, "not in the token");
    bare.set_services(web());
    assert_eq!(picked(&sessions), Some("a"));
    let elsewhere =
        presence(&key(1), InstanceId([1; 16]), UnixMillis(NOW.0 + 1), &["mynode"], &[key(8).address()]);
    sessions.offer(Arc::new(elsewhere), NOW);
    assert_eq!(picked(&sessions), None, "does not list this relay");
    let other = presence(&key(1), InstanceId([1; 16]), UnixMillis(NOW.0 + 2), &["other"], &[relay()]);
    sessions.offer(Arc::new(other), NOW);
    assert_eq!(picked(&sessions), None, "does not list the name");
    assert_eq!(sessions.offer(live(1, 1), NOW), Merge::Older);
    sessions.offer(live(1, 3), NOW);
    assert_eq!(picked(&sessions), Some("a"));
    assert_eq!(
        sessions.pick(&wanted(), somewhere(), UnixMillis(NOW.0 + 1_900_000)).err(),
        Some(Unreachable::Offline),
        "expired"
    );
}

#[test]
fn a_full_relay_refuses_new_sessions_only() {
    let closed = Arc::default();
    let fake = || Fake("x", EMPTY, Arc::clone(&closed));
    let sessions = Sessions::new(relay(), 1, 2);
    let first = sessions.attach(identity(1, 1), web(), fake(), NOW).ok().unwrap();
    assert_eq!(sessions.attach(identity(2, 1), web(), fake(), NOW).err(), Some(Refusal::Full));
    assert!(sessions.attach(identity(1, 1), web(), fake(), NOW).is_ok());
    drop(first);
    assert_eq!(sessions.count(), 0);
    assert!(sessions.attach(identity(2, 1), web(), fake(), NOW).is_ok());
}

#[test]
fn the_feed_tells_a_snapshot_and_then_every_change() {
    let closed = Arc::default();
    let sessions = Sessions::new(relay(), 10, 1);
    sessions.offer(live(1, 0), NOW);
    let a = sessions.attach(identity(1, 1), web(), Fake("a", EMPTY, Arc::clone(&closed)), NOW).ok().unwrap();
    let mut feed = sessions.subscribe();
    let parse = |text: &Arc<str>| Message::parse(text).unwrap();
    let (client, ins) = (key(1).address(), InstanceId([1; 16]));
    let presence = |p: &Presence| Message::Presence { presence: p.text().to_string() };
    let told: Vec<_> = feed.snapshot.iter().map(parse).collect();
    assert_eq!(told, [presence(&live(1, 0)), Message::Attached { client, ins }]);
    sessions.offer(live(1, 5), NOW);
    sessions.leave(&identity(1, 1));
    drop(a);
    let told: Vec<_> = std::iter::from_fn(|| feed.changes.try_recv().ok()).map(|text| parse(&text)).collect();
    let expected =
        [presence(&live(1, 5)), Message::Draining { client, ins }, Message::Detached { client, ins }];
    assert_eq!(told, expected);
}

#[test]
fn a_session_without_presence_is_not_told_of() {
    let closed = Arc::default();
    let sessions = Sessions::new(relay(), 10, 1);
    let mut feed = sessions.subscribe();
    drop(sessions.attach(identity(1, 1), web(), Fake("a", EMPTY, Arc::clone(&closed)), NOW));
    assert!(feed.snapshot.is_empty() && feed.changes.try_recv().is_err());
}
