//! Bodies in HTTP/2 streams, both ways, with back-pressure: what was not taken is not asked for, what cannot be sent is
//! not fetched. Used towards visitors and towards upstreams.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::poll_fn;
use h2::{Reason, RecvStream, SendStream};
use http::header::{self, HeaderMap};
use hyper::body::{Body, Frame, SizeHint};

use crate::proxy::body::BodyError;
use crate::proxy::headers;
use crate::proxy::upstream::http2::Exchange;

/// A body that arrives.
#[derive(Debug)]
pub(crate) struct Received {
    stream: RecvStream,
    of: Of,
    /// What is missing of the announced length.
    left: Option<u64>,
    data: Data,
}

#[derive(Debug)]
enum Of {
    Request,
    /// With what is needed until it is there.
    Answer(#[expect(dead_code, reason = "held")] Exchange),
}

/// Trailers come after the last data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Data {
    Arriving,
    Over,
}

impl Received {
    /// The body of a visitor's request.
    pub(in crate::proxy) fn request(stream: RecvStream, headers: &HeaderMap) -> Self {
        Self { left: length(headers), stream, of: Of::Request, data: Data::Arriving }
    }

    /// The body of an upstream's answer.
    pub(in crate::proxy) fn answer(stream: RecvStream, headers: &HeaderMap, exchange: Exchange) -> Self {
        Self { left: length(headers), stream, of: Of::Answer(exchange), data: Data::Arriving }
    }

    /// A server may follow a whole answer by NO_ERROR, to be spared the rest of the request (RFC 9113, section 8.1).
    /// Whatever else breaks a stream off is no end.
    fn broken(&self, error: h2::Error) -> Option<Result<Frame<Bytes>, BodyError>> {
        let whole = matches!(self.of, Of::Answer(_))
            && error.reason() == Some(Reason::NO_ERROR)
            && self.left.is_none_or(|left| left == 0);
        if whole { None } else { Some(Err(error.into())) }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.data == Data::Arriving {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    let size = data.len();
                    // Whoever polls takes it. It fails only when nothing more will arrive.
                    let _ = self.stream.flow_control().release_capacity(size);
                    self.left = self.left.map(|left| left.saturating_sub(size as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(self.broken(error)),
                None => self.data = Data::Over,
            }
        }
        Poll::Ready(match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => self.broken(error),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) => SizeHint::with_exact(left),
            None if self.stream.is_end_stream() => SizeHint::with_exact(0),
            None => SizeHint::default(),
        }
    }
}

/// The one length that is announced.
fn length(headers: &HeaderMap) -> Option<u64> {
    let mut announced = headers.get_all(header::CONTENT_LENGTH).iter();
    let first = announced.next()?;
    let digits = first.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    if announced.any(|other| other != first) { None } else { digits.parse().ok() }
}

/// Why a body was not sent to its end.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum SendError {
    /// The other side wants no more of it.
    #[error("the receiver broke off")]
    Unwanted,
    /// It cannot be sent.
    #[error(transparent)]
    Stream(#[from] h2::Error),
    /// It broke off here, and the other side was told.
    #[error("the sender broke off: {0}")]
    Source(BodyError),
}

/// Sends a body and its end. The next part is fetched once the one before may leave; while either is awaited, the other
/// side may take back what it asked for.
pub(in crate::proxy) async fn send<B>(body: &mut B, stream: &mut SendStream<Bytes>) -> Result<(), SendError>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    loop {
        let frame = poll_fn(|cx| match stream.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(Err(SendError::Unwanted)),
            Poll::Pending => Pin::new(&mut *body).poll_frame(cx).map(Ok),
        });
        let frame = match frame.await? {
            None => return Ok(stream.send_data(Bytes::new(), true)?),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Err(SendError::Source(error));
            }
        };
        match frame.into_data() {
            Ok(data) => {
                let last = body.is_end_stream();
                if !data.is_empty() {
                    room(stream).await?;
                }
                stream.send_data(data, last)?;
                if last {
                    return Ok(());
                }
            }
            Err(frame) => {
                if let Ok(mut trailers) = frame.into_trailers() {
                    headers::strip_hop_by_hop(&mut trailers);
                    return Ok(stream.send_trailers(trailers)?);
                }
            }
        }
    }
}

/// Waits until something may be sent. Asks for one byte only: what is asked for and not used would be missing in other
/// streams of the connection; the library asks for the rest of a part once it has it.
async fn room(stream: &mut SendStream<Bytes>) -> Result<(), SendError> {
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        let more = poll_fn(|cx| match stream.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => stream.poll_capacity(cx),
        });
        more.await.ok_or(SendError::Unwanted)??;
    }
    Ok(())
}
