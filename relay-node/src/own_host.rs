//! The relay's own host: ends TLS 1.3 and serves `/connect`, the feed, `/health` and `/info` over HTTP/1.1.

mod bearer;
mod pages;
mod upgrade;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;
use tunnler_protocol::challenge::Exporter;
use tunnler_protocol::{control, feed as feed_messages};
use tunnler_transport::tls;

use crate::ingress::Newcomer;
use crate::ingress::hello::Replayed;
use crate::relay::Shared;
use crate::{feed, session};
use upgrade::Upgraded;

/// How long TLS and each request's header may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// ALPN of TLS-ALPN-01 validation (RFC 8737, section 6.2).
pub const ACME_ALPN: &[u8] = b"acme-tls/1";

/// One TLS connection to the own host.
#[derive(Clone)]
struct Channel {
    exporter: Exporter,
    peer: SocketAddr,
    /// The connection's place among the unauthenticated; whoever serves it longer gives it back.
    newcomer: Arc<Mutex<Option<Newcomer>>>,
}

/// Serves one connection.
pub async fn serve(shared: Arc<Shared>, io: Replayed, peer: SocketAddr, newcomer: Newcomer) {
    let Ok(Ok(stream)) = timeout(PATIENCE, shared.tls.accept(io)).await else { return };
    let connection = stream.get_ref().1;
    if connection.alpn_protocol() == Some(ACME_ALPN) {
        // The handshake was all that the CA wanted.
        return;
    }
    let Ok(exporter) = tls::exporter(connection) else { return };
    let newcomer = Arc::new(Mutex::new(Some(newcomer)));
    let channel = Channel { exporter, peer, newcomer };
    let router = router(shared);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(channel.clone());
        router.clone().oneshot(request.map(Body::new))
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "a connection to the own host failed");
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route(control::CONNECT_PATH, get(connect))
        .route(feed_messages::PATH, get(read_feed))
        .route("/health", get(pages::health))
        .route("/info", get(pages::info))
        .with_state(shared)
}

async fn connect(
    State(shared): State<Arc<Shared>>,
    Extension(channel): Extension<Channel>,
    request: Request,
) -> Response {
    if shared.gate.is_shut_to(channel.peer.ip()) {
        return upgrade::refuse(
            http::StatusCode::TOO_MANY_REQUESTS,
            "too many failed logins from your network",
        );
    }
    let bearer = match bearer::login(&request, shared.limits.bearer) {
        Ok(bearer) => bearer,
        Err((status, text)) => return upgrade::refuse(status, text),
    };
    let (response, upgrade) = match upgrade::websocket(request, control::SUBPROTOCOL) {
        Ok(accepted) => accepted,
        Err(refused) => return *refused,
    };
    let Some(newcomer) = channel.take_newcomer() else {
        return upgrade::refuse(http::StatusCode::CONFLICT, "this connection was upgraded before");
    };
    shared.tasks.clone().spawn(async move {
        if let Some(Upgraded { io, read_ahead }) = upgrade.complete::<TlsStream<Replayed>>().await {
            session::serve(shared, (io, read_ahead), channel.exporter, channel.peer, newcomer, bearer).await;
        }
    });
    response
}

async fn read_feed(
    State(shared): State<Arc<Shared>>,
    Extension(channel): Extension<Channel>,
    request: Request,
) -> Response {
    let (response, upgrade) = match upgrade::websocket(request, feed_messages::SUBPROTOCOL) {
        Ok(accepted) => accepted,
        Err(refused) => return *refused,
    };
    let Some(newcomer) = channel.take_newcomer() else {
        return upgrade::refuse(http::StatusCode::CONFLICT, "this connection was upgraded before");
    };
    shared.tasks.clone().spawn(async move {
        if let Some(Upgraded { io, read_ahead }) = upgrade.complete::<TlsStream<Replayed>>().await {
            feed::serve(shared, io, read_ahead, channel.exporter, newcomer).await;
        }
    });
    response
}

impl Channel {
    fn take_newcomer(&self) -> Option<Newcomer> {
        self.newcomer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
