//! The HTTP reverse proxy: one visitor's connection in, requests to the service's upstream out.
//!
//! HTTP/1.1 and HTTP/2 in, HTTP/1.1 out. Bodies stream both ways with back-pressure and are never collected. Every
//! request is parsed, checked and written anew, so the upstream sees exactly the requests that were understood here.
//! An abnormal end on one side is an abnormal end on the other, never a clean one.

mod access;
mod body;
mod document;
mod files;
mod headers;
mod rates;
mod refusal;
mod request;
mod rules;
mod site;
mod stall;
mod upgrade;
pub(crate) mod upstream;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tunnler_protocol::HostName;

pub use access::{Access, Credentials, CredentialsError, Preflight, Proof, Provider, Webhook, WebhookError};
pub use body::ResponseBody;
pub use document::Document;
pub use files::{Files, Listing};
pub use rates::{Rate, Rates};
pub use rules::{Edits, Untouchable};
pub use site::{Backend, Fixed, FullUrl, Http2Sockets, PathRule, Route, Rules, Site};
pub use upstream::{Checks, HostHeader, Pool, Target, TargetError, Timeouts, Upstream, UpstreamTls};

use crate::tls::Protocol;
use refusal::{Refusal, Wants};
use request::{Checked, Wish};
use stall::Stall;

/// Most bytes of one request's head.
const MAX_HEAD: usize = 64 * 1024;
/// How long a visitor may take for one request head, and may idle between two.
const HEAD_DEADLINE: Duration = Duration::from_secs(20);
/// Most requests open at once in one HTTP/2 connection.
const MAX_H2_STREAMS: u32 = 100;
/// An HTTP/2 visitor without a request for this long is sent away.
const H2_IDLE: Duration = Duration::from_secs(60);
/// A visitor that reads nothing of what it is sent for this long is sent away.
const READER_STALL: Duration = Duration::from_secs(60);

/// Who is asking, as far as the connection tells.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// Its address, as the relay claims it.
    pub address: SocketAddr,
    /// The host it named in TLS.
    pub host: HostName,
    /// What it speaks.
    pub protocol: Protocol,
}

/// A visitor's connection that did not end cleanly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// HTTP could not be spoken on, or the connection broke.
    #[error("visitor connection: {0}")]
    Http(#[from] hyper::Error),
}

/// Serves one visitor's connection until it ends. When `stop` is cancelled, requests in progress are finished and no
/// new ones taken.
pub async fn serve<S>(
    stream: S,
    visitor: Visitor,
    site: Arc<Site>,
    stop: CancellationToken,
) -> Result<(), ServeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let protocol = visitor.protocol;
    let spliced = TaskTracker::new();
    let connection =
        Arc::new(Connection { visitor, site, spliced: spliced.clone(), open: AtomicUsize::new(0) });
    let io = TokioIo::new(Stall::new(stream, READER_STALL));
    let served = match protocol {
        Protocol::Http1 => serve_http1(io, connection, &stop).await,
        Protocol::Http2 => serve_http2(io, connection, &stop).await,
    };
    // Upgraded connections live on in their own task; it ends with either side.
    spliced.close();
    tokio::select! {
        () = spliced.wait() => {}
        () = stop.cancelled() => {}
    }
    Ok(served?)
}

async fn serve_http1<I>(io: I, connection: Arc<Connection>, stop: &CancellationToken) -> hyper::Result<()>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(connection.clone(), request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD)
        .max_header_size(MAX_HEAD)
        .serve_connection(io, service)
        .with_upgrades();
    tokio::pin!(served);
    tokio::select! {
        done = &mut served => return done,
        () = stop.cancelled() => served.as_mut().graceful_shutdown(),
    }
    served.await
}

async fn serve_http2<I>(io: I, connection: Arc<Connection>, stop: &CancellationToken) -> hyper::Result<()>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let watched = connection.clone();
    let service = service_fn(move |request| answer(connection.clone(), request));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    if watched.site.offers_http2_sockets() {
        builder.enable_connect_protocol();
    }
    let served = builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_H2_STREAMS)
        .max_header_list_size(MAX_HEAD as u32)
        .max_send_buf_size(256 * 1024)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .keep_alive_interval(HEAD_DEADLINE)
        .keep_alive_timeout(HEAD_DEADLINE)
        .serve_connection(io, service);
    tokio::pin!(served);
    tokio::select! {
        done = &mut served => return done,
        () = stop.cancelled() => {}
        () = watched.idle() => {}
    }
    served.as_mut().graceful_shutdown();
    served.await
}

/// What all requests of one visitor's connection share.
struct Connection {
    visitor: Visitor,
    site: Arc<Site>,
    spliced: TaskTracker,
    open: AtomicUsize,
}

impl Connection {
    /// Ends once no request has been open for [`H2_IDLE`].
    async fn idle(&self) {
        let step = H2_IDLE / 4;
        let mut quiet = 0;
        while quiet < 4 {
            tokio::time::sleep(step).await;
            quiet = if self.open.load(Ordering::Relaxed) == 0 { quiet + 1 } else { 0 };
        }
    }
}

/// Counts a request as open until its answer's body, or the WebSocket it became, is gone.
pub(crate) struct OpenRequest(Arc<Connection>);

impl OpenRequest {
    fn new(connection: Arc<Connection>) -> Self {
        connection.open.fetch_add(1, Ordering::Relaxed);
        Self(connection)
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn answer(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let open = OpenRequest::new(connection.clone());
    let wants = Wants::of(request.headers());
    let http1 = request.version() <= Version::HTTP_11;
    let answered = route(&connection, request).await;
    let mut response = answered.unwrap_or_else(|refusal| {
        tracing::debug!(visitor = %connection.visitor.address, host = %connection.visitor.host, %refusal, "refused");
        refusal.into_response(wants, http1)
    });
    connection.site.finish(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    Ok(response.map(|body| body.holding(open)))
}

async fn route(
    connection: &Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Refusal> {
    let Connection { visitor, site, spliced, .. } = &**connection;
    let open = || OpenRequest::new(connection.clone());
    let mut checked = Checked::new(request, visitor)?;
    let backend = site.admit(&mut checked, visitor).await?;
    match (backend, checked.wish) {
        (Backend::Upstream(upstream), Wish::Answer) => upstream.pass(checked).await,
        (Backend::Pool(pool), Wish::Answer) => pool.pass(checked).await,
        (Backend::Upstream(upstream), _) => upgrade::pass(checked, upstream, spliced, open()).await,
        (Backend::Pool(pool), _) => upgrade::pass(checked, pool.choose(), spliced, open()).await,
        (Backend::Document(document), _) => document.answer(&checked, visitor).await,
        (Backend::Files(files), _) => files.answer(&checked).await,
        (Backend::Fixed(fixed), _) => Ok(fixed.answer(checked.method())),
    }
}
