//! `POST /v1/presence`: a client's own way to the zone's servers, so that a relay that withholds blocks nothing
//! (DESIGN §7). The body is the compact JWS, nothing else counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;
use tokio::sync::mpsc;
use tunnler_protocol::merge::Source;
use tunnler_protocol::presence::{MAX_LEN, UnverifiedPresence};

use crate::clock;
use crate::serve::limit::{Rate, RateLimit, Verdict};
use crate::serve::network;
use crate::state::Event;
use crate::state::task::Shared;

/// POSTs per second and network: each may cost a signature check.
const RATE: Rate = Rate::PerSecond(20);

#[derive(Clone)]
struct Desk {
    shared: Shared,
    events: mpsc::Sender<Event>,
    limit: Arc<RateLimit>,
}

/// The route.
pub fn routes(shared: Shared, events: mpsc::Sender<Event>) -> Router {
    let limit = Arc::new(RateLimit::new(RATE, Instant::now()));
    Router::new().route("/v1/presence", post(take)).layer(DefaultBodyLimit::max(MAX_LEN)).with_state(Desk {
        shared,
        events,
        limit,
    })
}

async fn take(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    text: String,
) -> Response {
    if desk.limit.count(network(peer.ip()), Instant::now()) != Verdict::Answer {
        return problem(
            StatusCode::TOO_MANY_REQUESTS,
            "too many presences from this network; try again in a second",
        );
    }
    let unverified = match UnverifiedPresence::parse(text.trim(), clock::unix_now()) {
        Ok(unverified) => unverified,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let accepted = json!({ "ins": unverified.claims().ins, "seq": unverified.claims().seq });
    if desk.shared.load().knows(unverified.claims(), text.trim()) {
        return (StatusCode::OK, Json(accepted)).into_response();
    }
    let presence = match unverified.verify() {
        Ok(presence) => Arc::new(presence),
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match desk.events.try_send(Event::Presence(presence, Source::Posted)) {
        Ok(()) => (StatusCode::ACCEPTED, Json(accepted)).into_response(),
        Err(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "busy; try again in a second"),
    }
}

fn problem(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}
