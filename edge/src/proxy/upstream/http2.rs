//! HTTP/2 to an upstream: one connection for all requests, opened when one is needed, closed when none was for a while.
//!
//! Stands on the h2 library itself and not on hyper's client, which throws interim answers away. A request is sent again
//! only if the connection was gone before anything of it was sent.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, poll_fn};
use h2::client::{Connection, ResponseFuture, SendRequest};
use http::header::{self, HeaderValue};
use http::uri::Uri;
use http::{Request, Response};
use hyper::body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt;
use tracing::Instrument;

use super::{Connector, MAX_BUFFER, broken, told, unconnected};
use crate::proxy::body::{Inbound, RequestBody};
use crate::proxy::hints::Hints;
use crate::proxy::http2::stream::{self, Received, SendError};
use crate::proxy::open::{Open, OpenRequest};
use crate::proxy::refusal::Refusal;

/// Bytes of an answer that may arrive before the visitor took any: of one, and of all in a connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// Most bytes of one request's body that wait for the upstream.
const MAX_SEND_BUFFER: usize = 256 * 1024;
/// How long a connection that nobody uses any more has for its good-bye.
const CLOSING: Duration = Duration::from_secs(5);

/// Connections to one upstream. Clones share them.
#[derive(Clone)]
pub(super) struct Client(Arc<Shelf>);

/// The connection in use, and what it takes to make another.
struct Shelf {
    connector: Connector,
    idle: Duration,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    /// Counts connections, so that nobody puts away another than it means.
    number: u64,
    link: Option<Linking>,
}

/// A connection that is being made, or is there.
type Linking = Shared<BoxFuture<'static, Result<Link, Refusal>>>;

/// What requests need of a connection. It is closed after the last of them is gone.
#[derive(Clone)]
struct Link {
    sender: SendRequest<Bytes>,
    open: Arc<Open>,
    used: Arc<DropGuard>,
}

/// What lives as long as an exchange does.
#[derive(Debug)]
pub(in crate::proxy) struct Exchange {
    _open: OpenRequest,
    _used: Arc<DropGuard>,
    _asking: Option<AbortOnDropHandle<Result<(), SendError>>>,
}

impl Client {
    pub(super) fn new(connector: Connector, idle: Duration) -> Self {
        Self(Arc::new(Shelf { connector, idle, current: Mutex::default() }))
    }

    /// Sends a request and waits for the head of its answer; what comes before that goes to `hints`.
    pub(super) async fn send(
        &self,
        request: Request<RequestBody>,
        hints: &Hints,
    ) -> Result<Response<Inbound>, Refusal> {
        let (link, mut sender) = self.ready().await?;
        let open = link.open.hold();
        let (mut parts, body) = request.into_parts();
        let ends = body.is_end_stream();
        if let header::Entry::Vacant(missing) = parts.headers.entry(header::CONTENT_LENGTH)
            && let Some(length) = body.size_hint().exact().filter(|_| !ends)
        {
            missing.insert(HeaderValue::from(length));
        }
        let sent = sender.send_request(Request::from_parts(parts, ()), ends);
        let (answering, mut sending) = sent.map_err(|error| broke(&error))?;
        drop(sender);
        let mut asking = (!ends).then(|| {
            let mut body = body;
            let asking = async move { stream::send(&mut body, &mut sending).await };
            AbortOnDropHandle::new(tokio::spawn(asking))
        });
        match answer(answering, hints).await {
            Ok(answer) => {
                let exchange = Exchange { _open: open, _used: link.used, _asking: asking };
                let (parts, body) = answer.into_parts();
                let body = Received::answer(body, &parts.headers, exchange);
                Ok(Response::from_parts(parts, Inbound::Http2(body)))
            }
            // If it was the visitor's body that broke off, the upstream is not to blame.
            Err(error) => Err(match asking.as_mut().map(|asking| asking.now_or_never()) {
                Some(Some(Ok(Err(SendError::Source(source))))) => broken(&*source),
                _ => broke(&error),
            }),
        }
    }

    /// A connection on which something can be sent.
    async fn ready(&self) -> Result<(Link, SendRequest<Bytes>), Refusal> {
        let mut tries = 0;
        loop {
            let (number, linking) = self.0.link();
            let link = linking.await.inspect_err(|_| self.0.put_away(number))?;
            match link.sender.clone().ready().await {
                Ok(sender) => return Ok((link, sender)),
                Err(error) => {
                    self.0.put_away(number);
                    tries += 1;
                    // One that was closed meanwhile is no failure; a new one that is closed at once is.
                    if tries == 3 {
                        return Err(broke(&error));
                    }
                }
            }
        }
    }
}

fn broke(error: &h2::Error) -> Refusal {
    tracing::debug!(error = told(error), "upstream failed");
    Refusal::BrokenUpstream
}

/// The final answer.
async fn answer(mut answering: ResponseFuture, hints: &Hints) -> Result<Response<h2::RecvStream>, h2::Error> {
    poll_fn(|cx| {
        while let Poll::Ready(Some(Ok(interim))) = answering.poll_informational(cx) {
            hints.tell(interim.status(), interim.headers());
        }
        Pin::new(&mut answering).poll(cx)
    })
    .await
}

impl Shelf {
    /// The present connection, or a new one.
    fn link(self: &Arc<Self>) -> (u64, Linking) {
        let mut current = self.current();
        if let Some(link) = &current.link {
            return (current.number, link.clone());
        }
        current.number += 1;
        let number = current.number;
        // In a task of its own: whoever asks first may leave before it is there.
        let connecting = connect(self.connector.clone(), Arc::downgrade(self), self.idle, number);
        let connecting = AbortOnDropHandle::new(tokio::spawn(connecting.in_current_span()));
        let linking = async move { connecting.await.unwrap_or(Err(Refusal::BrokenUpstream)) };
        let linking = linking.boxed().shared();
        current.link = Some(linking.clone());
        (number, linking)
    }

    /// No new request uses connection `number`.
    fn put_away(&self, number: u64) {
        let mut current = self.current();
        if current.number == number {
            current.link = None;
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(
    connector: Connector,
    shelf: Weak<Shelf>,
    idle: Duration,
    number: u64,
) -> Result<Link, Refusal> {
    let io = connector.oneshot(Uri::default()).await.map_err(|error| {
        tracing::debug!(error = told(&error), "upstream failed");
        unconnected(&error)
    })?;
    let handshake = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(MAX_SEND_BUFFER)
        .max_header_list_size(MAX_BUFFER as u32)
        .enable_push(false)
        .handshake(io.into_inner());
    let (sender, connection) = handshake.await.map_err(|error| broke(&error))?;
    let (open, unused) = (Arc::<Open>::default(), CancellationToken::new());
    // Ends by itself soon after the last use.
    tokio::spawn(drive(connection, shelf, idle, number, open.clone(), unused.clone()).in_current_span());
    Ok(Link { sender, open, used: Arc::new(unused.drop_guard()) })
}

/// Moves the connection's bytes until it ends or nobody needs it any more.
async fn drive<S>(
    connection: Connection<S, Bytes>,
    shelf: Weak<Shelf>,
    idle: Duration,
    number: u64,
    open: Arc<Open>,
    unused: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = pin!(connection);
    let put_away = async {
        open.quiet(idle).await;
        if let Some(shelf) = shelf.upgrade() {
            shelf.put_away(number);
        }
        // Gone once those who took it in this moment are done, too.
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = put_away => Ok(()),
        // The library looks whether it is needed when it is polled.
        () = unused.cancelled() => tokio::time::timeout(CLOSING, connection).await.unwrap_or(Ok(())),
    };
    if let Err(error) = ended {
        tracing::debug!(error = told(&error), "upstream connection");
    }
}
