//! Signs that what was learnt about the network is void.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

/// A wall clock that ran this much differently from the monotonic one jumped, or the machine slept.
const JUMP: Duration = Duration::from_secs(10);

/// Notices that the machine slept, that the clock was set, or that another interface leads outside.
pub(super) struct Clock {
    monotonic: Instant,
    wall: SystemTime,
    own: Option<IpAddr>,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now(), own: None }
    }

    pub(super) fn jumped(&mut self) -> bool {
        let (monotonic, wall) = (Instant::now(), SystemTime::now());
        let passed = monotonic - self.monotonic;
        let jumped = match wall.duration_since(self.wall) {
            Ok(shown) => shown.abs_diff(passed) > JUMP,
            Err(_) => true,
        };
        (self.monotonic, self.wall) = (monotonic, wall);
        jumped
    }

    pub(super) fn moved(&mut self, outward: Option<SocketAddr>) -> bool {
        // Connecting a UDP socket sends nothing; it only asks the routing table.
        let own = outward.and_then(|address| {
            let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
            let socket = UdpSocket::bind((any, 0)).ok()?;
            socket.connect(address).ok()?;
            Some(socket.local_addr().ok()?.ip())
        });
        let moved = self.own.is_some() && own.is_some() && own != self.own;
        self.own = own.or(self.own);
        moved
    }
}
