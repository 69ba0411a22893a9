//! A visitor's stream with the place it holds. Every byte that moves says that the visit lives.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tunnler_transport::{Abort, SessionStream};

use super::Place;

/// The stream. Its place is passed on when it is dropped.
#[derive(Debug)]
pub struct Seated {
    stream: SessionStream,
    place: Place,
    displaced: CancellationToken,
}

impl Seated {
    pub(super) fn new(stream: SessionStream, place: Place, displaced: CancellationToken) -> Self {
        Self { stream, place, displaced }
    }

    /// Cancelled when the visit must give way to another.
    pub fn displaced(&self) -> CancellationToken {
        self.displaced.clone()
    }

    fn moved(&self, bytes: usize) {
        if bytes > 0 {
            self.place.pulse.beat(Instant::now());
        }
    }
}

impl AsyncRead for Seated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.moved(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Seated {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.moved(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Abort for Seated {
    fn abort(self) {
        self.stream.abort();
    }
}
