//! One visitor's HTTP/2 connection (RFC 9113): a task for each request, under limits on everything a visitor can make
//! the edge hold.
//!
//! Stands on the h2 library itself and not on hyper's server, which cannot send interim answers. What a request means
//! is decided elsewhere.

mod alive;
pub(super) mod stream;
#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::poll_fn;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::{self, HeaderValue};
use http::response::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::body::{Inbound, ResponseBody};
use super::hints::Hints;
use super::{Connection, HEAD_DEADLINE, MAX_HEAD, ServeError, answer, headers};
use alive::Heard;
use stream::Received;

/// Most requests open at once in one connection.
const MAX_STREAMS: u32 = 100;
/// A visitor without a request for this long is sent away.
const IDLE: Duration = Duration::from_secs(60);
/// Bytes of one request's body, and of all, that may arrive before the upstream took any.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Most bytes of one answer that wait for a visitor who reads more slowly.
const MAX_SEND_BUFFER: usize = 256 * 1024;
/// Requests that were taken back before anybody looked at them, and errors of the visitor's: with more of either the
/// connection is closed (rapid reset, CVE-2023-44487).
const MAX_TAKEN_BACK: usize = 20;
const MAX_ERRORS: usize = 1024;

/// Serves until the visitor leaves, is idle or gone, or `stop` is cancelled and its last request answered.
pub(super) async fn serve<S>(
    io: S,
    connection: Arc<Connection>,
    stop: &CancellationToken,
) -> Result<(), ServeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (io, heard) = Heard::listen(io);
    let handshake = builder(&connection).handshake::<_, Bytes>(io);
    let mut http2 = timeout(HEAD_DEADLINE, handshake).await.map_err(|_| ServeError::Silent)??;
    let pings = http2.ping_pong().expect("taken once");
    let mut gone = pin!(alive::lost(heard, pings));
    let mut quiet = pin!(connection.open.quiet(IDLE));
    let mut closing = false;
    // Dropped with this function: then nobody waits for their answers any more.
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(ended) = requests.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "a request's task");
            },
            accepted = http2.accept() => match accepted {
                Some(accepted) => {
                    let (request, respond) = accepted?;
                    requests.spawn(exchange(connection.clone(), request, respond));
                }
                None => return Ok(()),
            },
            () = stop.cancelled(), if !closing => {
                closing = true;
                http2.graceful_shutdown();
                quiet.set(connection.open.quiet(HEAD_DEADLINE));
            }
            () = &mut quiet => {
                // It was told, and stays although it has nothing to wait for.
                if closing {
                    return Ok(());
                }
                closing = true;
                http2.graceful_shutdown();
                quiet.set(connection.open.quiet(HEAD_DEADLINE));
            }
            () = &mut gone => return Err(ServeError::Silent),
        }
    }
}

fn builder(connection: &Connection) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD as u32)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(MAX_SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_TAKEN_BACK)
        .max_local_error_reset_streams(Some(MAX_ERRORS));
    if connection.site.offers_http2_sockets() {
        builder.enable_connect_protocol();
    }
    builder
}

/// One request and its answers. Ends at once, and with it what was asked of the upstream, when the visitor takes the
/// request back.
async fn exchange(
    connection: Arc<Connection>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let head_only = request.method() == Method::HEAD;
    let (parts, body) = request.into_parts();
    let body = Inbound::Http2(Received::request(body, &parts.headers));
    let (hints, mut told) = Hints::wanted();
    let request = Request::from_parts(parts, body);
    let Some(response) = interim(&connection, request, hints, &mut told, &mut respond).await else { return };
    let (mut parts, mut body) = response.into_parts();
    let bodiless = head_only || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    ready(&mut parts, &body);
    let ends = bodiless || body.is_end_stream();
    match respond.send_response(Response::from_parts(parts, ()), ends) {
        Ok(_) if ends => {}
        Ok(mut sending) => {
            if let Err(error) = stream::send(&mut body, &mut sending).await {
                tracing::debug!(visitor = %connection.visitor.address, %error, "an answer broke off");
            }
        }
        Err(error) => {
            tracing::debug!(visitor = %connection.visitor.address, %error, "an answer cannot be sent");
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

/// Passes interim answers on until there is a final one; `None` when the visitor wants none any more.
async fn interim(
    connection: &Arc<Connection>,
    request: Request<Inbound>,
    hints: Hints,
    told: &mut mpsc::Receiver<Response<()>>,
    respond: &mut SendResponse<Bytes>,
) -> Option<Response<ResponseBody>> {
    let mut answering = pin!(answer(connection.clone(), request, hints));
    poll_fn(|cx| {
        if respond.poll_reset(cx).is_ready() {
            return Poll::Ready(None);
        }
        let answered = answering.as_mut().poll(cx);
        // After the answer was asked for: what came before it is sent before it.
        while let Poll::Ready(Some(mut interim)) = told.poll_recv(cx) {
            connection.site.finish(interim.headers_mut());
            if let Err(error) = respond.send_informational(interim) {
                tracing::debug!(%error, "an interim answer cannot be sent");
            }
        }
        answered.map(Some)
    })
    .await
}

/// What HTTP/2 asks of an answer's head.
fn ready(parts: &mut Parts, body: &ResponseBody) {
    headers::strip_hop_by_hop(&mut parts.headers);
    let length = body.size_hint().exact().filter(|_| !body.is_end_stream());
    if let header::Entry::Vacant(missing) = parts.headers.entry(header::CONTENT_LENGTH)
        && let Some(length) = length
    {
        missing.insert(HeaderValue::from(length));
    }
    if let header::Entry::Vacant(missing) = parts.headers.entry(header::DATE) {
        let now = httpdate::fmt_http_date(SystemTime::now());
        missing.insert(HeaderValue::from_str(&now).expect("a date is visible ASCII"));
    }
}
