//! DNS over HTTPS (RFC 8484): for clients that check their own records where port 53 is intercepted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tunnler_protocol::Prefix;

use super::{Responder, network};

const MEDIA_TYPE: &str = "application/dns-message";
const MAX_QUERY: usize = 4096;
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
const MAX_STREAMS: u32 = 32;

#[derive(Clone)]
struct Asker {
    responder: Arc<Responder>,
    prefix: Prefix,
}

#[derive(Deserialize)]
struct Parameters {
    dns: String,
}

/// Serves one connection of `peer`: queries, and whatever else `beside` has.
pub(super) async fn converse<S>(stream: S, responder: Arc<Responder>, peer: SocketAddr, beside: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let routes = Router::new()
        .route("/dns-query", get(by_get).post(by_post))
        .layer(DefaultBodyLimit::max(MAX_QUERY))
        .with_state(Asker { responder, prefix: network(peer.ip()) })
        .merge(beside.layer(Extension(ConnectInfo(peer))));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS);
    let _ = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)).await;
}

async fn by_get(State(asker): State<Asker>, Query(parameters): Query<Parameters>) -> Response {
    match URL_SAFE_NO_PAD.decode(parameters.dns) {
        Ok(packet) if packet.len() <= MAX_QUERY => asker.answer(&packet),
        _ => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn by_post(State(asker): State<Asker>, headers: axum::http::HeaderMap, packet: Bytes) -> Response {
    match headers.get(header::CONTENT_TYPE) {
        Some(media_type) if media_type == MEDIA_TYPE => asker.answer(&packet),
        _ => StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response(),
    }
}

impl Asker {
    fn answer(&self, packet: &[u8]) -> Response {
        match self.responder.stream(packet, self.prefix) {
            // No cache in between may hold an answer longer than the records in it live.
            Some(answer) => {
                ([(header::CONTENT_TYPE, MEDIA_TYPE), (header::CACHE_CONTROL, "no-store")], answer)
                    .into_response()
            }
            None => StatusCode::BAD_REQUEST.into_response(),
        }
    }
}
