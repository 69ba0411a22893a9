//! `/control`: time, the way ledgers close, and faults. Faults never touch these paths.
//!
//! ```text
//! GET    /control          {"passphrase", "latestLedger", "nativeContract", "pending"}
//! POST   /control/advance  {"ledgers": 10, "seconds": 0}     close ledgers; move the clock ahead first
//! POST   /control/closing  {"mode": "on-send" | "interval"}
//! GET    /control/faults   the switches of this endpoint
//! POST   /control/faults   {"slow_ms": 500, …}               those not named are off
//! DELETE /control/faults   all off
//! ```

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use stellar_xdr::ContractId;

use super::Shared;
use crate::faults::FaultSwitches;
use crate::network::Closing;
use crate::rpc;

/// Ledgers that one request may close: more than a new persistent entry lives.
const MAX_ADVANCE: u32 = 200_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Advance {
    #[serde(default = "one")]
    ledgers: u32,
    #[serde(default)]
    seconds: u64,
}

fn one() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClosingParams {
    mode: Mode,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    OnSend,
    Interval,
}

type Reply = Result<Json<Value>, (StatusCode, String)>;

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let passphrase = shared.network.passphrase().to_owned();
    let reply = shared
        .network
        .read(move |ledger, _| {
            json!({
                "passphrase": passphrase,
                "latestLedger": ledger.last().header.ledger_seq,
                "nativeContract": rpc::contract_address(&ContractId(ledger.native_contract().clone())),
                "pending": ledger.has_pending(),
            })
        })
        .await;
    Json(reply)
}

pub(super) async fn advance(State(shared): State<Arc<Shared>>, Json(params): Json<Advance>) -> Reply {
    if params.ledgers > MAX_ADVANCE {
        return Err((StatusCode::BAD_REQUEST, format!("at most {MAX_ADVANCE} ledgers at once\n")));
    }
    shared.network.move_clock(params.seconds);
    match shared.network.advance(params.ledgers).await {
        Ok(latest) => Ok(Json(json!({ "latestLedger": latest }))),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))),
    }
}

pub(super) async fn closing(
    State(shared): State<Arc<Shared>>,
    Json(params): Json<ClosingParams>,
) -> StatusCode {
    shared.network.set_closing(match params.mode {
        Mode::OnSend => Closing::OnSend,
        Mode::Interval => Closing::Interval,
    });
    StatusCode::NO_CONTENT
}

pub(super) async fn faults(State(shared): State<Arc<Shared>>) -> Json<FaultSwitches> {
    Json((*shared.appearance().faults).clone())
}

pub(super) async fn set_faults(
    State(shared): State<Arc<Shared>>,
    Json(switches): Json<FaultSwitches>,
) -> Json<FaultSwitches> {
    shared.switch(switches.clone()).await;
    Json(switches)
}

pub(super) async fn clear_faults(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.switch(FaultSwitches::default()).await;
    StatusCode::NO_CONTENT
}
