//! Signs that what was learnt about the network is void: the machine slept, its clock was set, or another interface
//! leads outside. Compares readings; acts on nothing.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

/// A wall clock that ran this much differently from the monotonic one jumped, or the machine slept: the monotonic one
/// stands still meanwhile.
const JUMP: Duration = Duration::from_secs(10);

/// What can be read without asking anybody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    monotonic: Instant,
    wall: SystemTime,
    /// The own address that outgoing packets carry; `None` without a route.
    own: Option<IpAddr>,
}

/// Remembers the reading before.
#[derive(Debug)]
pub(super) struct Clock {
    last: Reading,
    /// The last address there was: losing it changes nothing yet, coming back with another one does.
    own: Option<IpAddr>,
}

/// What happened between two readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The machine slept, or its clock was set.
    Jumped,
    /// Another own address leads outside.
    Moved,
}

impl Reading {
    /// Reads the clocks, and which way packets to `outward` would go.
    pub(super) fn now(outward: Option<SocketAddr>) -> Self {
        // Connecting a UDP socket sends nothing; it only asks the routing table.
        let own = outward.and_then(|address| {
            let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
            let socket = UdpSocket::bind((any, 0)).ok()?;
            socket.connect(address).ok()?;
            Some(socket.local_addr().ok()?.ip())
        });
        Self { monotonic: Instant::now(), wall: SystemTime::now(), own }
    }
}

impl Clock {
    pub(super) fn new(first: Reading) -> Self {
        Self { last: first, own: first.own }
    }

    /// Takes the next reading.
    pub(super) fn look(&mut self, new: Reading) -> Option<Change> {
        let passed = new.monotonic.saturating_duration_since(self.last.monotonic);
        let shown = new.wall.duration_since(self.last.wall);
        let jumped = shown.map_or(true, |shown| shown.abs_diff(passed) > JUMP);
        // An address of another family says that another relay was looked at, not that anything moved.
        let comparable = |a: &IpAddr| new.own.is_some_and(|b| a.is_ipv4() == b.is_ipv4());
        let moved = self.own.filter(comparable).is_some_and(|own| new.own != Some(own));
        self.last = new;
        self.own = new.own.or(self.own);
        match (jumped, moved) {
            (true, _) => Some(Change::Jumped),
            (false, true) => Some(Change::Moved),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_a_set_clock_and_another_address_are_noticed_and_nothing_else() {
        let start = Reading {
            monotonic: Instant::now(),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
            own: Some([192, 168, 1, 7].into()),
        };
        let later = |reading: Reading, monotonic: u64, wall: i64| Reading {
            monotonic: reading.monotonic + Duration::from_secs(monotonic),
            wall: if wall < 0 {
                reading.wall - Duration::from_secs(wall.unsigned_abs())
            } else {
                reading.wall + Duration::from_secs(wall.unsigned_abs())
            },
            ..reading
        };
        let mut clock = Clock::new(start);
        // A busy machine looks late; a clock is adjusted by a few seconds.
        let mut now = later(start, 40, 40);
        assert_eq!(clock.look(now), None);
        now = later(now, 1, 6);
        assert_eq!(clock.look(now), None);
        now = later(now, 1, 3600);
        assert_eq!(clock.look(now), Some(Change::Jumped), "slept for an hour");
        now = later(now, 1, -1);
        assert_eq!(clock.look(now), Some(Change::Jumped), "set back");
        now = later(now, 1, 1);
        assert_eq!(clock.look(now), None);
        // The cable is pulled, and another network takes its place.
        let gone = Reading { own: None, ..later(now, 1, 1) };
        assert_eq!(clock.look(gone), None);
        let wireless = Reading { own: Some([10, 0, 0, 3].into()), ..later(gone, 1, 1) };
        assert_eq!(clock.look(wireless), Some(Change::Moved));
        let v6 = Reading { own: Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()), ..later(wireless, 1, 1) };
        assert_eq!(clock.look(v6), None);
        assert_eq!(clock.look(Reading { own: v6.own, ..later(v6, 1, 1) }), None);
    }

    #[test]
    fn the_way_outside_is_read_without_sending_anything() {
        let own = Reading::now(Some(([127, 0, 0, 1], 9).into())).own;
        assert_eq!(own, Some([127, 0, 0, 1].into()));
        assert_eq!(Reading::now(None).own, None);
    }
}
