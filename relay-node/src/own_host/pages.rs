//! `/health` and `/info`: what anybody may know about a relay. Says nothing about visitors or clients.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use tunnler_chain::ChainHealth;
use tunnler_protocol::challenge::Statement;
use tunnler_protocol::{Address, HostName};

use super::Channel;
use crate::clock;
use crate::relay::Shared;

#[derive(Serialize)]
pub(super) struct Health {
    status: &'static str,
    sessions: usize,
    draining: bool,
    /// Newest ledger known, and its age in seconds.
    ledger: Option<u32>,
    ledger_age: Option<u64>,
    /// Whether the own host has a certificate of a CA.
    certificate: bool,
    /// How well the chain can be read: alarms, and whether a single endpoint is believed.
    chain: Option<ChainHealth>,
}

pub(super) async fn health(State(shared): State<Arc<Shared>>) -> Json<Health> {
    let ledger = shared.directory.borrow().as_ref().map(|directory| directory.ledger);
    let draining = shared.draining.is_cancelled();
    let chain = shared.chain.as_ref().map(|chain| chain.status().health(clock::seconds()));
    let alarmed = chain.as_ref().is_some_and(|chain| !chain.alarms.is_empty());
    Json(Health {
        status: if draining || alarmed || ledger.is_none() { "degraded" } else { "ok" },
        sessions: shared.sessions.count(),
        draining,
        ledger: ledger.map(|ledger| ledger.sequence),
        ledger_age: ledger.map(|ledger| clock::seconds().since(ledger.closed_at).as_secs()),
        certificate: shared.certificates.has_certificate(),
        chain,
    })
}

#[derive(Serialize)]
pub(super) struct Info {
    server_address: Address,
    domain: HostName,
    websocket_url: String,
    /// The same again as the exact text that is signed, bound to this TLS connection.
    signed: String,
    /// Over the statement `tunnler/v1/info`, base64url.
    signature: String,
}

#[derive(Serialize)]
struct Signed<'a> {
    server_address: Address,
    domain: &'a HostName,
    version: &'static str,
    protocols: [&'static str; 2],
    #[serde(flatten)]
    limits: tunnler_protocol::control::Limits,
}

pub(super) async fn info(
    State(shared): State<Arc<Shared>>,
    Extension(channel): Extension<Channel>,
) -> Json<Info> {
    let signed = Signed {
        server_address: shared.address,
        domain: &shared.own_host,
        version: env!("CARGO_PKG_VERSION"),
        protocols: [tunnler_protocol::control::SUBPROTOCOL, tunnler_protocol::feed::SUBPROTOCOL],
        limits: shared.announced(),
    };
    let signed = serde_json::to_string(&signed).expect("plain JSON");
    let statement = Statement::Info { relay: shared.address, text: &signed };
    let signature = URL_SAFE_NO_PAD.encode(statement.sign(&shared.key, &channel.exporter));
    let (port, path) = (shared.public_port, tunnler_protocol::control::CONNECT_PATH);
    Json(Info {
        server_address: shared.address,
        domain: shared.own_host.clone(),
        websocket_url: format!("wss://{}:{port}{path}", shared.own_host),
        signed,
        signature,
    })
}
