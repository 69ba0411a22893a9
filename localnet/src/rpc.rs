//! The stellar-rpc interface: JSON-RPC 2.0 methods over one ledger, as the official server words them.
//!
//! Methods read a [`View`]; only `sendTransaction` changes anything. Parameters and replies are those of stellar-rpc 28.

pub(crate) mod answer;
mod entries;
mod events;
mod fees;
mod ledgers;
mod network;
mod params;
mod send;
mod simulate;
mod transactions;
mod view;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::appearance::Appearance;
use crate::network::Network;
pub(crate) use answer::{Format, RpcError};
pub(crate) use events::contract_address;
pub(crate) use view::View;

/// Answers the body of one POST: a request, or a batch of them. `None`: there was nothing to answer.
pub(crate) async fn answer_body(
    network: &Arc<Network>,
    appearance: &Appearance,
    body: &[u8],
) -> Option<Value> {
    match serde_json::from_slice(body) {
        Ok(Value::Array(requests)) if !requests.is_empty() => {
            let mut answers = Vec::new();
            for request in requests {
                answers.extend(answer_one(network, appearance, request).await);
            }
            (!answers.is_empty()).then_some(Value::Array(answers))
        }
        Ok(request) => answer_one(network, appearance, request).await,
        Err(error) => {
            Some(envelope(Value::Null, Err(RpcError::new(-32700, format!("invalid request value: {error}")))))
        }
    }
}

async fn answer_one(network: &Arc<Network>, appearance: &Appearance, request: Value) -> Option<Value> {
    let Value::Object(mut request) = request else {
        return Some(envelope(Value::Null, Err(RpcError::invalid_request("a request is a JSON object"))));
    };
    let id = request.remove("id");
    let answer = match (request.get("jsonrpc"), request.get("method")) {
        (Some(Value::String(version)), Some(Value::String(method))) if version == "2.0" => {
            let method = method.clone();
            let params = request.remove("params").unwrap_or(Value::Null);
            // A bug that one request meets must not take the answers of others with it.
            let answer = AssertUnwindSafe(call(network, appearance, &method, params)).catch_unwind().await;
            answer.unwrap_or_else(|_| Err(RpcError::internal("this request met a bug: see the log")))
        }
        _ => Err(RpcError::invalid_request("a request has \"jsonrpc\": \"2.0\" and a method")),
    };
    id.map(|id| envelope(id, answer))
}

async fn call(
    network: &Arc<Network>,
    appearance: &Appearance,
    method: &str,
    params: Value,
) -> Result<Value, RpcError> {
    if let Some(halted) = network.halted() {
        // What is in memory may be ahead of what is on disk: nobody shall rely on it.
        return Err(RpcError::internal(halted.to_string()));
    }
    match method {
        "getHealth" => read(network, appearance, params, network::health).await,
        "getNetwork" => read(network, appearance, params, network::network).await,
        "getVersionInfo" => read(network, appearance, params, network::version).await,
        "getLatestLedger" => read(network, appearance, params, network::latest_ledger).await,
        "getFeeStats" => read(network, appearance, params, fees::stats).await,
        "getLedgerEntries" => read(network, appearance, params, entries::ledger_entries).await,
        "getTransaction" => read(network, appearance, params, transactions::transaction).await,
        "getTransactions" => read(network, appearance, params, transactions::transactions).await,
        "getLedgers" => read(network, appearance, params, ledgers::ledgers).await,
        "getEvents" => read(network, appearance, params, events::events).await,
        "simulateTransaction" => read(network, appearance, params, simulate::simulate).await,
        "sendTransaction" => send::send(network, appearance, params::parse(params)?).await,
        _ => Err(RpcError::new(-32601, format!("no such method {method:?}"))),
    }
}

/// Answers a method that only reads.
async fn read<P: DeserializeOwned + Send + 'static>(
    network: &Arc<Network>,
    appearance: &Appearance,
    params: Value,
    method: fn(&View<'_>, P) -> Result<Value, RpcError>,
) -> Result<Value, RpcError> {
    let params = params::parse(params)?;
    let appearance = appearance.clone();
    network.read(move |ledger, now| method(&View { ledger, appearance: &appearance, now }, params)).await
}

fn envelope(id: Value, answer: Result<Value, RpcError>) -> Value {
    match answer {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(RpcError { code, message }) => {
            json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
        }
    }
}
