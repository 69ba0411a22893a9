//! `sendTransaction`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use stellar_xdr::{Hash, TransactionEnvelope};

use super::{Format, RpcError, View, params};
use crate::appearance::Appearance;
use crate::events;
use crate::ledger::Submission;
use crate::network::Network;
use crate::transaction::Envelope;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Params {
    transaction: String,
    #[serde(default)]
    xdr_format: Format,
}

pub(super) async fn send(
    network: &Arc<Network>,
    appearance: &Appearance,
    request: Params,
) -> Result<Value, RpcError> {
    let envelope: TransactionEnvelope =
        params::xdr(&request.transaction).map_err(|_| RpcError::invalid_params("invalid_xdr"))?;
    let submission = if appearance.refuses_this_send() {
        let envelope = envelope.clone();
        network
            .read(move |ledger, _| Submission::TryAgainLater {
                hash: Envelope::new(envelope, ledger.network_id()).hash,
            })
            .await
    } else {
        network.submit(envelope).await.map_err(|halted| RpcError::internal(halted.to_string()))?
    };
    let appearance = appearance.clone();
    Ok(network
        .read(move |ledger, now| {
            reply(&View { ledger, appearance: &appearance, now }, submission, request.xdr_format)
        })
        .await)
}

fn reply(view: &View<'_>, submission: Submission, format: Format) -> Value {
    let of = |status: &str, hash: Hash| {
        json!({
            "status": status,
            "hash": hash.to_string(),
            "latestLedger": view.latest().sequence(),
            "latestLedgerCloseTime": view.latest().close_time().to_string(),
        })
    };
    match submission {
        Submission::Pending { hash } => of("PENDING", hash),
        Submission::Duplicate { hash } => of("DUPLICATE", hash),
        Submission::TryAgainLater { hash } => of("TRY_AGAIN_LATER", hash),
        Submission::Refused { hash, result, detail } => {
            let mut reply = of("ERROR", hash);
            let fields = reply.as_object_mut().expect("made as an object");
            format.put(fields, "errorResult", &result);
            if let Some(event) = detail.as_deref().and_then(events::error) {
                fields.insert(format.field("diagnosticEvents"), format.values([&event]));
            }
            reply
        }
    }
}
