//! What operators look at: `/live`, `/ready`, `/health`, `/metrics`, `/explain/NAME`. Not for the public.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hickory_proto::rr::Name;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tunnler_chain::ChainHandle;
use tunnler_protocol::live::Hearing;

use crate::answer::explain;
use crate::clock;
use crate::snapshot::{Footing, Snapshot};
use crate::state::task::Shared;

/// How far the clock may be off the ledger's, in seconds.
const CLOCK_TOLERANCE: i64 = 30;

#[derive(Clone)]
struct Desk {
    shared: Shared,
    chain: Option<ChainHandle>,
    metrics: Option<PrometheusHandle>,
}

/// All routes of the admin listener.
pub fn routes(shared: Shared, chain: Option<ChainHandle>, metrics: Option<PrometheusHandle>) -> Router {
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/health", get(health))
        .route("/metrics", get(render))
        .route("/explain/{name}", get(explain_name))
        .with_state(Desk { shared, chain, metrics })
}

async fn ready(State(desk): State<Desk>) -> Response {
    match unready(&desk.shared.load()) {
        None => (StatusCode::OK, "ready\n").into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn health(State(desk): State<Desk>) -> Json<Value> {
    let snapshot = desk.shared.load();
    let heard = |hearing| snapshot.hearings().values().filter(|h| **h == hearing).count();
    Json(json!({
        "ready": unready(&snapshot).is_none(),
        "problem": unready(&snapshot),
        "ledger": snapshot.zone.as_ref().map(|zone| zone.directory.ledger),
        "ledger_age": snapshot.age(clock::unix_now()).map(|age| age.as_secs()),
        "names": snapshot.zone.as_ref().map(|zone| zone.directory.names.len()),
        "clients": snapshot.clients(),
        "chain": desk.chain.as_ref().map(|chain| chain.status().health(clock::unix_now().seconds())),
        "feeds": {
            "complete": heard(Hearing::Complete),
            "partial": heard(Hearing::Partial),
            "silent": heard(Hearing::Silent),
        },
    }))
}

async fn render(State(desk): State<Desk>) -> Response {
    let snapshot = desk.shared.load();
    let heard = snapshot.hearings().values().filter(|hearing| **hearing != Hearing::Silent).count();
    metrics::gauge!("tunnler_dns_feeds_heard").set(heard as f64);
    metrics::gauge!("tunnler_dns_clients").set(snapshot.clients() as f64);
    if let Some(age) = snapshot.age(clock::unix_now()) {
        metrics::gauge!("tunnler_dns_ledger_age_seconds").set(age.as_secs_f64());
    }
    match desk.metrics {
        Some(handle) => handle.render().into_response(),
        None => (StatusCode::NOT_FOUND, "metrics are not recorded\n").into_response(),
    }
}

async fn explain_name(State(desk): State<Desk>, Path(name): Path<String>) -> Response {
    let Ok(mut name) = Name::from_ascii(&name) else {
        return (StatusCode::BAD_REQUEST, "not a DNS name\n").into_response();
    };
    let snapshot = desk.shared.load();
    // A bare label is meant as one of the zone's.
    if let Some(zone) = snapshot.zone.as_deref().filter(|_| name.num_labels() == 1)
        && let Ok(whole) = name.clone().append_domain(&zone.origin)
    {
        name = whole;
    }
    name.set_fqdn(true);
    match explain(&name, &snapshot, clock::unix_now()) {
        Some(explanation) => Json(explanation).into_response(),
        None => (StatusCode::NOT_FOUND, "not in this zone: queries for it are REFUSED\n").into_response(),
    }
}

/// Why this server should not be asked yet. It answers all the same, from what it knows.
fn unready(snapshot: &Snapshot) -> Option<String> {
    if snapshot.zone.is_none() {
        return Some("the chain has not been read yet".into());
    }
    if snapshot.footing != Footing::Synced {
        return Some("waiting for the relays' feeds".into());
    }
    match snapshot.age(clock::unix_now()) {
        Some(age) if age > snapshot.terms.staleness => {
            return Some("the chain's last word is older than the staleness bound".into());
        }
        _ => {}
    }
    match snapshot.clock_lead {
        lead if lead < -CLOCK_TOLERANCE => {
            Some(format!("this host's clock is {} s behind the ledger's", -lead))
        }
        lead if lead > CLOCK_TOLERANCE => {
            Some(format!("this host's clock is ahead, or its RPC servers behind, by {lead} s"))
        }
        _ => None,
    }
}
