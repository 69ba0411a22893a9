//! The HTTP reverse proxy: one visitor's connection in, requests to the service's upstream out.
//!
//! HTTP/1.1 and HTTP/2 in and out. Bodies stream both ways with back-pressure and are never collected. Every
//! request is parsed, checked and written anew, so the upstream sees exactly the requests that were understood here.
//! An abnormal end on one side is an abnormal end on the other, never a clean one.

mod access;
mod body;
mod document;
mod files;
mod headers;
mod hints;
mod http2;
mod open;
mod rates;
mod refusal;
mod request;
mod rules;
mod site;
mod stall;
mod tunnel;
mod upgrade;
pub(crate) mod upstream;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, Version};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
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
use body::Inbound;
use hints::Hints;
use open::Open;
use refusal::{Refusal, Wants};
use request::{Checked, Wish};
use stall::Stall;

/// Most bytes of one request's head.
const MAX_HEAD: usize = 64 * 1024;
/// How long a visitor may take for one request head, and may idle between two.
const HEAD_DEADLINE: Duration = Duration::from_secs(20);
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
    /// HTTP/1.1 could not be spoken on, or the connection broke.
    #[error("visitor connection: {0}")]
    Http1(#[from] hyper::Error),
    /// HTTP/2 could not be spoken on, or the connection broke.
    #[error("visitor connection: {0}")]
    Http2(#[from] h2::Error),
    /// Nothing is heard of the visitor any more.
    #[error("visitor connection: nobody is there")]
    Silent,
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
    let connection = Arc::new(Connection { visitor, site, spliced: spliced.clone(), open: Arc::default() });
    let io = Stall::new(stream, READER_STALL);
    let served = match protocol {
        Protocol::Http1 => serve_http1(TokioIo::new(io), connection, &stop).await.map_err(ServeError::from),
        Protocol::Http2 => http2::serve(io, connection, &stop).await,
    };
    // Upgraded connections live on in their own task; it ends with either side.
    spliced.close();
    tokio::select! {
        () = spliced.wait() => {}
        () = stop.cancelled() => {}
    }
    served
}

async fn serve_http1<I>(io: I, connection: Arc<Connection>, stop: &CancellationToken) -> hyper::Result<()>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<_>| {
        let answering = answer(connection.clone(), request.map(Inbound::Http1), Hints::unwanted());
        async move { Ok::<_, Infallible>(answering.await) }
    });
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

/// What all requests of one visitor's connection share.
struct Connection {
    visitor: Visitor,
    site: Arc<Site>,
    spliced: TaskTracker,
    open: Arc<Open>,
}

async fn answer(
    connection: Arc<Connection>,
    request: Request<Inbound>,
    hints: Hints,
) -> Response<ResponseBody> {
    let open = connection.open.hold();
    let wants = Wants::of(request.headers());
    let http1 = request.version() <= Version::HTTP_11;
    let answered = route(&connection, request, hints).await;
    let mut response = answered.unwrap_or_else(|refusal| {
        tracing::debug!(visitor = %connection.visitor.address, host = %connection.visitor.host, %refusal, "refused");
        refusal.into_response(wants, http1)
    });
    connection.site.finish(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    response.map(|body| body.holding(open))
}

async fn route(
    connection: &Connection,
    request: Request<Inbound>,
    hints: Hints,
) -> Result<Response<ResponseBody>, Refusal> {
    let Connection { visitor, site, spliced, open } = connection;
    let mut checked = Checked::new(request, hints, visitor)?;
    let backend = site.admit(&mut checked, visitor).await?;
    match (backend, checked.wish) {
        (Backend::Upstream(upstream), Wish::Answer) => upstream.pass(checked).await,
        (Backend::Pool(pool), Wish::Answer) => pool.pass(checked).await,
        (Backend::Upstream(upstream), _) => upgrade::pass(checked, upstream, spliced, open.hold()).await,
        (Backend::Pool(pool), _) => upgrade::pass(checked, pool.choose(), spliced, open.hold()).await,
        (Backend::Document(document), _) => document.answer(&checked, visitor).await,
        (Backend::Files(files), _) => files.answer(&checked).await,
        (Backend::Fixed(fixed), _) => Ok(fixed.answer(checked.method())),
    }
}
