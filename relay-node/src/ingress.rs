//! Where visitors come in: routes each connection by the host its ClientHello names.
//!
//! Ends TLS for the relay's own host, and for services whose client asks for it ([`crate::term`]). What else belongs to
//! a client is passed on byte for byte; what belongs to nobody gets an alert at once.

mod first_byte;
pub mod hello;
pub mod visitor;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tunnler_protocol::HostName;
use tunnler_protocol::presence::ServiceKind;
use tunnler_protocol::stream::{Payload, StreamHeader};
use tunnler_protocol::term::is_ended_by_relays;
use tunnler_transport::relay::OpenError;
use tunnler_transport::tcp::{self, Probes};
use tunnler_transport::{Direction, SpliceEnd, Worker, Workers, splice};

use crate::limits::metered::Metered;
use crate::limits::shares::{Origin, Over, Share};
use crate::places::Seated;
use crate::prefixes::Place;
use crate::relay::Shared;
use crate::route::{self, Claimed, Wanted};
use crate::session::Line;
use crate::sessions::{Picked, Unreachable};
use crate::{clock, forward, own_host, term};
use first_byte::FirstByte;
use hello::{Hello, Replayed};
use visitor::{Alert, Arrival, Visitor, canonical};

/// How long a visitor may take to send its ClientHello.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// Visitors that vanish without a word are noticed by the system.
pub const VISITOR: Probes =
    Probes { after: Duration::from_secs(60), every: Duration::from_secs(15), count: 4 };
/// Pause after the system could not give us a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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

/// Accepts visitors until the relay stops, each on the worker that has the least to do.
pub async fn serve(shared: Arc<Shared>, listener: TcpListener, workers: Arc<Workers>) {
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
            count_drop("newcomers");
            continue;
        };
        let welcomed = shared.clone();
        let welcome = move |tcp| welcome(welcomed, tcp, visitor, newcomer);
        workers.least_busy().spawn(&shared.tasks, tcp, welcome);
    }
}

async fn welcome(shared: Arc<Shared>, mut tcp: TcpStream, address: SocketAddr, newcomer: Newcomer) {
    tcp::prepare(&tcp, VISITOR);
    let arrived = Instant::now();
    let hello = timeout(HELLO_DEADLINE, hello::read(&mut tcp)).await;
    let Ok(ingress) = tcp.local_addr() else { return };
    let visitor = Visitor { io: tcp, address, ingress, forwarder: None };
    let hello = match hello {
        Ok(Ok(hello)) => hello,
        Ok(Err(hello::HelloError::NotTls)) => return visitor.refuse(Alert::DecodeError).await,
        Ok(Err(_)) | Err(_) => return,
    };
    let Hello { raw, host: Some(host) } = hello else {
        return visitor.refuse(Alert::UnrecognizedName).await;
    };
    if host == shared.own_host {
        return own_host::serve(shared, Replayed::new(raw, visitor.io), address, newcomer).await;
    }
    drop(newcomer);
    pass(&shared, visitor, raw, host, arrived).await;
}

/// Finds the client that serves `host`, here or at another relay, and carries the visitor where its session lives.
pub async fn pass<T: Arrival>(
    shared: &Arc<Shared>,
    visitor: Visitor<T>,
    raw: Vec<u8>,
    host: HostName,
    arrived: Instant,
) {
    let Some(wanted) = shared.wanted(&host) else { return visitor.refuse(Alert::UnrecognizedName).await };
    let picked = shared.sessions.pick(&wanted, visitor.origin(), clock::millis());
    if let Ok(picked) = &picked {
        let service = &picked.service;
        if service.kind != ServiceKind::Http {
            tracing::debug!(%host, service = %service.name, "a visitor asked for a service that is not HTTPS");
            return visitor.refuse(Alert::HandshakeFailure).await;
        }
        shared.served.note(&picked.presence, clock::seconds());
    }
    let worker = picked.as_ref().map_or_else(|_| Worker::here(), |picked| picked.connection.worker.clone());
    let Visitor { io, address, ingress, forwarder } = visitor;
    let shared = shared.clone();
    let carry = move |io| async move {
        let visitor = Visitor { io, address, ingress, forwarder };
        carry(&shared, visitor, raw, (wanted, host), picked, arrived).await;
    };
    worker.serve(io, carry).await;
}

/// Opens the visitor's stream, or ends its TLS, and stays with it.
async fn carry<T: Arrival>(
    shared: &Arc<Shared>,
    visitor: Visitor<T>,
    raw: Vec<u8>,
    (wanted, host): (Wanted, HostName),
    picked: Result<Picked<Line>, Unreachable>,
    arrived: Instant,
) {
    let Ok(share) = shared.admit(&wanted, visitor.origin()) else {
        return visitor.refuse(Alert::InternalError).await;
    };
    let stream = match picked {
        Ok(picked) if is_ended_by_relays(&picked.service) => {
            if shared.term.has_certificate(&host) {
                let _counted = Counted::new();
                return term::serve(shared, visitor, raw, wanted, share).await;
            }
            // DNS names a relay as soon as the client is attached; until the certificate is there others help out.
            tracing::debug!(%host, "no certificate yet");
            metrics::counter!("tunnler_uncertified_visitors_total").increment(1);
            forward::hand_over(shared, &visitor, &wanted, host, &raw).await.ok_or(Alert::InternalError)
        }
        Ok(picked) => {
            let header = visitor.header(host, picked.service);
            let opened = picked.connection.open(&header, visitor.origin(), CancellationToken::new()).await;
            match opened {
                Ok(mut stream) => {
                    if !greet(shared, &mut stream, &raw).await {
                        return visitor.io.abort();
                    }
                    Ok(stream)
                }
                Err(OpenError::Full | OpenError::Ended) => {
                    count_drop("streams");
                    Err(Alert::InternalError)
                }
            }
        }
        Err(_) => {
            forward::hand_over(shared, &visitor, &wanted, host, &raw).await.ok_or(Alert::UnrecognizedName)
        }
    };
    let stream = match stream {
        Ok(stream) => stream,
        Err(alert) => {
            // What it does not get it does not hold while it reads why.
            drop(share);
            return visitor.refuse(alert).await;
        }
    };
    metrics::histogram!("tunnler_open_seconds").record(arrived.elapsed().as_secs_f64());
    metrics::counter!("tunnler_bytes_total", "direction" => "inward").increment(raw.len() as u64);
    drop(raw);
    deliver(shared, visitor, stream, &wanted, share).await;
}

/// Sends what the visitor said so far; false if that failed or the visit must give way.
pub async fn greet(shared: &Shared, stream: &mut Seated, hello: &[u8]) -> bool {
    if let Some(tap) = &shared.splices.tap {
        tap.pass(Direction::Inward, hello);
    }
    let displaced = stream.displaced();
    tokio::select! {
        sent = stream.write_all(hello) => sent.is_ok(),
        () = displaced.cancelled() => false,
    }
}

/// Splices a visitor with its stream for as long as the client may serve it and its place is its own.
pub async fn deliver<T: Arrival>(
    shared: &Shared,
    visitor: Visitor<T>,
    stream: Seated,
    wanted: &Wanted,
    share: Share,
) {
    // Authority may be lost while bytes flow: then the stream goes, too.
    let grant = shared.grants.hold(wanted);
    let _counted = Counted::new();
    let displaced = stream.displaced();
    let carried = async {
        if share.is_metered() {
            let share = Arc::new(share);
            let stream = FirstByte::new(Metered::new(stream, share.clone()));
            let visitor = Metered::new(visitor.io, share);
            splice(visitor, stream, &shared.splices).await
        } else {
            splice(visitor.io, FirstByte::new(stream), &shared.splices).await
        }
    };
    let spliced = tokio::select! {
        // First: what was never begun would not be broken off but closed, as if it had ended.
        biased;
        spliced = carried => spliced,
        () = grant.lost() => return,
        () = displaced.cancelled() => return,
        () = shared.aborting.cancelled() => return,
    };
    metrics::counter!("tunnler_bytes_total", "direction" => "inward").increment(spliced.inward);
    metrics::counter!("tunnler_bytes_total", "direction" => "outward").increment(spliced.outward);
    if !matches!(spliced.end, SpliceEnd::Finished) {
        metrics::counter!("tunnler_streams_cut_total").increment(1);
    }
}

/// A visitor that is being served, for the metrics.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::gauge!("tunnler_streams").increment(1);
        metrics::counter!("tunnler_visitors_total").increment(1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("tunnler_streams").decrement(1);
    }
}

/// A visitor or connection was dropped because of this limit.
pub fn count_drop(limit: impl ToString) {
    metrics::counter!("tunnler_dropped_total", "limit" => limit.to_string()).increment(1);
}

impl<T> Visitor<T> {
    /// What the next hop is told of the visitor.
    pub fn header(&self, host: HostName, service: tunnler_protocol::presence::Service) -> StreamHeader {
        StreamHeader {
            visitor: canonical(self.address),
            ingress: canonical(self.ingress),
            host: Some(host),
            service: service.name,
            kind: service.kind,
            forwarder: self.forwarder,
            payload: Payload::Untouched,
        }
    }
}

impl Shared {
    fn wanted(&self, host: &HostName) -> Option<Wanted> {
        let directory = self.directory.borrow();
        route::wanted(directory.as_deref()?, &self.address, host, clock::seconds())
    }

    /// Takes a visitor in, or counts which bound it would pass.
    pub fn admit(&self, wanted: &Wanted, origin: Origin) -> Result<Share, Over> {
        let admitted = self.shares.admit(wanted, origin, Instant::now());
        admitted.inspect_err(|over| count_drop(over))
    }

    /// Whether `client` may serve `name` now.
    pub fn authorises(&self, client: &tunnler_protocol::Address, name: &Claimed) -> bool {
        let directory = self.directory.borrow();
        directory.as_deref().is_some_and(|directory| {
            name.holder(directory, &self.address, clock::seconds()).as_ref() == Some(client)
        })
    }
}
