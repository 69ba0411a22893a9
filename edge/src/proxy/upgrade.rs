//! WebSocket through the proxy: the opening handshake, then bytes both ways. A visitor may ask for it in HTTP/1.1
//! (RFC 6455) or in an HTTP/2 stream (RFC 8441); upstreams are asked in HTTP/1.1.
//!
//! Only WebSocket: any other upgrade is taken off the request and never happens.

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::task::TaskTracker;

use super::body::{ResponseBody, Source};
use super::hints::Hints;
use super::open::OpenRequest;
use super::refusal::Refusal;
use super::request::{Checked, Wish, names_websocket};
use super::tunnel::Tunnel;
use super::upstream::Upstream;

/// Passes a WebSocket handshake on. When the upstream agrees, an HTTP/1.1 connection is carried from then on by a task of
/// `spliced`, and an HTTP/2 stream by the bodies of request and answer.
pub(super) async fn pass(
    mut checked: Checked,
    upstream: &Upstream,
    spliced: &TaskTracker,
    open: OpenRequest,
) -> Result<Response<ResponseBody>, Refusal> {
    let upstream = upstream.upgrading().ok_or(Refusal::NoWebSocket)?;
    let visitor_side = match checked.wish {
        Wish::Tunnel => {
            checked.parts.method = Method::GET;
            checked.parts.headers.insert(header::SEC_WEBSOCKET_KEY, fresh_key());
            VisitorSide::Stream(std::mem::replace(&mut checked.body, Source::Nothing))
        }
        Wish::Upgrade | Wish::Answer => {
            checked.body = Source::Nothing;
            let upgrade = checked.parts.extensions.remove::<OnUpgrade>();
            VisitorSide::Connection(
                upgrade.ok_or(Refusal::Malformed("an upgrade that this connection cannot do"))?,
            )
        }
    };
    // What follows the handshake is no body.
    checked.parts.headers.remove(header::CONTENT_LENGTH);
    let (mut outgoing, _) = upstream.outgoing(checked);
    ask_upgrade(outgoing.headers_mut());
    let mut answer = upstream.send(outgoing, &Hints::unwanted()).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(upstream.incoming(answer));
    }
    if !names_websocket(answer.headers()) {
        return Err(Refusal::BrokenUpstream);
    }
    let upstream_side = hyper::upgrade::on(&mut answer);
    let mut response = upstream.head(answer.map(|_| ResponseBody::empty()));
    match visitor_side {
        VisitorSide::Connection(visitor_side) => {
            spliced.spawn(async move {
                splice(visitor_side, upstream_side).await;
                drop(open);
            });
            ask_upgrade(response.headers_mut());
            Ok(response)
        }
        VisitorSide::Stream(visitor_side) => {
            let upstream_side = upstream_side.await.map_err(|_| Refusal::BrokenUpstream)?;
            *response.status_mut() = StatusCode::OK;
            response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
            response.headers_mut().remove(header::CONTENT_LENGTH);
            let tunnel = Tunnel::new(visitor_side, upstream_side);
            Ok(response.map(|_| ResponseBody::boxed(tunnel.boxed_unsync())))
        }
    }
}

/// Where the visitor speaks once there is a WebSocket.
enum VisitorSide {
    Connection(OnUpgrade),
    Stream(Source),
}

/// An error on one side drops both: neither sees an orderly end that was none.
async fn splice(visitor: OnUpgrade, upstream: OnUpgrade) {
    let Ok((visitor, upstream)) = tokio::try_join!(visitor, upstream) else { return };
    let (mut visitor, mut upstream) = (TokioIo::new(visitor), TokioIo::new(upstream));
    if let Err(error) = tokio::io::copy_bidirectional(&mut visitor, &mut upstream).await {
        tracing::debug!(%error, "WebSocket connection broke");
    }
}

fn ask_upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

fn fresh_key() -> HeaderValue {
    let mut key = [0; 16];
    rand::fill(&mut key).expect("the system has randomness");
    HeaderValue::from_str(&STANDARD.encode(key)).expect("base64 is visible ASCII")
}
