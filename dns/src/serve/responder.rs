//! From a packet to the bytes of its answer: the path every transport shares.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tunnler_protocol::Prefix;
use tunnler_protocol::time::UnixMillis;

use super::limit::{Rate, RateLimit, Verdict};
use super::tally::{Tally, Transport};
use crate::answer::{Moment, answer};
use crate::clock;
use crate::dnssec::{Fresh, MustWait, Signer};
use crate::snapshot::Snapshot;
use crate::state::task::Shared;
use crate::wire::{self, Limit, Query, Received, Reply};

/// New signatures per second and network: over UDP, whose askers may be forged, and over streams. Who asks for more
/// over UDP is sent to TCP, so that random names cannot buy signatures.
const FRESH_UDP: Rate = Rate::PerSecond(100);
const FRESH_STREAM: Rate = Rate::PerSecond(400);

/// Answers packets from the newest snapshot.
#[derive(Debug)]
pub struct Responder {
    shared: Shared,
    signer: Signer,
    turn: AtomicUsize,
    tally: Tally,
    rate: RateLimit,
    fresh_udp: RateLimit,
    fresh_stream: RateLimit,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is sent.
    Silence,
    /// These bytes are sent.
    Send(Vec<u8>),
    /// A signature has to be made first; whoever has time for it asks again.
    MustSign,
}

impl Responder {
    /// A responder for the snapshots in `shared`.
    pub fn new(shared: Shared, rate: Rate) -> Self {
        let now = Instant::now();
        Self {
            shared,
            signer: Signer::new(),
            turn: AtomicUsize::new(0),
            tally: Tally::new(),
            rate: RateLimit::new(rate, now),
            fresh_udp: RateLimit::new(FRESH_UDP, now),
            fresh_stream: RateLimit::new(FRESH_STREAM, now),
        }
    }

    /// Counts one datagram of `prefix` and says what it gets.
    pub fn limit(&self, prefix: Prefix, now: Instant) -> Verdict {
        self.rate.count(prefix, now)
    }

    /// Counts a signature for a datagram of `prefix` and says whether it is made.
    pub fn may_sign(&self, prefix: Prefix, now: Instant) -> bool {
        self.fresh_udp.count(prefix, now) == Verdict::Answer
    }

    /// The answer to one datagram.
    pub fn udp(&self, packet: &[u8], fresh: Fresh) -> Outcome {
        contained(|| self.respond(packet, Limit::Udp { asked: packet.len() }, Transport::Udp, fresh))
    }

    /// The answer to one message of a stream; `None` ends it.
    pub fn stream(&self, packet: &[u8], prefix: Prefix) -> Option<Vec<u8>> {
        let respond = |fresh| contained(|| self.respond(packet, Limit::Stream, Transport::Stream, fresh));
        let outcome = match respond(Fresh::Remembered) {
            Outcome::MustSign if self.fresh_stream.count(prefix, Instant::now()) == Verdict::Answer => {
                respond(Fresh::Made)
            }
            outcome => outcome,
        };
        match outcome {
            Outcome::Send(bytes) => Some(bytes),
            Outcome::MustSign => self.failure(packet),
            Outcome::Silence => None,
        }
    }

    /// A truncated answer for somebody over a limit.
    pub fn truncated(&self, packet: &[u8]) -> Option<Vec<u8>> {
        match wire::receive(packet) {
            Received::Query(query) => Some(wire::truncated(&query)),
            _ => None,
        }
    }

    fn failure(&self, packet: &[u8]) -> Option<Vec<u8>> {
        match wire::receive(packet) {
            Received::Query(query) => {
                Some(wire::encode(Reply::error(&query, ResponseCode::ServFail), Limit::Stream))
            }
            _ => None,
        }
    }

    /// The answer, without the net that catches a panic below it.
    pub(crate) fn respond(&self, packet: &[u8], limit: Limit, transport: Transport, fresh: Fresh) -> Outcome {
        let (reply, wanted) = match wire::receive(packet) {
            Received::Ignore => return Outcome::Silence,
            Received::Refuse(reply) => (reply, None),
            Received::Query(query) => {
                let snapshot = self.shared.load();
                let now = clock::unix_now();
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                let mut reply = answer(&query, &snapshot, Moment { now, turn });
                if self.secure(&mut reply, &query, &snapshot, now, fresh).is_err() {
                    return Outcome::MustSign;
                }
                (reply, Some(query.question.query_type()))
            }
        };
        self.tally.count(transport, wanted, reply.code, reply.answers.len());
        match wire::encode(reply, limit) {
            bytes if bytes.is_empty() => Outcome::Silence,
            bytes => Outcome::Send(bytes),
        }
    }

    /// Adds the signatures that the asker wants.
    fn secure(
        &self,
        reply: &mut Reply,
        query: &Query,
        snapshot: &Snapshot,
        now: UnixMillis,
        fresh: Fresh,
    ) -> Result<(), MustWait> {
        let asks_for_signatures = query.question.query_type() == RecordType::RRSIG;
        let Some(zone) = snapshot.zone.as_deref().filter(|_| reply.authoritative) else { return Ok(()) };
        if reply.dnssec_ok() || asks_for_signatures {
            self.signer.sign(reply, &snapshot.keys, &zone.origin, now.seconds(), fresh)?;
        }
        if asks_for_signatures {
            reply.answers.retain(|record| record.record_type() == RecordType::RRSIG);
        }
        Ok(())
    }
}

/// No packet may take more than itself down.
fn contained(respond: impl FnOnce() -> Outcome) -> Outcome {
    catch_unwind(AssertUnwindSafe(respond)).unwrap_or_else(|_| {
        metrics::counter!("tunnler_dns_panics_total").increment(1);
        Outcome::Silence
    })
}
