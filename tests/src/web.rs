//! The web server that is published: a page, a big file, uploads, cookies and a WebSocket echo.

use std::net::SocketAddr;

use anyhow::Result;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, Html, IntoResponse, Response};
use axum::routing::{get, put};
use futures::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// A phrase of the page that no relay may ever see.
pub const SECRET_PHRASE: &str = "only the visitor and the publisher can read this sentence";
/// Size of the big file in bytes.
pub const BIG_FILE: usize = 50 * 1024 * 1024;

/// A running web server; it ends with this value.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Web {
    /// Starts the server on 127.0.0.1.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let app = Router::new()
            .route("/", get(page))
            .route("/file", get(|| async { big_file() }))
            .route("/upload", put(upload))
            .route("/cookies", get(cookies))
            .route("/headers", get(headers))
            .route("/echo", get(echo))
            .layer(DefaultBodyLimit::max(4 * BIG_FILE));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::error!(%error, "the web server ended");
            }
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The contents of the big file: pseudo-random, so that nothing on the way can compress or guess it.
pub fn big_file() -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(BIG_FILE);
    while bytes.len() < BIG_FILE {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.into()
}

/// SHA-256 in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn page() -> Html<String> {
    Html(format!("<!doctype html><title>My node</title><h1>It works</h1><p>{SECRET_PHRASE}</p>"))
}

async fn upload(body: Body) -> Result<String, StatusCode> {
    let mut hash = Sha256::new();
    let mut body = body.into_data_stream();
    while let Some(chunk) = body.next().await {
        hash.update(chunk.map_err(|_| StatusCode::BAD_REQUEST)?);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

async fn cookies() -> impl IntoResponse {
    (AppendHeaders([(header::SET_COOKIE, "a=1; Path=/"), (header::SET_COOKIE, "b=2; Path=/")]), "two cookies")
}

async fn headers(headers: HeaderMap) -> String {
    headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
        .collect()
}

/// WebSocket echo, upgraded by hand: axum's own support pins another tungstenite.
async fn echo(request: Request) -> Response {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return (StatusCode::UPGRADE_REQUIRED, "WebSocket only").into_response();
    };
    let accept = derive_accept_key(key.as_bytes());
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            let answer = message.is_text() || message.is_binary();
            if answer && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .body(Body::empty())
        .expect("fixed headers")
}
