//! UDP workers: blocking threads, each with a socket of its own on the same port, so that the kernel spreads askers.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio_util::sync::CancellationToken;

use super::limit::Verdict;
use super::{Prefix, Responder};

/// A query is short; what is longer is not one.
const MAX_QUERY: usize = 4096;
/// How often an idle worker looks whether it should stop.
const IDLE: Duration = Duration::from_millis(100);
/// Socket buffer for bursts; the kernel may grant less.
const BUFFER: usize = 4 << 20;

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
pub(super) fn work(socket: &UdpSocket, responder: &Responder, stop: &CancellationToken) {
    let mut buffer = [0; MAX_QUERY];
    let limited = metrics::counter!("tunnler_dns_rate_limited_total");
    while !stop.is_cancelled() {
        // Timeouts and errors of earlier sends (a peer's ICMP) are no reason to stop.
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
        // Port 0 cannot be answered.
        if peer.port() == 0 {
            continue;
        }
        let packet = &buffer[..length];
        let answer = match responder.limit(Prefix::of(peer.ip()), Instant::now()) {
            Verdict::Answer => responder.udp(packet),
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
        }
    }
}
