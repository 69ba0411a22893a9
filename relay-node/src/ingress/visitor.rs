//! One visitor, whichever way it came, and how one is refused: by a TLS alert, in a way that it gets to read it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tunnler_protocol::Address;
use tunnler_transport::{Abort, Guest};

use crate::limits::shares::Origin;

/// How long a refused visitor may take to read why.
const ALERT_DEADLINE: Duration = Duration::from_secs(2);

/// Byte streams that visitors come over: a TCP connection, or a stream of a relay that handed the visitor over.
pub trait Arrival: AsyncRead + AsyncWrite + Abort + Guest + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Abort + Guest + Sync + Unpin> Arrival for T {}

/// A visitor.
#[derive(Debug)]
pub struct Visitor<T> {
    /// Its bytes.
    pub io: T,
    /// Where it is, as far as is known.
    pub address: SocketAddr,
    /// Where it arrived.
    pub ingress: SocketAddr,
    /// The relay that handed it over; such a visitor is never handed on again.
    pub forwarder: Option<Address>,
}

/// TLS alerts (RFC 8446, section 6) that a visitor may get from a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alert {
    /// Nobody serves this host here.
    UnrecognizedName = 112,
    /// Somebody does, but not now.
    InternalError = 80,
    /// The relay would have to end TLS, which it does not do.
    HandshakeFailure = 40,
    /// Not a ClientHello.
    DecodeError = 50,
}

impl<T: Arrival> Visitor<T> {
    /// Whose share it counts in.
    pub fn origin(&self) -> Origin {
        self.forwarder.map_or(Origin::Direct(self.address.ip()), Origin::Forwarded)
    }

    /// Tells it that there is nothing for it.
    pub async fn refuse(mut self, alert: Alert) {
        metrics::counter!("tunnler_refused_visitors_total", "alert" => alert.name()).increment(1);
        let record = alert.record();
        let goodbye = async {
            self.io.write_all(&record).await?;
            self.io.shutdown().await?;
            // Closing with unread bytes would send RST, which can overtake the alert.
            tokio::io::copy(&mut self.io, &mut tokio::io::sink()).await
        };
        let _ = timeout(ALERT_DEADLINE, goodbye).await;
    }
}

impl Alert {
    /// A fatal alert is one record of so many bytes (RFC 8446, sections 5.1 and 6).
    pub const LENGTH: usize = 7;

    fn record(self) -> [u8; Self::LENGTH] {
        [21, 3, 3, 0, 2, 2, self as u8]
    }

    /// Whether an answer that begins like this says that there is nobody, or nobody now: another relay may have better
    /// news.
    pub fn is_refusal(first: &[u8]) -> bool {
        [Self::UnrecognizedName, Self::InternalError].iter().any(|alert| first == alert.record())
    }

    fn name(self) -> &'static str {
        match self {
            Self::UnrecognizedName => "unrecognized_name",
            Self::InternalError => "internal_error",
            Self::HandshakeFailure => "handshake_failure",
            Self::DecodeError => "decode_error",
        }
    }
}

/// IPv4 addresses of dual-stack sockets in their own form.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
