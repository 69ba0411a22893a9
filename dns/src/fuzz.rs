//! Everything that strangers can make this program parse, fed with damaged samples of itself: packets, feed frames and
//! posted presences. Seeded, so that a failure comes back; `TUNNLER_FUZZ_SECONDS` sets how long each runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tunnler_protocol::feed;
use tunnler_protocol::instance::{BootId, InstanceId};
use tunnler_protocol::presence::UnverifiedPresence;

use crate::clock;
use crate::dnssec::Fresh;
use crate::dnssec::keys::ZoneKeys;
use crate::fixture::{self, NOW, address, claims, signed};
use crate::serve::Responder;
use crate::serve::limit::Rate;
use crate::serve::responder::Outcome;
use crate::serve::tally::Transport;
use crate::wire::Limit;

/// Three of these run in `scripts/test`: a minute in all.
const SECONDS: u64 = 20;

/// Damages samples.
struct Mutator {
    random: StdRng,
    samples: Vec<Vec<u8>>,
}

impl Mutator {
    fn new(seed: u64, samples: Vec<Vec<u8>>) -> Self {
        Self { random: StdRng::seed_from_u64(seed), samples }
    }

    fn below(&mut self, most: usize) -> usize {
        self.random.random_range(0..most.max(1))
    }

    /// A sample with one to eight changes: bytes set, bits flipped, stretches cut, repeated or taken from another one.
    fn next(&mut self) -> Vec<u8> {
        let pick = self.below(self.samples.len());
        let mut bytes = self.samples[pick].clone();
        for _ in 0..=self.below(8) {
            let at = self.below(bytes.len());
            let length = self.below(bytes.len() - at.min(bytes.len())).min(64);
            match self.below(7) {
                0 if !bytes.is_empty() => bytes[at] = self.random.random(),
                1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                2 => bytes.truncate(at),
                3 => drop(bytes.drain(at..at + length)),
                4 => {
                    let stretch = bytes[at..at + length].to_vec();
                    bytes.splice(at..at, stretch);
                }
                5 => {
                    let other = self.below(self.samples.len());
                    let from = self.below(self.samples[other].len());
                    let to = (from + 64).min(self.samples[other].len());
                    let stretch = self.samples[other][from..to].to_vec();
                    bytes.splice(at..at, stretch);
                }
                _ if !bytes.is_empty() => bytes[at] = [0, 1, 0x3f, 0x7f, 0x80, 0xc0, 0xff][self.below(7)],
                _ => {}
            }
        }
        bytes
    }

    /// Feeds `target` until the time is over; returns how often it ran and how often it liked what it got.
    fn run(mut self, what: &str, mut target: impl FnMut(&[u8]) -> bool) -> (u64, u64) {
        let seconds = std::env::var("TUNNLER_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
        let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(SECONDS));
        let (mut runs, mut liked) = (0, 0);
        while Instant::now() < end {
            let input = self.next();
            liked += u64::from(target(&input));
            runs += 1;
        }
        println!("{{\"part\":\"dns-fuzz\",\"what\":\"{what}\",\"runs\":{runs},\"accepted\":{liked}}}");
        (runs, liked)
    }
}

fn queries() -> Vec<Vec<u8>> {
    let owners = [
        "tunnel.example.",
        "mynode.tunnel.example.",
        "ssh.mynode.tunnel.example.",
        "_ssh._tcp.mynode.tunnel.example.",
        "_acme-challenge.mynode.tunnel.example.",
        "_tunnler.mynode.tunnel.example.",
        "nobody.tunnel.example.",
        "b.ns.tunnel.example.",
        "example.org.",
    ];
    let mut samples = Vec::new();
    for owner in owners {
        for wanted in [1, 2, 6, 16, 28, 33, 43, 46, 47, 48, 65, 251, 252, 255, 257].map(RecordType::from) {
            for secure in [false, true] {
                let mut message = Message::new(7, MessageType::Query, OpCode::Query);
                message.add_query(Query::query(Name::from_ascii(owner).unwrap(), wanted));
                if secure {
                    let mut edns = Edns::new();
                    edns.set_dnssec_ok(true).set_max_payload(1232);
                    message.set_edns(edns);
                }
                samples.push(message.to_vec().unwrap());
            }
        }
    }
    samples
}

#[test]
fn packets_are_answered_or_not_but_never_panic() {
    let shared = Arc::new(ArcSwap::from_pointee(fixture::showcase(clock::unix_now(), ZoneKeys::ephemeral())));
    let responder = Responder::new(shared, Rate::Unlimited);
    let (runs, answered) = Mutator::new(1, queries()).run("packets", |packet| {
        let stream = responder.respond(packet, Limit::Stream, Transport::Stream, Fresh::Made);
        let limit = Limit::Udp { asked: packet.len() };
        match responder.respond(packet, limit, Transport::Udp, Fresh::Made) {
            Outcome::Send(answer) => {
                assert!(answer.len() <= 1232 && answer.len() <= 10 * packet.len(), "{packet:?}");
                Message::from_vec(&answer).unwrap_or_else(|error| panic!("{error}: {packet:?}"));
                true
            }
            Outcome::Silence => {
                assert_eq!(stream, Outcome::Silence, "{packet:?}");
                false
            }
            Outcome::MustSign => panic!("signing was allowed: {packet:?}"),
        }
    });
    assert!(0 < answered && answered < runs, "{answered} of {runs} answered");
}

/// Presences as they are sent, one of them as full as it may be.
fn presences() -> Vec<Vec<u8>> {
    let mut full = claims(102, &["mynode", "other"], &[1, 2, 3, 4]);
    full.txt.insert("mynode.tunnel.example".parse().unwrap(), vec!["A".repeat(43); 2]);
    let all = [signed(101, claims(101, &["mynode"], &[1])), signed(102, full)];
    all.iter().map(|presence| presence.text().as_bytes().to_vec()).collect()
}

/// The path of a presence in a feed or a POST: cheap checks, then the signature.
fn take(text: &str) -> bool {
    UnverifiedPresence::parse(text, NOW).is_ok_and(|presence| presence.verify().is_ok())
}

#[test]
fn posted_presences_are_taken_or_not_but_never_panic() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
    // Also damaged below the encoding, where most damage to the text does not get.
    let samples: Vec<Vec<u8>> = presences();
    let inner: Vec<Vec<u8>> = samples
        .iter()
        .map(|text| std::str::from_utf8(text).unwrap().split('.').nth(1).unwrap())
        .map(|payload| BASE64.decode(payload).unwrap())
        .collect();
    let (head, tail) = {
        let text = std::str::from_utf8(&samples[0]).unwrap();
        let (head, rest) = text.split_once('.').unwrap();
        (head.to_owned(), rest.split_once('.').unwrap().1.to_owned())
    };
    let mut outer = Mutator::new(2, samples);
    let (runs, _) = Mutator::new(3, inner).run("presences", |payload| {
        let forged = format!("{head}.{}.{tail}", BASE64.encode(payload));
        assert!(!take(&forged) || presences().iter().any(|known| known == forged.as_bytes()), "{forged}");
        std::str::from_utf8(&outer.next()).is_ok_and(take)
    });
    assert!(runs > 0);
}

#[test]
fn feed_frames_are_understood_or_not_but_never_panic() {
    let (client, ins) = (address(101), InstanceId([7; 16]));
    let hello = feed::Message::Hello { relay: address(1), boot: BootId([1; 16]), signature: "A".repeat(86) };
    let mut messages = vec![
        hello,
        feed::Message::Attached { client, ins },
        feed::Message::Draining { client, ins },
        feed::Message::Detached { client, ins },
        feed::Message::Synced,
        feed::Message::Heartbeat,
    ];
    for text in presences() {
        messages.push(feed::Message::Presence { presence: String::from_utf8(text).unwrap() });
    }
    let samples = messages.iter().map(|message| message.to_text().into_bytes()).collect();
    let (runs, understood) = Mutator::new(4, samples).run("feed frames", |frame| {
        let Ok(text) = std::str::from_utf8(frame) else { return false };
        match feed::Message::parse(text) {
            Ok(feed::Message::Presence { presence }) => take(&presence) || !presence.is_empty(),
            Ok(message) => !message.to_text().is_empty(),
            Err(_) => false,
        }
    });
    assert!(0 < understood && understood < runs, "{understood} of {runs} understood");
}
