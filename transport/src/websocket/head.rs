//! Reading an HTTP head from a stream that is wanted back with everything behind the head unread.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

/// Hands out one HTTP head and nothing behind it, so that whoever reads an answer without a body reads no further.
#[derive(Debug)]
pub(crate) struct OneHead<S> {
    io: S,
    /// How much of the empty line that ends the head was the last thing handed out.
    end: usize,
}

impl<S> OneHead<S> {
    pub fn new(io: S) -> Self {
        Self { io, end: 0 }
    }

    /// The stream, with everything behind the head unread.
    pub fn into_inner(self) -> S {
        self.io
    }
}

impl<S: AsyncBufRead + Unpin> AsyncRead for OneHead<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        const END: &[u8] = b"\r\n\r\n";
        let this = self.get_mut();
        let bytes = ready!(Pin::new(&mut this.io).poll_fill_buf(cx))?;
        let mut n = 0;
        while n < bytes.len().min(buf.remaining()) && this.end < END.len() {
            // Nothing but a carriage return can begin the end.
            this.end = if bytes[n] == END[this.end] { this.end + 1 } else { usize::from(bytes[n] == END[0]) };
            n += 1;
        }
        buf.put_slice(&bytes[..n]);
        Pin::new(&mut this.io).consume(n);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for OneHead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
