//! What must never be answered, whoever says it (SECURITY 7): from events to the answer a visitor gets.

use std::time::Instant;

use hickory_proto::op::Query as Question;
use hickory_proto::rr::{Name, RData, RecordType};
use tunnler_protocol::directory::RelayStatus;
use tunnler_protocol::instance::{BootId, InstanceId};
use tunnler_protocol::live::Session;
use tunnler_protocol::presence::{Claims, UnverifiedPresence};
use tunnler_protocol::time::UnixSeconds;

use super::*;
use crate::answer::{Moment, answer};
use crate::fixture::{self, NOW, TERMS, address, directory, name, signed};
use crate::wire::Query;

/// Relays 1, 2 and 4 are active, 3 is delisted, 9 unregistered; `mynode` belongs to client 101. Everybody says that every
/// session exists, so that only presences decide.
struct Rig(State, Now);

impl Rig {
    fn new(restored: Vec<Arc<Presence>>) -> Self {
        let now = Now { instant: Instant::now(), unix: NOW };
        let mut state = State::new(TERMS, restored, now);
        let mut delisted = fixture::relay(3);
        delisted.status = RelayStatus::Delisted;
        let relays = [fixture::relay(1), fixture::relay(2), fixture::relay(4), delisted];
        let names = [name("mynode", 101), name("other", 102)];
        state.handle(Event::Directory(Arc::new(directory(relays, names))), now);
        let mut rig = Self(state, now);
        for n in [1, 2, 3, 4, 9] {
            rig.hear(n);
        }
        rig
    }

    fn hear(&mut self, n: u8) {
        let relay = address(n);
        let mut tell = |event| self.0.handle(Event::Feed(relay, event), self.1);
        tell(FeedEvent::Hello(BootId([n; 16])));
        for client in [101, 102, 103] {
            let key = (address(client), InstanceId([client; 16]));
            tell(FeedEvent::Session(key, Session::Attached));
        }
        tell(FeedEvent::Synced);
    }

    fn say(&mut self, presence: &Arc<Presence>) {
        self.0.handle(Event::Presence(presence.clone(), Source::Relay(address(1))), self.1);
    }

    /// A text arrives in relay 1's feed and takes the whole way in.
    fn hears(&mut self, text: &str) {
        let parsed = UnverifiedPresence::parse(text, self.1.unix);
        if let Some(presence) = parsed.ok().and_then(|presence| presence.verify().ok()) {
            self.say(&Arc::new(presence));
        }
    }

    /// What a visitor of `label` gets: last octets but one of the addresses, sorted.
    fn visit(&mut self, label: &str) -> Vec<u8> {
        let snapshot = self.0.publish(self.1).unwrap_or_else(|| self.0.published.clone());
        let owner = Name::from_ascii(format!("{label}.{}.", fixture::ZONE)).unwrap();
        let question = Question::query(owner, RecordType::A);
        let query = Query { id: 1, recursion_desired: false, checking_disabled: false, question, edns: None };
        let reply = answer(&query, &snapshot, Moment { now: self.1.unix, turn: 0 });
        let third = |data: &RData| match data {
            RData::A(a) => a.0.octets()[2],
            other => panic!("{other}"),
        };
        let mut found: Vec<u8> = reply.answers.iter().map(|record| third(&record.data)).collect();
        found.sort_unstable();
        found
    }

    fn pass(&mut self, duration: Duration) {
        self.1 = Now { instant: self.1.instant + duration, unix: self.1.unix.plus(duration) };
        for n in [1, 2] {
            self.hear(n);
        }
    }
}

/// Client `n` says, `age` ago and for `life`, that `label` is at `relays`.
fn said(n: u8, label: &str, relays: &[u8], age: Duration, life: Duration) -> Arc<Presence> {
    let seq = UnixMillis(NOW.0 - age.as_millis() as u64);
    let exp = UnixSeconds(seq.0 / 1000 + life.as_secs());
    signed(n, Claims { seq, exp, ..fixture::claims(n, &[label], relays) })
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// When a lie is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Before and after the truth, and alone if the flag says that it is a lie even then.
    AnyTime { also_alone: bool },
    /// After the truth has expired, and again after a restart.
    AfterTheTruth,
}

#[test]
fn no_lie_is_ever_answered() {
    let truth = said(101, "mynode", &[1], 10 * MINUTE, HOUR);
    let lie = |relays: &[u8], age, life| said(101, "mynode", relays, age, life);
    let with_signature_of_the_truth = |lie: &Presence| {
        let (signed, _) = lie.text().rsplit_once('.').unwrap();
        format!("{signed}.{}", truth.text().rsplit_once('.').unwrap().1)
    };
    let mut ahead = Claims::clone(truth.claims());
    (ahead.seq, ahead.exp) = (UnixMillis(NOW.0 + 61_000), UnixSeconds(NOW.0 / 1000 + 600));
    ahead.relays = vec![address(2)];
    // Of two with the same seq the greater bytes win: whichever relay makes the lesser is the lie here.
    let twins = [2, 4].map(|relay| lie(&[relay], 10 * MINUTE, HOUR));
    let lesser = twins.iter().find(|twin| twin.text().as_bytes() < truth.text().as_bytes());
    let lesser =
        lesser.expect("one of two is less; change the relays if both are greater").text().to_string();
    let always = When::AnyTime { also_alone: true };
    let beside_the_truth = When::AnyTime { also_alone: false };
    let text = |presence: Arc<Presence>| presence.text().to_string();
    let table: Vec<(&str, When, String)> = vec![
        ("a lower seq", beside_the_truth, text(lie(&[2], 11 * MINUTE, HOUR))),
        ("the same seq, other bytes", beside_the_truth, lesser),
        ("a seq ahead of the clock", always, text(signed(101, ahead))),
        ("older, after the newer one expired", When::AfterTheTruth, text(lie(&[2], 11 * MINUTE, HOUR))),
        ("forged", always, with_signature_of_the_truth(&lie(&[2], Duration::ZERO, HOUR))),
        ("expired", always, text(lie(&[2], 90 * MINUTE, HOUR))),
        ("for another's name", always, text(said(102, "mynode", &[2], MINUTE, HOUR))),
        ("by nobody in particular", always, text(said(103, "mynode", &[2], MINUTE, HOUR))),
    ];
    for (what, when, lie) in &table {
        let answers = |rig: &mut Rig, said: &[&str]| {
            said.iter().for_each(|text| rig.hears(text));
            rig.visit("mynode")
        };
        match when {
            When::AnyTime { also_alone } => {
                let (lie, truth): (&str, &str) = (lie, truth.text());
                for order in [[lie, truth], [truth, lie]] {
                    assert_eq!(answers(&mut Rig::new(Vec::new()), &order), [1], "{what}");
                }
                if *also_alone {
                    assert_eq!(answers(&mut Rig::new(Vec::new()), &[lie]), [0; 0], "{what}, alone");
                }
            }
            When::AfterTheTruth => {
                let truth = said(101, "mynode", &[1], 10 * MINUTE, 15 * MINUTE);
                let mut rig = Rig::new(Vec::new());
                rig.say(&truth);
                rig.pass(10 * MINUTE);
                assert_eq!(answers(&mut rig, &[lie]), [0; 0], "{what}");
                let mut restarted = Rig::new(rig.0.remembered());
                restarted.pass(10 * MINUTE);
                assert_eq!(answers(&mut restarted, &[lie]), [0; 0], "{what}, after a restart");
            }
        }
    }
    // Relays that the chain does not know, or has delisted, count neither alone nor beside a good one.
    for (relays, expected) in [(&[9][..], &[][..]), (&[3], &[]), (&[3, 9], &[]), (&[3, 9, 2], &[2])] {
        let mut rig = Rig::new(Vec::new());
        rig.say(&lie(relays, MINUTE, HOUR));
        assert_eq!(rig.visit("mynode"), expected, "{relays:?}");
    }
}

#[test]
fn equal_seq_is_settled_the_same_way_by_everybody() {
    let (a, b) = (said(101, "mynode", &[1], MINUTE, HOUR), said(101, "mynode", &[2], MINUTE, HOUR));
    let visits = [[&a, &b], [&b, &a]].map(|order| {
        let mut rig = Rig::new(Vec::new());
        order.into_iter().for_each(|presence| rig.say(presence));
        rig.visit("mynode")
    });
    assert_eq!(visits[0], visits[1]);
    assert_eq!(visits[0].len(), 1);
}

#[test]
fn transferred_and_expired_names_are_lost_at_once() {
    let mut rig = Rig::new(Vec::new());
    rig.say(&said(101, "mynode", &[1], MINUTE, HOUR));
    assert_eq!(rig.visit("mynode"), [1]);
    let change = |rig: &mut Rig, target, lives: bool| {
        let mut record = name("mynode", target);
        if !lives {
            record.expires_at = NOW.seconds();
        }
        let relays = [fixture::relay(1), fixture::relay(2)];
        rig.0.handle(Event::Directory(Arc::new(directory(relays, [record]))), rig.1);
    };
    change(&mut rig, 102, true);
    assert_eq!(rig.visit("mynode"), [0; 0]);
    change(&mut rig, 101, true);
    assert_eq!(rig.visit("mynode"), [1]);
    change(&mut rig, 101, false);
    assert_eq!(rig.visit("mynode"), [0; 0]);
}
