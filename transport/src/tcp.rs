//! What is asked of TCP connections.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// How the system finds out that the other side is gone although nobody has anything to say (RFC 9293, section 3.8.4).
#[derive(Clone, Copy, Debug)]
pub struct Probes {
    /// Quiet before the first.
    pub after: Duration,
    /// Time between two.
    pub every: Duration,
    /// How many go unanswered before the connection ends.
    pub count: u32,
}

impl Probes {
    /// Of a session, for its client, which must find another relay: it ends 10 s after its path died. A relay leaves this alone.
    /// Its system would probe all sessions of one moment in bursts, and what a full queue drops looks like a dead path.
    pub const SESSION: Self = Self { after: Duration::from_secs(7), every: Duration::from_secs(1), count: 3 };
}

/// Has small segments sent at once, and the other side probed. What cannot be set is left as it is.
pub fn prepare(tcp: &TcpStream, probes: Probes) {
    let keepalive =
        TcpKeepalive::new().with_time(probes.after).with_interval(probes.every).with_retries(probes.count);
    let _ = tcp.set_nodelay(true);
    let _ = SockRef::from(tcp).set_tcp_keepalive(&keepalive);
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::liveness::DEAD_AFTER;

    #[tokio::test]
    async fn a_session_whose_path_is_dead_ends_when_it_should() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        prepare(&tcp, Probes::SESSION);
        let socket = SockRef::from(&tcp);
        assert!(socket.keepalive().unwrap() && tcp.nodelay().unwrap());
        let every = socket.tcp_keepalive_interval().unwrap();
        let count = socket.tcp_keepalive_retries().unwrap();
        assert_eq!(socket.tcp_keepalive_time().unwrap() + every * count, DEAD_AFTER, "as the system took it");
    }
}
