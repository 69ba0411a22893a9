//! The stellar-rpc interface: JSON-RPC 2.0 methods over one ledger, as the official server words them.
//!
//! Methods read a [`View`]; only `sendTransaction` changes anything. Parameters and replies are those of stellar-rpc 28.

pub(crate) mod answer;
mod entries;
mod events;
mod fees;
mod ledgers;
mod network;
mod send;
mod simulate;
mod transactions;
mod view;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::faults::Faults;
use crate::network::Network;
pub(crate) use answer::{Format, RpcError};
pub(crate) use events::contract_address;
pub(crate) use view::View;

/// Answers the body of one POST: a request, or a batch of them. `None`: there was nothing to answer.
pub(crate) async fn answer_body(network: &Arc<Network>, faults: &Faults, body: &[u8]) -> Option<Value> {
    match serde_json::from_slice(body) {
        Ok(Value::Array(requests)) if !requests.is_empty() => {
            let mut answers = Vec::new();
            for request in requests {
                answers.extend(answer_one(network, faults, request).await);
            }
            (!answers.is_empty()).then_some(Value::Array(answers))
        }
        Ok(request) => answer_one(network, faults, request).await,
        Err(error) => {
            Some(envelope(Value::Null, Err(RpcError::new(-32700, format!("invalid request value: {error}")))))
        }
    }
}

async fn answer_one(network: &Arc<Network>, faults: &Faults, request: Value) -> Option<Value> {
    let Value::Object(mut request) = request else {
        return Some(envelope(Value::Null, Err(RpcError::invalid_request("a request is a JSON object"))));
    };
    let id = request.remove("id");
    let answer = match (request.get("jsonrpc"), request.get("method")) {
        (Some(Value::String(version)), Some(Value::String(method))) if version == "2.0" => {
            let method = method.clone();
            let params = request.remove("params").unwrap_or(Value::Null);
            // A bug that one request meets must not take the answers of others with it.
            let answer = AssertUnwindSafe(call(network, faults, &method, params)).catch_unwind().await;
            answer.unwrap_or_else(|_| Err(RpcError::internal("this request met a bug: see the log")))
        }
        _ => Err(RpcError::invalid_request("a request has \"jsonrpc\": \"2.0\" and a method")),
    };
    id.map(|id| envelope(id, answer))
}

async fn call(
    network: &Arc<Network>,
    faults: &Faults,
    method: &str,
    params: Value,
) -> Result<Value, RpcError> {
    /// A method that only reads.
    macro_rules! read {
        ($function:path) => {{
            let params = parse(params)?;
            let faults = faults.clone();
            let passphrase = network.passphrase().to_owned();
            network
                .read(move |ledger, now| $function(&View::new(ledger, &faults, &passphrase, now), params))
                .await
        }};
    }
    if let Some(halted) = network.halted() {
        // What is in memory may be ahead of what is on disk: nobody shall rely on it.
        return Err(RpcError::internal(halted.to_string()));
    }
    match method {
        "getHealth" => read!(network::health),
        "getNetwork" => read!(network::network),
        "getVersionInfo" => read!(network::version),
        "getLatestLedger" => read!(network::latest_ledger),
        "getFeeStats" => read!(fees::stats),
        "getLedgerEntries" => read!(entries::ledger_entries),
        "getTransaction" => read!(transactions::transaction),
        "getTransactions" => read!(transactions::transactions),
        "getLedgers" => read!(ledgers::ledgers),
        "getEvents" => read!(events::events),
        "simulateTransaction" => read!(simulate::simulate),
        "sendTransaction" => send::send(network, faults, parse(params)?).await,
        _ => Err(RpcError::new(-32601, format!("no such method {method:?}"))),
    }
}

/// Parameters by name; none at all are the same as an empty object, and null is the same as not given.
fn parse<P: DeserializeOwned>(params: Value) -> Result<P, RpcError> {
    let mut params = match params {
        Value::Null => json!({}),
        Value::Array(values) if values.is_empty() => json!({}),
        other => other,
    };
    remove_nulls(&mut params);
    serde_json::from_value(params)
        .map_err(|error| RpcError::invalid_params(format!("invalid parameters: {error}")))
}

fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(values) => values.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

fn envelope(id: Value, answer: Result<Value, RpcError>) -> Value {
    match answer {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(RpcError { code, message }) => {
            json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
        }
    }
}
