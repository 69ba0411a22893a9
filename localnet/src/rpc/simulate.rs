//! `simulateTransaction`. A simulation that fails is a reply with an error in it, not an error of the interface.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use soroban_simulation::simulation::LedgerEntryDiff;
use stellar_xdr::TransactionEnvelope;

use super::{Format, RpcError, View, params};
use crate::soroban::simulate::{AuthMode, Options, Simulated};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Params {
    transaction: String,
    #[serde(default)]
    auth_mode: Option<String>,
    #[serde(default)]
    resource_config: Option<ResourceConfig>,
    #[serde(default)]
    use_upgraded_auth: bool,
    #[serde(default)]
    xdr_format: Format,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceConfig {
    #[serde(default)]
    instruction_leeway: u64,
}

pub(super) fn simulate(view: &View<'_>, request: Params) -> Result<Value, RpcError> {
    let simulated = match (params::xdr::<TransactionEnvelope>(&request.transaction), auth_mode(&request)) {
        (Err(_), _) => Simulated::failed("Could not unmarshal transaction"),
        (_, Err(error)) => Simulated::failed(error),
        (Ok(envelope), Ok(auth_mode)) => {
            let leeway = request.resource_config.map_or(0, |config| config.instruction_leeway);
            let options = Options {
                auth_mode,
                upgraded_auth: request.use_upgraded_auth,
                instruction_leeway: u32::try_from(leeway).unwrap_or(u32::MAX),
            };
            let last = &view.latest().header;
            view.ledger.simulate(envelope, options, &view.shared_state(), last, view.now)
        }
    };
    Ok(reply(simulated, view.latest().sequence(), request.xdr_format))
}

fn auth_mode(request: &Params) -> Result<Option<AuthMode>, &'static str> {
    match request.auth_mode.as_deref() {
        None | Some("") => Ok(None),
        Some("enforce") => Ok(Some(AuthMode::Enforce)),
        Some("record") => Ok(Some(AuthMode::Record)),
        Some("record_allow_nonroot") => Ok(Some(AuthMode::RecordAllowNonRoot)),
        Some(_) => {
            Err("optional 'authMode' must be one of enforce,record,record_allow_nonroot when included")
        }
    }
}

fn reply(simulated: Simulated, latest: u32, format: Format) -> Value {
    let mut reply = Map::new();
    reply.insert("latestLedger".into(), json!(latest));
    if !simulated.events.is_empty() {
        let name = if format == Format::Json { "eventsJson" } else { "events" };
        reply.insert(name.into(), format.values(&simulated.events));
    }
    if let Some(error) = simulated.error {
        reply.insert("error".into(), json!(error));
        return Value::Object(reply);
    }
    if let Some(data) = &simulated.data {
        let name = if format == Format::Json { "transactionDataJson" } else { "transactionData" };
        reply.insert(name.into(), format.value(data));
        reply.insert("minResourceFee".into(), json!(data.resource_fee.to_string()));
    }
    if let Some((value, auth)) = &simulated.result {
        let result = match format {
            Format::Base64 => json!({ "auth": format.values(auth), "xdr": format.value(value) }),
            Format::Json => {
                json!({ "authJson": format.values(auth), "returnValueJson": format.value(value) })
            }
        };
        reply.insert("results".into(), json!([result]));
    }
    if let Some(restore) = &simulated.restore {
        let name = if format == Format::Json { "transactionDataJson" } else { "transactionData" };
        reply.insert(
            "restorePreamble".into(),
            json!({ name: format.value(restore), "minResourceFee": restore.resource_fee.to_string() }),
        );
    }
    let changes: Vec<Value> = simulated.changes.iter().filter_map(|diff| change(diff, format)).collect();
    if !changes.is_empty() {
        reply.insert("stateChanges".into(), Value::Array(changes));
    }
    Value::Object(reply)
}

fn change(diff: &LedgerEntryDiff, format: Format) -> Option<Value> {
    let key = diff.state_before.as_ref().or(diff.state_after.as_ref())?.to_key();
    let kind = match (&diff.state_before, &diff.state_after) {
        (None, _) => "created",
        (Some(_), Some(_)) => "updated",
        (Some(_), None) => "deleted",
    };
    let name = |base: &str| if format == Format::Json { format!("{base}Json") } else { base.to_owned() };
    let mut reply = Map::new();
    reply.insert("type".into(), json!(kind));
    reply.insert(name("key"), format.value(&key));
    reply.insert(name("before"), diff.state_before.as_ref().map_or(Value::Null, |entry| format.value(entry)));
    reply.insert(name("after"), diff.state_after.as_ref().map_or(Value::Null, |entry| format.value(entry)));
    Some(Value::Object(reply))
}
