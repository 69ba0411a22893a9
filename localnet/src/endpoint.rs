//! One HTTP endpoint of a network: JSON-RPC on any path, `/friendbot`, `/control`.
//!
//! A network can have several endpoints, each with faults of its own: the same ledger seen through servers that
//! disagree.

mod control;
mod friendbot;

use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::appearance::{Appearance, Frozen};
use crate::faults::FaultSwitches;
use crate::ledger::Ledger;
use crate::network::Network;
use crate::rpc;

/// Longest request: a transaction of the largest size in base64, with room.
const MAX_REQUEST: usize = 512 * 1024;

/// An endpoint that is being served.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    network: Arc<Network>,
    appearance: RwLock<Appearance>,
}

impl Endpoint {
    /// Serves a network on a listener until `stop` says so.
    pub(crate) fn serve(
        network: Arc<Network>,
        listener: TcpListener,
        address: SocketAddr,
        mut stop: watch::Receiver<bool>,
    ) -> Self {
        let appearance = Appearance::new(network.passphrase(), format!("http://{address}/friendbot"));
        let shared = Arc::new(Shared { network, appearance: RwLock::new(appearance) });
        let router = router(shared.clone());
        let task = tokio::spawn(async move {
            let stopped = async move {
                // An error means that the owner is gone, which is as good a reason to stop.
                let _ = stop.wait_for(|stop| *stop).await;
            };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
                tracing::error!(%error, %address, "endpoint ended");
            }
        });
        Self { address, shared, task }
    }

    /// Switches faults on and off: those not named are off.
    pub(crate) async fn set_faults(&self, switches: FaultSwitches) {
        self.shared.switch(switches).await;
    }

    /// Ends the endpoint: what is still being answered after a stop is cut off.
    pub(crate) async fn end(self) {
        let Self { mut task, .. } = self;
        if tokio::time::timeout(std::time::Duration::from_millis(500), &mut task).await.is_err() {
            task.abort();
        }
    }
}

impl Shared {
    fn appearance(&self) -> Appearance {
        self.appearance.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    async fn switch(&self, faults: FaultSwitches) {
        let frozen = match (faults.stale, self.appearance().frozen) {
            (false, _) => None,
            (true, Some(frozen)) => Some(frozen),
            (true, None) => {
                let freeze = |ledger: &Ledger, _| Frozen {
                    ledger: ledger.last().header.ledger_seq,
                    state: ledger.shared_state(),
                };
                Some(self.network.read(freeze).await)
            }
        };
        let mut appearance = self.appearance.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        *appearance = appearance.with_faults(faults, frozen);
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let faulty = Router::new()
        .route("/friendbot", get(friendbot::by_query).post(friendbot::by_form))
        .fallback(json_rpc)
        .layer(middleware::from_fn(allow_browsers))
        .layer(middleware::from_fn_with_state(shared.clone(), misbehave));
    Router::new()
        .route("/control", get(control::status))
        .route("/control/advance", post(control::advance))
        .route("/control/closing", post(control::closing))
        .route(
            "/control/faults",
            get(control::faults).post(control::set_faults).delete(control::clear_faults),
        )
        .merge(faulty)
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(shared)
}

/// Does what the endpoint's faults say instead of, or before, answering.
async fn misbehave(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let appearance = shared.appearance();
    if !appearance.delay().is_zero() {
        tokio::time::sleep(appearance.delay()).await;
    }
    if appearance.faults.down {
        return broken_connection();
    }
    if let Some(status) = appearance.faults.http_status {
        let status = StatusCode::from_u16(status.get()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return (status, status.canonical_reason().unwrap_or("error")).into_response();
    }
    if appearance.faults.garbage {
        return "<html><body>It works!</body></html>\0".into_response();
    }
    next.run(request).await
}

/// Lets pages of any origin ask, as the public servers do: development happens in browsers too.
async fn allow_browsers(request: Request, next: Next) -> Response {
    let asks_first = request.method() == Method::OPTIONS;
    let mut response =
        if asks_first { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if asks_first {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"));
    }
    response
}

/// A response that promises a body and breaks off: for the client the connection is lost.
fn broken_connection() -> Response {
    let broken: Result<Bytes, std::io::Error> = Err(std::io::ErrorKind::ConnectionReset.into());
    let body = Body::from_stream(futures::stream::once(std::future::ready(broken)));
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("1000000"));
    response
}

async fn json_rpc(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if request.method() != Method::POST {
        let hint = "tunnler-localnet, a development network. JSON-RPC: POST. Funds: GET /friendbot?addr=G…\n";
        return (StatusCode::METHOD_NOT_ALLOWED, hint).into_response();
    }
    let body = match axum::body::to_bytes(request.into_body(), MAX_REQUEST).await {
        Ok(body) => body,
        Err(_) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
    };
    match rpc::answer_body(&shared.network, &shared.appearance(), &body).await {
        Some(answer) => axum::Json(answer).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}
