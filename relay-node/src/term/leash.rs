//! A visitor's connection that can be cut from outside, whoever holds it meanwhile, and that counts its bytes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tunnler_transport::Abort;

/// The connection. Once cut, reading and writing fail and the visitor sees a reset: it never looks ended in order.
pub struct Leash<S: Abort> {
    /// Taken only in drop.
    io: Option<S>,
    token: CancellationToken,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    traffic: Arc<Traffic>,
}

/// What went through a [`Leash`].
#[derive(Debug, Default)]
pub struct Traffic {
    inward: AtomicU64,
    outward: AtomicU64,
}

impl Traffic {
    /// Bytes from the visitor, and to it.
    pub fn bytes(&self) -> (u64, u64) {
        (self.inward.load(Ordering::Relaxed), self.outward.load(Ordering::Relaxed))
    }
}

impl<S: Abort + Unpin> Leash<S> {
    /// `cut` ends it.
    pub fn new(io: S, cut: CancellationToken) -> (Self, Arc<Traffic>) {
        let traffic = Arc::<Traffic>::default();
        let io = Some(io);
        let leash =
            Self { io, token: cut.clone(), cut: Box::pin(cut.cancelled_owned()), traffic: traffic.clone() };
        (leash, traffic)
    }

    fn io(&mut self) -> Pin<&mut S> {
        Pin::new(self.io.as_mut().expect("taken only in drop"))
    }

    /// Fails when cut; else wakes the task when it is.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the relay cut the visitor"))
            }
            Poll::Pending => Ok(()),
        }
    }

    fn count(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(count)) = written {
            self.traffic.outward.fetch_add(*count as u64, Ordering::Relaxed);
        }
    }
}

impl<S: AsyncRead + Abort + Unpin> AsyncRead for Leash<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let before = buffer.filled().len();
        let read = self.io().poll_read(cx, buffer);
        let count = buffer.filled().len() - before;
        self.traffic.inward.fetch_add(count as u64, Ordering::Relaxed);
        read
    }
}

impl<S: AsyncWrite + Abort + Unpin> AsyncWrite for Leash<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let written = self.io().poll_write(cx, bytes);
        self.count(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        self.io().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let written = self.io().poll_write_vectored(cx, bytes);
        self.count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}

impl<S: Abort> Drop for Leash<S> {
    fn drop(&mut self) {
        if self.token.is_cancelled()
            && let Some(io) = self.io.take()
        {
            io.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_cut_wakes_whoever_waits_and_is_never_an_end() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let visitor = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
        let (visitor, accepted) = tokio::join!(visitor, listener.accept());
        let (mut visitor, (io, _)) = (visitor.unwrap(), accepted.unwrap());
        let cut = CancellationToken::new();
        let (mut leash, traffic) = Leash::new(io, cut.clone());
        visitor.write_all(b"hello").await.unwrap();
        let mut hello = [0; 5];
        leash.read_exact(&mut hello).await.unwrap();
        leash.write_all(b"h").await.unwrap();
        assert_eq!(leash.write_vectored(&[IoSlice::new(b"i"), IoSlice::new(b"!")]).await.unwrap(), 2);
        assert_eq!(traffic.bytes(), (5, 3));
        let waiting = tokio::spawn(async move { leash.read(&mut [0]).await });
        cut.cancel();
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        visitor.read_exact(&mut [0; 3]).await.unwrap();
        let seen = visitor.read(&mut [0]).await.unwrap_err();
        assert_eq!(seen.kind(), io::ErrorKind::ConnectionReset);
    }
}
