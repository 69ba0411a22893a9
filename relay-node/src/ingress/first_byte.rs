//! Measures how long a client takes to answer: from the opened stream to its first byte.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tunnler_transport::Abort;

/// A stream whose first byte is waited for.
pub struct FirstByte<T> {
    io: T,
    waiting_since: Option<Instant>,
}

impl<T> FirstByte<T> {
    /// Waits from now on.
    pub fn new(io: T) -> Self {
        Self { io, waiting_since: Some(Instant::now()) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for FirstByte<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > before
            && let Some(since) = self.waiting_since.take()
        {
            metrics::histogram!("tunnler_first_byte_seconds").record(since.elapsed().as_secs_f64());
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for FirstByte<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<T: Abort> Abort for FirstByte<T> {
    fn abort(self) {
        self.io.abort();
    }
}
