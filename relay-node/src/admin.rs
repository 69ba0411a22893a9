//! What the operator looks at, on a listener of its own: `/live`, `/ready`, `/metrics`, `/sessions`. Not for the public.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use crate::relay::{Observer, SessionSummary};

/// What the routes answer from.
#[derive(Clone)]
pub struct Desk {
    /// The relay.
    pub relay: Observer,
    /// Set while the relay takes sessions and visitors.
    pub ready: Arc<AtomicBool>,
    /// Renders metrics.
    pub metrics: Option<PrometheusHandle>,
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, desk: Desk) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(render))
        .route("/sessions", get(sessions))
        .with_state(desk);
    axum::serve(listener, routes).await
}

async fn ready(State(desk): State<Desk>) -> Response {
    if desk.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

async fn render(State(desk): State<Desk>) -> Response {
    match &desk.metrics {
        Some(metrics) => {
            metrics::gauge!("tunnler_sessions").set(desk.relay.session_count() as f64);
            metrics::gauge!("tunnler_unread_bytes").set(desk.relay.unread_bytes() as f64);
            metrics::gauge!("tunnler_certificate").set(f64::from(u8::from(desk.relay.has_certificate())));
            if let Some(age) = desk.relay.certificate_age() {
                metrics::gauge!("tunnler_certificate_age_seconds").set(age.as_secs_f64());
            }
            if let Some(age) = desk.relay.ledger_age() {
                metrics::gauge!("tunnler_ledger_age_seconds").set(age.as_secs_f64());
            }
            metrics.render().into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn sessions(State(desk): State<Desk>) -> Json<Vec<SessionSummary>> {
    Json(desk.relay.sessions())
}
