//! Where visitors come in: a stream of a relay's session becomes a visitor of a declared service, or is refused.
//!
//! The relay's word is not taken for where a visitor goes: the host it named in TLS decides, and the relay's header
//! must agree. Only where the user lets relays end TLS, a stream may bring HTTP as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tunnler_edge::Site;
use tunnler_edge::proxy::{self, Http2Sockets, ServeError, Visitor};
use tunnler_edge::tls::{HandshakeError, Protocol, TlsEnd};
use tunnler_protocol::name::Zone;
use tunnler_protocol::presence::ServiceKind;
use tunnler_protocol::stream::Payload;
use tunnler_protocol::{Host, HostName, ServiceName};
use tunnler_transport::{BufferPool, IncomingStream, SpliceContext};

use super::ServiceBackend;

/// Copy buffers that are kept for later visitors of TCP services.
const BUFFERS: usize = 64;

/// Admits visitors of all sessions.
#[derive(Debug)]
pub(super) struct Door {
    zone: Zone,
    services: Vec<(ServiceName, ArcSwap<ServiceBackend>)>,
    /// Those whose TLS relays end.
    relayed: Vec<ServiceName>,
    sockets: Http2Sockets,
    tls: TlsEnd,
    buffers: Arc<BufferPool>,
    stop: CancellationToken,
    open: AtomicUsize,
    total: AtomicU64,
}

/// Why a visitor was not served to the end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("the relay announced {0}, which is not declared")]
    Undeclared(ServiceName),
    #[error("the relay announced {0} as another kind of service")]
    OtherKind(ServiceName),
    #[error("the relay announced {0} as if TLS ended on the other side")]
    OtherTls(ServiceName),
    #[error("the visitor asks for {host}, the relay announced service {announced}")]
    Contradiction { host: HostName, announced: ServiceName },
    #[error("the relay announced {0} without a host")]
    Hostless(ServiceName),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("TCP service {0}: {1}")]
    Tcp(ServiceName, std::io::Error),
}

impl Door {
    pub(super) fn new(
        zone: Zone,
        services: Vec<(ServiceName, ServiceBackend)>,
        relayed: Vec<ServiceName>,
        tls: TlsEnd,
        stop: CancellationToken,
    ) -> Self {
        let sockets = match services.len() {
            0 | 1 => Http2Sockets::Offered,
            // One certificate for NAME and *.NAME.
            _ => Http2Sockets::Withheld,
        };
        let settled = |(name, backend)| (name, ArcSwap::from_pointee(settle(backend, &zone, sockets)));
        let services = services.into_iter().map(settled).collect();
        Self {
            zone,
            services,
            relayed,
            sockets,
            tls,
            buffers: BufferPool::new(BUFFERS),
            stop,
            open: AtomicUsize::new(0),
            total: AtomicU64::new(0),
        }
    }

    /// New visitors' connections of `service` go to another backend; present ones keep theirs.
    pub(super) fn replace(&self, service: &ServiceName, backend: ServiceBackend) {
        if let Some((_, current)) = self.services.iter().find(|(name, _)| name == service) {
            current.store(Arc::new(settle(backend, &self.zone, self.sockets)));
        }
    }

    /// Visitors now, and since the start.
    pub(super) fn visitors(&self) -> (usize, u64) {
        (self.open.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// Serves one visitor until it is gone.
    pub(super) async fn admit(self: Arc<Self>, stream: IncomingStream) {
        let _inside = Inside::enter(&self);
        let visitor = stream.header.visitor;
        if let Err(error) = self.serve(stream).await {
            tracing::debug!(%visitor, %error, "visitor");
        }
    }

    async fn serve(&self, stream: IncomingStream) -> Result<(), Refused> {
        let declared = self.services.iter().find(|(name, _)| *name == stream.header.service);
        let Some((name, backend)) = declared else {
            return Err(Refused::Undeclared(stream.header.service));
        };
        let site = match (&**backend.load(), stream.header.kind) {
            (ServiceBackend::Http(site), ServiceKind::Http) => site.clone(),
            (ServiceBackend::Tcp(upstream), ServiceKind::Tcp) => {
                let upstream = upstream.clone();
                let context = SpliceContext { buffers: self.buffers.clone(), tap: None };
                let served = upstream.serve(stream, &context).await;
                return served.map_err(|error| Refused::Tcp(name.clone(), error));
            }
            _ => return Err(Refused::OtherKind(stream.header.service)),
        };
        if self.relayed.contains(name) != (stream.header.payload != Payload::Untouched) {
            return Err(Refused::OtherTls(stream.header.service));
        }
        let protocol = match stream.header.payload {
            Payload::Untouched => return self.serve_tls(stream, name, site).await,
            Payload::Http1 => Protocol::Http1,
            Payload::Http2 => Protocol::Http2,
        };
        let header = stream.header;
        match header.host {
            Some(host) if self.asked_for(&host) == Some(name) => {
                let seen = Visitor { address: header.visitor, host, protocol };
                Ok(proxy::serve(stream.io, seen, site, self.stop.clone()).await?)
            }
            Some(host) => Err(Refused::Contradiction { host, announced: header.service }),
            None => Err(Refused::Hostless(header.service)),
        }
    }

    async fn serve_tls(
        &self,
        stream: IncomingStream,
        name: &ServiceName,
        site: Arc<Site>,
    ) -> Result<(), Refused> {
        let header = stream.header;
        let visitor = self.tls.accept(stream.io).await?;
        if self.asked_for(&visitor.host) != Some(name) {
            return Err(Refused::Contradiction { host: visitor.host, announced: header.service });
        }
        let seen = Visitor { address: header.visitor, host: visitor.host, protocol: visitor.protocol };
        Ok(proxy::serve(visitor.stream, seen, site, self.stop.clone()).await?)
    }

    /// The service that a host name stands for.
    fn asked_for(&self, host: &HostName) -> Option<&ServiceName> {
        let named = match self.zone.classify(host) {
            Host::Name(_, service) | Host::Account(_, service) => service,
            Host::Foreign => None,
            Host::Apex | Host::Relay(_) | Host::Unregistrable => return None,
        };
        let mut names = self.services.iter().map(|(name, _)| name);
        match named {
            None => names.next(),
            Some(named) => names.find(|name| **name == named),
        }
    }
}

/// A backend that sets no cookies for all names of the zone.
fn settle(backend: ServiceBackend, zone: &Zone, sockets: Http2Sockets) -> ServiceBackend {
    match backend {
        ServiceBackend::Http(site) => {
            let site = Site::clone(&site).in_zone(zone.apex().clone()).sockets(sockets);
            ServiceBackend::Http(Arc::new(site))
        }
        tcp @ ServiceBackend::Tcp(_) => tcp,
    }
}

/// Counts a visitor for as long as it is inside.
struct Inside<'a>(&'a Door);

impl<'a> Inside<'a> {
    fn enter(door: &'a Door) -> Self {
        door.open.fetch_add(1, Ordering::Relaxed);
        door.total.fetch_add(1, Ordering::Relaxed);
        Self(door)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
