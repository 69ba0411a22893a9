//! From a packet to the bytes of its answer: the path every transport shares.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::Prefix;
use super::limit::{Rate, RateLimit, Verdict};
use super::tally::{Tally, Transport};
use crate::answer::{Moment, answer};
use crate::clock;
use crate::state::task::Shared;
use crate::wire::{self, Limit, Received};

/// Answers packets from the newest snapshot.
#[derive(Debug)]
pub struct Responder {
    shared: Shared,
    turn: AtomicUsize,
    tally: Tally,
    rate: RateLimit,
}

impl Responder {
    /// A responder for the snapshots in `shared`.
    pub fn new(shared: Shared, rate: Rate) -> Self {
        let rate = RateLimit::new(rate, Instant::now());
        Self { shared, turn: AtomicUsize::new(0), tally: Tally::new(), rate }
    }

    /// Counts one datagram of `prefix` and says what it gets.
    pub fn limit(&self, prefix: Prefix, now: Instant) -> Verdict {
        self.rate.count(prefix, now)
    }

    /// The answer to one datagram.
    pub fn udp(&self, packet: &[u8]) -> Option<Vec<u8>> {
        self.contained(packet, Limit::Udp { asked: packet.len() }, Transport::Udp)
    }

    /// The answer to one message of a stream.
    pub fn stream(&self, packet: &[u8]) -> Option<Vec<u8>> {
        self.contained(packet, Limit::Stream, Transport::Tcp)
    }

    /// A truncated answer for somebody over the rate limit.
    pub fn truncated(&self, packet: &[u8]) -> Option<Vec<u8>> {
        match wire::receive(packet) {
            Received::Query(query) => Some(wire::truncated(&query)),
            _ => None,
        }
    }

    /// No packet may take more than itself down.
    fn contained(&self, packet: &[u8], limit: Limit, transport: Transport) -> Option<Vec<u8>> {
        catch_unwind(AssertUnwindSafe(|| self.respond(packet, limit, transport))).unwrap_or_else(|_| {
            metrics::counter!("tunnler_dns_panics_total").increment(1);
            None
        })
    }

    fn respond(&self, packet: &[u8], limit: Limit, transport: Transport) -> Option<Vec<u8>> {
        let (reply, wanted) = match wire::receive(packet) {
            Received::Ignore => return None,
            Received::Refuse(reply) => (reply, None),
            Received::Query(query) => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                let moment = Moment { now: clock::unix_now(), turn };
                (answer(&query, &self.shared.load(), moment), Some(query.question.query_type()))
            }
        };
        self.tally.count(transport, wanted, reply.code, reply.answers.len());
        Some(wire::encode(reply, limit)).filter(|bytes| !bytes.is_empty())
    }
}
