//! UDP workers: blocking threads, each with a socket of its own on the same port, so that the kernel spreads askers.
//!
//! A worker never signs: an answer that needs a new signature goes to the signing threads, and the worker goes on.

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio_util::sync::CancellationToken;

use super::limit::Verdict;
use super::responder::Outcome;
use super::{Responder, network};
use crate::dnssec::Fresh;

/// A query is short; what is longer is not one.
const MAX_QUERY: usize = 4096;
/// How often an idle worker looks whether it should stop.
const IDLE: Duration = Duration::from_millis(100);
/// Socket buffer for bursts; the kernel may grant less.
const BUFFER: usize = 4 << 20;
/// One in so many answers is timed.
const SAMPLED: u32 = 64;
/// Queries that may wait for a signature.
pub(super) const SIGNING_QUEUE: usize = 1024;

/// A query that waits for a signature.
#[derive(Debug)]
pub(super) struct Unsigned {
    packet: Box<[u8]>,
    peer: SocketAddr,
    socket: Arc<UdpSocket>,
}

pub(super) fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(true)?;
    let _ = socket.set_recv_buffer_size(BUFFER);
    socket.bind(&address.into())?;
    socket.set_read_timeout(Some(IDLE))?;
    Ok(socket.into())
}

/// Answers until `stop`.
pub(super) fn work(
    socket: &Arc<UdpSocket>,
    responder: &Responder,
    signing: &SyncSender<Unsigned>,
    stop: &CancellationToken,
) {
    let mut buffer = [0; MAX_QUERY];
    let limited = metrics::counter!("tunnler_dns_rate_limited_total");
    let unsigned = metrics::counter!("tunnler_dns_signatures_limited_total");
    let latency = metrics::histogram!("tunnler_dns_answer_seconds");
    let mut answered = 0_u32;
    while !stop.is_cancelled() {
        // Timeouts and errors of earlier sends (a peer's ICMP) are no reason to stop.
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
        // Port 0 cannot be answered.
        if peer.port() == 0 {
            continue;
        }
        let (packet, prefix, now) = (&buffer[..length], network(peer.ip()), Instant::now());
        let answer = match responder.limit(prefix, now) {
            Verdict::Answer => match responder.udp(packet, Fresh::Remembered) {
                Outcome::Send(answer) => Some(answer),
                Outcome::Silence => None,
                Outcome::MustSign if responder.may_sign(prefix, now) => {
                    let job = Unsigned { packet: packet.into(), peer, socket: socket.clone() };
                    // A full queue drops: the asker asks again.
                    if signing.try_send(job).is_err() {
                        unsigned.increment(1);
                    }
                    None
                }
                Outcome::MustSign => {
                    unsigned.increment(1);
                    responder.truncated(packet)
                }
            },
            Verdict::Truncate => {
                limited.increment(1);
                responder.truncated(packet)
            }
            Verdict::Drop => {
                limited.increment(1);
                None
            }
        };
        if let Some(answer) = answer {
            let _ = socket.send_to(&answer, peer);
            answered = answered.wrapping_add(1);
            if answered.is_multiple_of(SAMPLED) {
                latency.record(now.elapsed());
            }
        }
    }
}

/// Signs and answers until every worker has ended.
pub(super) fn sign(jobs: &Mutex<Receiver<Unsigned>>, responder: &Responder) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Unsigned { packet, peer, socket }) = job else { return };
        if let Outcome::Send(answer) = responder.udp(&packet, Fresh::Made) {
            let _ = socket.send_to(&answer, peer);
        }
    }
}
