//! WebSocket through the proxy: the upgrade handshake, then bytes both ways.
//!
//! Only WebSocket: any other upgrade is taken off the request and never happens.

use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_util::task::TaskTracker;

use super::Visitor;
use super::body::ResponseBody;
use super::refusal::Refusal;
use super::request::{Checked, names_websocket};
use super::upstream::Upstream;

/// Passes a WebSocket handshake on; when the upstream agrees, a task of `spliced` carries the connection from then on.
pub(super) async fn pass(
    mut checked: Checked,
    upstream: &Upstream,
    visitor: &Visitor,
    spliced: &TaskTracker,
) -> Result<Response<ResponseBody>, Refusal> {
    let visitor_side = checked.parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let visitor_side = visitor_side.ok_or(Refusal::Malformed("an upgrade that this connection cannot do"))?;
    let mut outgoing = upstream.outgoing(checked, visitor);
    outgoing.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    outgoing.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let mut answer = upstream.send(outgoing).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(upstream.incoming(answer));
    }
    if !names_websocket(answer.headers()) {
        return Err(Refusal::BrokenUpstream);
    }
    let upstream_side = hyper::upgrade::on(&mut answer);
    spliced.spawn(async move {
        let Ok((visitor, upstream)) = tokio::try_join!(visitor_side, upstream_side) else { return };
        let (mut visitor, mut upstream) = (TokioIo::new(visitor), TokioIo::new(upstream));
        // An error on one side drops both: neither sees an orderly end that was none.
        if let Err(error) = tokio::io::copy_bidirectional(&mut visitor, &mut upstream).await {
            tracing::debug!(%error, "WebSocket connection broke");
        }
    });
    let mut response = upstream.incoming(answer.map(|_| ())).map(|_| ResponseBody::empty());
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    Ok(response)
}
