//! Where visitors come in: routes each connection by the host its ClientHello names.
//!
//! Ends TLS for the relay's own host only. What belongs to a client is passed on byte for byte; what belongs to nobody
//! gets an alert at once.

pub mod hello;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tunnler_protocol::HostName;
use tunnler_protocol::presence::{ServiceKind, TlsMode};
use tunnler_protocol::stream::{Payload, StreamHeader};
use tunnler_transport::relay::OpenError;
use tunnler_transport::{Abort, Direction, SessionStream, SpliceEnd, splice};

use crate::prefixes::Place;
use crate::relay::Shared;
use crate::route::{self, Claimed, Wanted};
use crate::{clock, own_host};
use hello::{Hello, Replayed};

/// How long a visitor may take to send its ClientHello.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// Silence after which the system asks whether a visitor is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How long a refused visitor may take to read why.
const ALERT_DEADLINE: Duration = Duration::from_secs(2);
/// Pause after the system could not give us a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// TLS alerts (RFC 8446, section 6) that a visitor may get from a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alert {
    /// Nobody serves this host here.
    UnrecognizedName = 112,
    /// Somebody does, but not now.
    InternalError = 80,
    /// The relay would have to end TLS, which it does not do.
    HandshakeFailure = 40,
    /// Not a ClientHello.
    DecodeError = 50,
}

/// A connection that has neither named a host nor logged in: bounded in all and per network.
#[derive(Debug)]
pub struct Newcomer {
    _permit: OwnedSemaphorePermit,
    _place: Place,
}

impl Newcomer {
    fn admit(shared: &Shared, address: IpAddr) -> Option<Self> {
        let place = shared.newcomers_by_prefix.take(address, shared.limits.newcomers_per_prefix)?;
        let permit = shared.newcomers.clone().try_acquire_owned().ok()?;
        Some(Self { _permit: permit, _place: place })
    }
}

/// Accepts visitors until the relay stops.
pub async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stopping.cancelled() => return,
        };
        let (tcp, visitor) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; is the limit of open files reached?");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(newcomer) = Newcomer::admit(&shared, visitor.ip()) else {
            metrics::counter!("tunnler_dropped_total", "limit" => "newcomers").increment(1);
            continue;
        };
        let shared = shared.clone();
        shared.tasks.clone().spawn(async move { welcome(shared, tcp, visitor, newcomer).await });
    }
}

async fn welcome(shared: Arc<Shared>, mut tcp: TcpStream, visitor: SocketAddr, newcomer: Newcomer) {
    prepare(&tcp);
    let arrived = Instant::now();
    let hello = match timeout(HELLO_DEADLINE, hello::read(&mut tcp)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(hello::HelloError::NotTls)) => return refuse(tcp, Alert::DecodeError).await,
        Ok(Err(_)) | Err(_) => return,
    };
    let Hello { raw, host: Some(host) } = hello else { return refuse(tcp, Alert::UnrecognizedName).await };
    if host == shared.own_host {
        return own_host::serve(shared, Replayed::new(raw, tcp), visitor, newcomer).await;
    }
    drop(newcomer);
    pass(&shared, tcp, visitor, raw, host, arrived).await;
}

/// Visitors that vanish without a word are noticed by the system.
pub fn prepare(tcp: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4).with_retries(4);
    let _ = tcp.set_nodelay(true);
    let _ = SockRef::from(tcp).set_tcp_keepalive(&keepalive);
}

/// Finds the client that serves `host` and splices.
async fn pass(
    shared: &Shared,
    tcp: TcpStream,
    visitor: SocketAddr,
    raw: Vec<u8>,
    host: HostName,
    arrived: Instant,
) {
    let Some(wanted) = shared.wanted(&host) else { return refuse(tcp, Alert::UnrecognizedName).await };
    let Ok((session, service)) = shared.sessions.pick(&wanted, clock::millis()) else {
        return refuse(tcp, Alert::UnrecognizedName).await;
    };
    if service.kind != ServiceKind::Http || service.tls != TlsMode::Pass {
        tracing::debug!(%host, service = %service.name, "a visitor asked for a service that is not passed through");
        return refuse(tcp, Alert::HandshakeFailure).await;
    }
    let Ok(ingress) = tcp.local_addr() else { return };
    let header = StreamHeader {
        visitor: canonical(visitor),
        ingress: canonical(ingress),
        host: Some(host),
        service: service.name,
        kind: service.kind,
        forwarder: None,
        payload: Payload::Untouched,
    };
    let mut stream = match session.0.open(&header).await {
        Ok(stream) => stream,
        Err(OpenError::Full | OpenError::Ended) => {
            metrics::counter!("tunnler_dropped_total", "limit" => "streams").increment(1);
            return refuse(tcp, Alert::InternalError).await;
        }
    };
    if let Some(tap) = &shared.splices.tap {
        tap.pass(Direction::Inward, &raw);
    }
    if stream.write_all(&raw).await.is_ok() {
        metrics::histogram!("tunnler_open_seconds").record(arrived.elapsed().as_secs_f64());
        deliver(shared, tcp, stream, &wanted, raw.len()).await;
    }
}

/// Splices a visitor with its stream for as long as the client may serve it. `already` bytes went ahead.
pub async fn deliver(
    shared: &Shared,
    tcp: TcpStream,
    stream: SessionStream,
    wanted: &Wanted,
    already: usize,
) {
    let most = shared.limits.visitors_per_prefix;
    let place = tcp.peer_addr().ok().and_then(|visitor| shared.visitors_by_prefix.take(visitor.ip(), most));
    let Some(_place) = place else {
        metrics::counter!("tunnler_dropped_total", "limit" => "visitors_per_prefix").increment(1);
        return tcp.abort();
    };
    // Authority may be lost while bytes flow: then the stream goes, too.
    let grant = shared.grants.hold(wanted);
    metrics::gauge!("tunnler_streams").increment(1);
    metrics::counter!("tunnler_visitors_total").increment(1);
    let spliced = tokio::select! {
        spliced = splice(tcp, stream, &shared.splices) => Some(spliced),
        () = grant.lost() => None,
        () = shared.aborting.cancelled() => None,
    };
    metrics::gauge!("tunnler_streams").decrement(1);
    if let Some(spliced) = spliced {
        let inward = spliced.inward + already as u64;
        metrics::counter!("tunnler_bytes_total", "direction" => "inward").increment(inward);
        metrics::counter!("tunnler_bytes_total", "direction" => "outward").increment(spliced.outward);
        if !matches!(spliced.end, SpliceEnd::Finished) {
            metrics::counter!("tunnler_streams_cut_total").increment(1);
        }
    }
}

/// Tells a visitor by a TLS alert that there is nothing for it, in a way that it gets to read it.
async fn refuse(mut tcp: TcpStream, alert: Alert) {
    metrics::counter!("tunnler_refused_visitors_total", "alert" => alert.name()).increment(1);
    let record = [21, 3, 3, 0, 2, 2, alert as u8];
    let goodbye = async {
        tcp.write_all(&record).await?;
        tcp.shutdown().await?;
        // Closing with unread bytes would send RST, which can overtake the alert.
        tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await
    };
    let _ = timeout(ALERT_DEADLINE, goodbye).await;
}

impl Alert {
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

impl Shared {
    fn wanted(&self, host: &HostName) -> Option<Wanted> {
        let directory = self.directory.borrow();
        route::wanted(directory.as_deref()?, &self.address, host, clock::seconds())
    }

    /// Whether `client` may serve `name` now.
    pub fn authorises(&self, client: &tunnler_protocol::Address, name: &Claimed) -> bool {
        let directory = self.directory.borrow();
        directory.as_deref().is_some_and(|directory| {
            name.holder(directory, &self.address, clock::seconds()).as_ref() == Some(client)
        })
    }
}
