//! A visitor's stream with the place it holds. Every byte that moves says that the visit lives.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tunnler_transport::{Abort, SessionStream};

use super::Place;

/// The stream. Its place is passed on when it is dropped.
#[derive(Debug)]
pub struct Seated {
    stream: SessionStream,
    place: Place,
    displaced: CancellationToken,
    /// Read already, and not given to anybody yet.
    first: Vec<u8>,
}

impl Seated {
    pub(super) fn new(stream: SessionStream, place: Place, displaced: CancellationToken) -> Self {
        Self { stream, place, displaced, first: vec![] }
    }

    /// Cancelled when the visit must give way to another.
    pub fn displaced(&self) -> CancellationToken {
        self.displaced.clone()
    }

    /// Waits for the first `length` bytes that come, without taking them from whoever reads on; fewer when it ends
    /// before. May be given up and taken up again.
    pub async fn peek(&mut self, length: usize) -> io::Result<&[u8]> {
        while self.first.len() < length {
            let mut byte = [0];
            if self.stream.read(&mut byte).await? == 0 {
                break;
            }
            self.moved(1);
            self.first.extend(byte);
        }
        Ok(&self.first)
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
        if !self.first.is_empty() {
            let n = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..n]);
            self.first.drain(..n);
            return Poll::Ready(Ok(()));
        }
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
