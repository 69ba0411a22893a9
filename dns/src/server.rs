//! The composition root: binds everything, starts the tasks, and ends them in order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tunnler_chain::ChainHandle;
use tunnler_protocol::SecretKey;
use tunnler_protocol::directory::Directory;

use crate::clock;
use crate::dnssec::keys::{KeyError, ZoneKeys};
use crate::dnssec::rollover;
use crate::feed::{self, Dialer};
use crate::http::{self, HttpError};
use crate::probe::{self, Probing};
use crate::serve::limit::Rate;
use crate::serve::tls::CertificateFiles;
use crate::serve::{BindError, Bound, Responder, StreamError, StreamListener};
use crate::snapshot::{Snapshot, Terms};
use crate::state::store::{Store, StoreError};
use crate::state::task::{self, Ends, QUEUE, Shared};
use crate::state::{Event, State};

/// How often recorded metrics are compacted.
const UPKEEP: Duration = Duration::from_secs(5);

/// Everything a server needs to know, validated.
#[derive(Debug)]
pub struct Config {
    /// What the descriptor and the operator decided.
    pub terms: Terms,
    /// This server's key, as the Namespace contract lists it.
    pub key: SecretKey,
    /// Addresses for UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// UDP workers per address.
    pub workers: usize,
    /// Answers per second and network over UDP.
    pub rate: Rate,
    /// Where operators look: health, metrics, explanations.
    pub admin: Option<SocketAddr>,
    /// Where clients POST presences.
    pub http: Option<SocketAddr>,
    /// The certificate for DNS over TLS and HTTPS.
    pub certificate: Option<CertificateFiles>,
    /// Address for DNS over TLS; needs the certificate.
    pub dot: Option<SocketAddr>,
    /// Address for DNS over HTTPS; needs the certificate.
    pub doh: Option<SocketAddr>,
    /// Whether relays' ingress is probed.
    pub probing: Probing,
    /// Where presences are kept over restarts; `None` keeps nothing.
    pub state: Option<PathBuf>,
    /// Directory with the zone's keys; `None` leaves the zone unsigned.
    pub zone_keys: Option<PathBuf>,
    /// How well the chain can be read, for `/health`; `None` without a chain.
    pub chain: Option<ChainHandle>,
    /// Renders metrics, if they are recorded.
    pub metrics: Option<PrometheusHandle>,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address for DNS.
    #[error(transparent)]
    Dns(#[from] BindError),
    /// An address for HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An address for TLS or HTTP.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// DNS over TLS or HTTPS without a certificate.
    #[error("DNS over TLS and HTTPS need a certificate: pass --tls-chain FILE and --tls-key FILE")]
    NoCertificate,
    /// The zone's keys.
    #[error(transparent)]
    ZoneKeys(#[from] KeyError),
}

/// A running server. Dropping it stops its tasks; [`shutdown`](Self::shutdown) also waits for them.
#[derive(Debug)]
pub struct Server {
    dns: Vec<SocketAddr>,
    dot: Option<SocketAddr>,
    doh: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    http: Option<SocketAddr>,
    shared: Shared,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    /// Binds all addresses and starts to serve what `directory` says. The process-wide rustls provider must be
    /// installed.
    pub async fn bind(
        config: Config,
        directory: watch::Receiver<Option<Arc<Directory>>>,
    ) -> Result<Self, ServerError> {
        let mut bound = Vec::new();
        for address in &config.listen {
            bound.push(Bound::bind(*address, config.workers).await?);
        }
        let certificate = || config.certificate.clone().ok_or(ServerError::NoCertificate);
        let dot = match config.dot {
            Some(address) => Some(StreamListener::dot(address, certificate()?)?),
            None => None,
        };
        let shared: Shared = Arc::new(ArcSwap::from_pointee(Snapshot::empty(config.terms)));
        let (events, received) = mpsc::channel(QUEUE);
        let presences = http::presence::routes(shared.clone(), events.clone());
        let doh = match config.doh {
            Some(address) => Some(StreamListener::doh(address, certificate()?, presences.clone())?),
            None => None,
        };
        let admin = http::bind(config.admin).await?;
        let posting = match config.http {
            Some(address) => Some(StreamListener::http(address, presences)?),
            None => None,
        };
        let (store, restored) = match &config.state {
            Some(dir) => Store::open(dir).map(|(store, restored)| (Some(store), restored))?,
            None => (None, Vec::new()),
        };
        let mut state = State::new(config.terms, restored, clock::now());
        if let Some(dir) = &config.zone_keys {
            state.handle(Event::Keys(Arc::new(ZoneKeys::load(dir)?)), clock::now());
        }
        let (subscribe, subscriptions) = watch::channel(Vec::new());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());

        let ends = Ends { directory, events: received, shared: shared.clone(), subscriptions: subscribe };
        tasks.spawn(task::run(state, ends, store, stop.clone()));
        if let Probing::Every(every) = config.probing {
            let (relays, shared) = (subscriptions.clone(), shared.clone());
            tasks.spawn(probe::follow(every, relays, shared, events.clone(), stop.clone()));
        }
        let dialer = Arc::new(Dialer::new(config.key, shared.clone()));
        tasks.spawn(feed::follow(dialer, subscriptions, shared.clone(), events.clone(), stop.clone()));
        if let Some(dir) = config.zone_keys {
            tasks.spawn(rollover::follow(dir, events.clone(), stop.clone()));
        }
        let server = Self {
            dns: bound.iter().map(Bound::address).collect(),
            dot: dot.as_ref().map(StreamListener::address),
            doh: doh.as_ref().map(StreamListener::address),
            admin: admin.as_ref().map(http::Bound::address),
            http: posting.as_ref().map(StreamListener::address),
            shared: shared.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        if let Some(metrics) = config.metrics.clone() {
            tasks.spawn(upkeep(metrics, stop.clone()));
        }
        if let Some(admin) = admin {
            let routes = http::admin::routes(shared.clone(), config.chain, config.metrics);
            tasks.spawn(admin.serve(routes, stop.clone()));
        }
        let responder = Arc::new(Responder::new(shared, config.rate));
        for bound in bound {
            bound.serve(&responder, &tasks, &stop);
        }
        for listener in [dot, doh, posting].into_iter().flatten() {
            listener.serve(&responder, &tasks, &stop);
        }
        tasks.close();
        Ok(server)
    }

    /// Where DNS is served.
    pub fn dns_addresses(&self) -> &[SocketAddr] {
        &self.dns
    }

    /// Where DNS over TLS is served.
    pub fn dot_address(&self) -> Option<SocketAddr> {
        self.dot
    }

    /// Where DNS over HTTPS is served.
    pub fn doh_address(&self) -> Option<SocketAddr> {
        self.doh
    }

    /// Where operators look.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Where clients POST.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// What is answered from now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.load_full()
    }

    /// Stops serving, saves presences and waits for every task.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// Keeps what is recorded between two scrapes small.
async fn upkeep(metrics: PrometheusHandle, stop: CancellationToken) {
    let mut tick = tokio::time::interval(UPKEEP);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => metrics.run_upkeep(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests;
