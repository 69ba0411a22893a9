//! The older way to log in: a token in the upgrade request, `Authorization: Bearer`, that answers no challenge. Only where
//! the operator turns it on: such a token is bound to no channel, so whoever sees it first can use it, once.

use axum::extract::Request;
use http::StatusCode;
use http::header::AUTHORIZATION;
use tunnler_protocol::control::AuthResponse;
use tunnler_protocol::instance::{InstanceId, SessionId};

use crate::limits::Bearer;

/// The login that an upgrade request carries, if it carries one: the token, and in the query `ins` and `session` as an
/// `auth_response` has them (without them they are drawn: such a session cannot be joined).
pub fn login(request: &Request, allowed: Bearer) -> Result<Option<AuthResponse>, (StatusCode, &'static str)> {
    let Some(header) = request.headers().get(AUTHORIZATION) else { return Ok(None) };
    if allowed == Bearer::Refused {
        return Err((StatusCode::UNAUTHORIZED, "this relay takes no bearer tokens; answer its challenge"));
    }
    let jwt = header.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
    let jwt = jwt.ok_or((StatusCode::BAD_REQUEST, "Authorization must be Bearer and a token"))?;
    let query = request.uri().query().unwrap_or_default();
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let bad = |_| (StatusCode::BAD_REQUEST, "ins and session are 22 characters of base64url");
    let ins = value("ins").map_or(Ok(InstanceId(rand::random())), |text| text.parse().map_err(bad))?;
    let session = value("session").map_or(Ok(SessionId(rand::random())), |text| text.parse().map_err(bad))?;
    Ok(Some(AuthResponse { jwt: jwt.to_owned(), ins, session, presence: None }))
}
