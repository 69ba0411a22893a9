//! A WebSocket in an HTTP/2 stream (RFC 8441): what the visitor sends is the body of its request, what the upstream says
//! is the body of the answer.
//!
//! Each direction has its own back-pressure. When one breaks off, so does the other.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::future::poll_fn;
use hyper::body::{Body, Frame};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_util::io::ReaderStream;
use tokio_util::task::AbortOnDropHandle;

use super::body::{BodyError, Source};

/// Bytes taken from the upstream at once.
const PART: usize = 16 * 1024;

/// What the upstream says; while it lives, what the visitor says is passed on.
pub(super) struct Tunnel {
    answers: ReaderStream<ReadHalf<TokioIo<Upgraded>>>,
    asking: Option<AbortOnDropHandle<Result<(), BodyError>>>,
}

impl Tunnel {
    pub(super) fn new(visitor: Source, upstream: Upgraded) -> Self {
        let (read, write) = tokio::io::split(TokioIo::new(upstream));
        let asking = AbortOnDropHandle::new(tokio::spawn(ask(visitor, write)));
        Self { answers: ReaderStream::with_capacity(read, PART), asking: Some(asking) }
    }
}

/// Passes on what the visitor says, and that it has said all.
async fn ask(mut visitor: Source, mut upstream: WriteHalf<TokioIo<Upgraded>>) -> Result<(), BodyError> {
    while let Some(frame) = poll_fn(|cx| visitor.poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            upstream.write_all(&data).await?;
            upstream.flush().await?;
        }
    }
    Ok(upstream.shutdown().await?)
}

impl Body for Tunnel {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(asking) = &mut self.asking
            && let Poll::Ready(asked) = Pin::new(asking).poll(cx)
        {
            self.asking = None;
            if let Err(error) = asked.map_err(BodyError::from).and_then(|asked| asked) {
                return Poll::Ready(Some(Err(error)));
            }
        }
        let part = Pin::new(&mut self.answers).poll_next(cx);
        part.map(|part| part.map(|part| part.map(Frame::data).map_err(BodyError::from)))
    }
}
