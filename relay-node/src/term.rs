//! Term mode: ends the visitor's TLS for services whose client asked for it, and speaks HTTP to that client inside
//! streams of its session.
//!
//! Never for a service in pass mode, and never before the chain and a presence agree on whose the host is. Every
//! connection of a visitor has streams of its own: no two visitors ever share one. HTTP goes on in the version the
//! visitor chose, so one stream carries all requests of an HTTP/2 visitor.

pub mod budget;
pub mod clients;
pub mod issuer;
mod leash;
pub mod supplied;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tunnler_edge::proxy;
use tunnler_edge::tls::{HandshakeError, Protocol, TlsEnd};
use tunnler_edge::{Certificates, Site, Upstream};
use tunnler_protocol::stream::{Payload, StreamHeader};
use tunnler_protocol::term::is_ended_by_relays;
use tunnler_protocol::{Address, HostName};

use crate::clock;
use crate::ingress::count_drop;
use crate::ingress::hello::Replayed;
use crate::ingress::visitor::{Arrival, Visitor, canonical};
use crate::limits::metered::Metered;
use crate::limits::shares::{Origin, Share};
use crate::places::Seated;
use crate::relay::Shared;
use crate::route::Wanted;
use leash::Leash;

/// What term mode needs in a relay.
pub(crate) struct TermEnd {
    certificates: Arc<Certificates>,
    tls: TlsEnd,
    /// Notified when somebody attached or said something new.
    changed: Notify,
}

impl TermEnd {
    pub(crate) fn new(certificates: Arc<Certificates>) -> Self {
        let tls = TlsEnd::new(certificates.clone());
        Self { certificates, tls, changed: Notify::new() }
    }

    /// Whether visitors of `host` can be shown a certificate.
    pub(crate) fn has_certificate(&self, host: &HostName) -> bool {
        self.certificates.find(host.as_str()).is_some()
    }

    /// Somebody attached or said something new.
    pub(crate) fn look_again(&self) {
        self.changed.notify_one();
    }
}

/// Who is served, and in which share.
struct Served {
    shared: Arc<Shared>,
    wanted: Wanted,
    address: SocketAddr,
    ingress: SocketAddr,
    forwarder: Option<Address>,
    origin: Origin,
    share: Arc<Share>,
    cut: CancellationToken,
}

#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Http(#[from] proxy::ServeError),
}

/// Serves one visitor for as long as its client may serve it; `hello` is what it sent so far.
pub(crate) async fn serve<T: Arrival>(
    shared: &Arc<Shared>,
    visitor: Visitor<T>,
    hello: Vec<u8>,
    wanted: Wanted,
    share: Share,
) {
    let grant = shared.grants.hold(&wanted);
    let address = canonical(visitor.address);
    let (already, origin) = (hello.len() as u64, visitor.origin());
    // Cut with this function, however it ends: WebSockets live in tasks of their own.
    let cut = CancellationToken::new();
    let _cut = cut.clone().drop_guard();
    let (io, traffic) = Leash::new(visitor.io, cut.clone());
    let served = Arc::new(Served {
        shared: shared.clone(),
        wanted,
        address,
        ingress: canonical(visitor.ingress),
        forwarder: visitor.forwarder,
        origin,
        share: Arc::new(share),
        cut: cut.clone(),
    });
    let io = Metered::new(Replayed::new(hello, io), served.share.clone());
    let speaking = speak(served, io);
    tokio::pin!(speaking);
    tokio::select! {
        ended = &mut speaking => if let Err(error) = ended {
            tracing::debug!(visitor = %address, %error, "visitor");
        },
        // Before the connection is dropped: it must not look ended in order.
        () = cut.cancelled() => {}
        () = grant.lost() => cut.cancel(),
        () = shared.aborting.cancelled() => cut.cancel(),
    }
    let (inward, outward) = traffic.bytes();
    metrics::counter!("tunnler_bytes_total", "direction" => "inward").increment(already + inward);
    metrics::counter!("tunnler_bytes_total", "direction" => "outward").increment(outward);
}

async fn speak<T: Arrival>(served: Arc<Served>, io: Metered<Replayed<Leash<T>>>) -> Result<(), ServeError> {
    let ended = served.shared.term.tls.accept(io).await?;
    let seen =
        tunnler_edge::Visitor { address: served.address, host: ended.host.clone(), protocol: ended.protocol };
    let (shared, stop) = (served.shared.clone(), served.shared.stopping.clone());
    let open = move |protocol| {
        let (served, host) = (served.clone(), ended.host.clone());
        async move { served.open(host, protocol).await }
    };
    let mut site = Site::from(Upstream::over(open, ended.protocol));
    // No client sets cookies for all names of the zone.
    if let Some(directory) = shared.directory.borrow().as_deref() {
        site = site.in_zone(directory.zone.zone.apex().clone());
    }
    Ok(proxy::serve(ended.stream, seen, Arc::new(site), stop).await?)
}

impl Served {
    /// A new stream to whichever session serves the visitor's host now. It holds a place of the visitor's network, and
    /// when that must be given up the visitor's whole connection is cut.
    async fn open(&self, host: HostName, protocol: Protocol) -> io::Result<Metered<Seated>> {
        let picked = self.shared.sessions.pick(&self.wanted, self.origin, clock::millis());
        let Some(picked) = picked.ok().filter(|picked| is_ended_by_relays(&picked.service)) else {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "no session serves this host"));
        };
        let header = StreamHeader {
            visitor: self.address,
            ingress: self.ingress,
            host: Some(host),
            service: picked.service.name,
            kind: picked.service.kind,
            forwarder: self.forwarder,
            payload: match protocol {
                Protocol::Http1 => Payload::Http1,
                Protocol::Http2 => Payload::Http2,
            },
        };
        let opened = picked.connection.open(&header, self.origin, self.cut.clone()).await;
        let stream = opened.inspect_err(|_| count_drop("streams")).map_err(io::Error::other)?;
        Ok(Metered::new(stream, self.share.clone()))
    }
}
