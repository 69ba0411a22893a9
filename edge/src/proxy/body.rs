//! Bodies on their way through: the visitor's with limits on size and silence, the answer's with what must live as long.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::http2::stream::Received;
use super::open::OpenRequest;

/// Why a body ended before its end.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Why the edge itself ended a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cut {
    #[error("the body is larger than this service takes")]
    TooLarge,
    #[error("the sender of the body fell silent")]
    Silent,
}

/// The body of an answer.
pub struct ResponseBody {
    inner: UnsyncBoxBody<Bytes, BodyError>,
    open: Option<OpenRequest>,
}

impl ResponseBody {
    /// Passes on what the upstream sends.
    pub(crate) fn streamed(inbound: Inbound, silence: Silence) -> Self {
        Self::boxed(Heard { inbound, silence }.boxed_unsync())
    }

    /// A body known whole.
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self::boxed(Full::new(bytes).map_err(|never| match never {}).boxed_unsync())
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self::boxed(Empty::new().map_err(|never| match never {}).boxed_unsync())
    }

    /// Any other body.
    pub(crate) fn boxed(inner: UnsyncBoxBody<Bytes, BodyError>) -> Self {
        Self { inner, open: None }
    }

    pub(super) fn holding(mut self, open: OpenRequest) -> Self {
        self.open = Some(open);
        self
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// How long a sender may be silent while its receiver waits. Time in which nobody reads is not the sender's fault.
pub(crate) struct Silence {
    limit: Option<Duration>,
    armed: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    /// `None`: for ever.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { limit, armed: None }
    }

    fn poll<T>(
        &mut self,
        frame: Poll<Option<Result<T, BodyError>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<T, BodyError>>> {
        if frame.is_ready() {
            self.armed = None;
            return frame;
        }
        let Some(limit) = self.limit else { return Poll::Pending };
        let armed = self.armed.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        armed.as_mut().poll(cx).map(|()| Some(Err(Cut::Silent.into())))
    }
}

/// A body from the network.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// Over HTTP/1.1.
    Http1(Incoming),
    /// Over HTTP/2.
    Http2(Received),
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Http1(incoming) => Pin::new(incoming).poll_frame(cx).map_err(BodyError::from),
            Self::Http2(received) => Pin::new(received).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(incoming) => incoming.is_end_stream(),
            Self::Http2(received) => received.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(incoming) => incoming.size_hint(),
            Self::Http2(received) => received.size_hint(),
        }
    }
}

/// An upstream's body under a limit on silence.
struct Heard {
    inbound: Inbound,
    silence: Silence,
}

impl Body for Heard {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.inbound).poll_frame(cx);
        self.silence.poll(frame, cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inbound.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inbound.size_hint()
    }
}

/// Where the bytes of a request's body are.
#[derive(Debug)]
pub(crate) enum Source {
    /// There are none.
    Nothing,
    /// Here.
    Known(Bytes),
    /// With the visitor, still.
    Streamed(Inbound),
}

impl Source {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Nothing => Poll::Ready(None),
            Self::Known(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Nothing;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Streamed(inbound) => Pin::new(inbound).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Known(bytes) => bytes.is_empty(),
            Self::Streamed(inbound) => inbound.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Known(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streamed(inbound) => inbound.size_hint(),
        }
    }
}

/// When something last moved.
#[derive(Debug)]
pub(crate) struct Progress(Mutex<Instant>);

impl Default for Progress {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Progress {
    pub(crate) fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn moved(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// A visitor's body on its way to an upstream. One that nobody has asked for anything goes back where it came from, so
/// that another upstream may have it.
pub(crate) struct RequestBody {
    source: Source,
    most: u64,
    silence: Silence,
    progress: Arc<Progress>,
    home: Option<oneshot::Sender<Source>>,
}

impl RequestBody {
    /// At most `most` bytes, never silent for longer than `silence`; the receiver gets an untouched body back.
    pub(crate) fn new(source: Source, most: u64, silence: Silence) -> (Self, oneshot::Receiver<Source>) {
        let (home, returned) = oneshot::channel();
        let progress = Arc::<Progress>::default();
        (Self { source, most, silence, progress, home: Some(home) }, returned)
    }

    /// No body at all.
    pub(crate) fn empty() -> Self {
        Self::new(Source::Nothing, 0, Silence::new(None)).0
    }

    /// Tells when it last moved, also while somebody else owns it.
    pub(crate) fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    fn count(&mut self, frame: &Frame<Bytes>) -> Result<(), Cut> {
        self.progress.moved();
        let size = frame.data_ref().map_or(0, |data| data.len() as u64);
        self.most = self.most.checked_sub(size).ok_or(Cut::TooLarge)?;
        Ok(())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        this.home = None;
        let frame = this.source.poll_frame(cx);
        this.silence.poll(frame, cx).map(|frame| {
            frame.map(|frame| frame.and_then(|frame| this.count(&frame).map(|()| frame).map_err(Into::into)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            let _ = home.send(std::mem::replace(&mut self.source, Source::Nothing));
        }
    }
}
