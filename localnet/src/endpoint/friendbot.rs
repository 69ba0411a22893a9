//! `/friendbot?addr=G…`: creates an account with 10,000 lumens, in the words of the public one.

use std::sync::Arc;

use axum::Form;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use stellar_xdr::{AccountId, PublicKey, Uint256};

use super::Shared;
use crate::network::Funding;

#[derive(Deserialize)]
pub(super) struct Params {
    addr: Option<String>,
}

pub(super) async fn by_query(State(shared): State<Arc<Shared>>, Query(params): Query<Params>) -> Response {
    fund(&shared, params).await
}

pub(super) async fn by_form(State(shared): State<Arc<Shared>>, Form(params): Form<Params>) -> Response {
    fund(&shared, params).await
}

async fn fund(shared: &Shared, params: Params) -> Response {
    let address = params.addr.unwrap_or_default();
    let Ok(key) = stellar_strkey::ed25519::PublicKey::from_string(&address) else {
        return problem(StatusCode::BAD_REQUEST, "Bad Request", "addr is not a G… address");
    };
    let id = AccountId(PublicKey::PublicKeyTypeEd25519(Uint256(key.0)));
    match shared.network.fund(id).await {
        Ok(Funding::Funded { hash }) => {
            Json(json!({ "successful": true, "hash": hash.to_string() })).into_response()
        }
        Ok(Funding::AlreadyFunded) => {
            problem(StatusCode::BAD_REQUEST, "Bad Request", "account already funded to starting balance")
        }
        Ok(Funding::Failed(why)) => problem(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error", &why),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error", &error.to_string()),
    }
}

fn problem(status: StatusCode, title: &str, detail: &str) -> Response {
    let body = json!({
        "type": "https://stellar.org/friendbot-errors",
        "title": title,
        "status": status.as_u16(),
        "detail": detail,
    });
    (status, Json(body)).into_response()
}
