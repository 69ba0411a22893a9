//! What a session asks of the TCP connection below it.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::link::DEAD_AFTER;

/// Probes before the system gives up, one a second.
const PROBES: u32 = 3;
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Sends small segments at once, and lets the system end a connection whose path has been dead for [`DEAD_AFTER`] even if
/// nobody has anything to say. What cannot be set is left as it is: sessions ask each other, too, only less often.
pub fn prepare(tcp: &TcpStream) {
    let quiet = DEAD_AFTER - PROBE_EVERY * PROBES;
    let keepalive = TcpKeepalive::new().with_time(quiet).with_interval(PROBE_EVERY).with_retries(PROBES);
    let _ = tcp.set_nodelay(true);
    let _ = SockRef::from(tcp).set_tcp_keepalive(&keepalive);
}
