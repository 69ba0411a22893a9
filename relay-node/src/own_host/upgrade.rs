//! WebSocket upgrades by hand (RFC 6455, section 4.2), because the session needs the TLS stream itself afterwards.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use http::header::{SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// An upgrade that was promised to the client.
pub struct Upgrade(hyper::upgrade::OnUpgrade);

/// The connection below HTTP, with what the server had read beyond the request.
pub struct Upgraded<S> {
    pub io: S,
    pub read_ahead: Vec<u8>,
}

/// Checks an upgrade request that must offer `subprotocol`; gives the answer and what follows it.
pub fn websocket(
    mut request: Request,
    subprotocol: &'static str,
) -> Result<(Response, Upgrade), Box<Response>> {
    let headers = request.headers();
    let bad = |text| Err(Box::new(refuse(StatusCode::BAD_REQUEST, text)));
    if !lists(headers, CONNECTION, "upgrade") || !lists(headers, UPGRADE, "websocket") {
        return Err(Box::new(refuse(StatusCode::UPGRADE_REQUIRED, "a WebSocket is needed here")));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return bad("Sec-WebSocket-Version must be 13");
    }
    if !lists(headers, SEC_WEBSOCKET_PROTOCOL, subprotocol) {
        return bad(match subprotocol {
            tunnler_protocol::control::SUBPROTOCOL => {
                "offer the subprotocol tunnler.v1; older clients are not served"
            }
            _ => "offer the subprotocol tunnler.feed.v1",
        });
    }
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else { return bad("Sec-WebSocket-Key is missing") };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = Upgrade(hyper::upgrade::on(&mut request));
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, accept)
        .header(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol))
        .body(Body::empty())
        .expect("valid headers");
    Ok((response, upgrade))
}

/// An answer in words.
pub fn refuse(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = status;
    response
}

impl Upgrade {
    /// Waits for the upgrade; `None` when the client went away.
    pub async fn complete<S>(self) -> Option<Upgraded<S>>
    where
        TokioIo<S>: Read + Write + Unpin + 'static,
    {
        let parts = self.0.await.ok()?.downcast::<TokioIo<S>>().ok()?;
        Some(Upgraded { io: parts.io.into_inner(), read_ahead: parts.read_buf.to_vec() })
    }
}

/// Whether a comma-separated header lists `token`, in any case.
fn lists(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}
