//! Bodies on their way through: the visitor's with a limit on silence, the answer's with what must live as long.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::OpenRequest;

/// Why a body ended before its end.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer.
pub struct ResponseBody {
    inner: UnsyncBoxBody<Bytes, BodyError>,
    open: Option<OpenRequest>,
}

impl ResponseBody {
    /// Passes on what the upstream sends.
    pub(crate) fn streamed(incoming: Incoming) -> Self {
        Self { inner: incoming.map_err(BodyError::from).boxed_unsync(), open: None }
    }

    /// A body known whole.
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self { inner: Full::new(bytes).map_err(|never| match never {}).boxed_unsync(), open: None }
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self { inner: Empty::new().map_err(|never| match never {}).boxed_unsync(), open: None }
    }

    /// Any other body.
    pub(crate) fn boxed(inner: UnsyncBoxBody<Bytes, BodyError>) -> Self {
        Self { inner, open: None }
    }

    pub(crate) fn holding(mut self, open: OpenRequest) -> Self {
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

/// A visitor's body that may not fall silent for longer than a limit while the upstream waits for it.
pub(crate) struct Patient {
    inner: Option<Incoming>,
    limit: Duration,
    // Armed only while waiting for the visitor: time in which the upstream does not read is not the visitor's fault.
    silence: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    pub(crate) fn new(inner: Incoming, limit: Duration) -> Self {
        Self { inner: Some(inner), limit, silence: None }
    }

    /// No body at all.
    pub(crate) fn empty() -> Self {
        Self { inner: None, limit: Duration::MAX, silence: None }
    }
}

impl Body for Patient {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) {
            self.silence = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)));
        }
        let limit = self.limit;
        let silence =
            self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        ready!(silence.as_mut().poll(cx));
        Poll::Ready(Some(Err("the visitor stopped sending its body".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
