//! A byte stream that is read no faster than its visitor's [`Share`] allows. Writing never waits here: what waits is
//! the reading of the other side, so that a pause is never taken for a stalled peer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tunnler_transport::Abort;

use super::shares::Share;

/// Bytes read at a time: visitors that share a bound take turns of this size.
const TURN: usize = 16 * 1024;

/// A stream with its bound.
pub struct Metered<T> {
    io: T,
    share: Arc<Share>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<T> Metered<T> {
    /// Reads `io` at the pace of `share`.
    pub fn new(io: T, share: Arc<Share>) -> Self {
        Self { io, share, pause: None }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let turn = buf.remaining().min(TURN);
        let mut turn = ReadBuf::new(buf.initialize_unfilled_to(turn));
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut turn))?;
        let n = turn.filled().len();
        buf.advance(n);
        let wait = self.share.spend(n, Instant::now());
        if !wait.is_zero() {
            self.pause = Some(Box::pin(tokio::time::sleep(wait)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl<T: Abort> Abort for Metered<T> {
    fn abort(self) {
        self.io.abort();
    }
}
