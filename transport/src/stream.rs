//! One visitor's stream inside a session.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead as _, AsyncWrite as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::link::Link;
use crate::unread::{Fate, Remote};

/// One visitor's byte stream. A clean end reads as EOF; a reset stream or a lost session reads as an error
/// (`ConnectionReset`, `ConnectionAborted`), never as EOF.
///
/// Dropping it is never silent: unless both sides ended, the other side sees a reset; if only this side ended, the
/// rest is first read out (≤ 30 s, ≤ 1 MiB).
pub struct SessionStream {
    inner: Option<yamux::Stream>,
    id: u32,
    link: Arc<Link>,
    fate: Arc<Fate>,
    ended_here: bool,
    at_drop: AtDrop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtDrop {
    Drain,
    Reset,
}

impl SessionStream {
    pub(crate) fn new(inner: yamux::Stream, id: u32, link: Arc<Link>, fate: Arc<Fate>) -> Self {
        Self { inner: Some(inner), id, link, fate, ended_here: false, at_drop: AtDrop::Drain }
    }

    /// Its number inside the connection.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Ends the stream abnormally: the other side sees an error, not an end.
    pub fn reset(mut self) {
        self.at_drop = AtDrop::Reset;
    }

    fn inner(&mut self) -> Pin<&mut yamux::Stream> {
        Pin::new(self.inner.as_mut().expect("taken only in drop"))
    }

    fn cut(&self) -> io::Error {
        match (self.fate.remote(), self.link.end()) {
            (Remote::Reset, _) => io::Error::new(io::ErrorKind::ConnectionReset, "the stream was reset"),
            (Remote::GivenUp, _) => io::Error::new(io::ErrorKind::ConnectionReset, "too much lay unread"),
            (_, Some(end)) => io::Error::new(io::ErrorKind::ConnectionAborted, end.clone()),
            (_, None) => io::Error::new(io::ErrorKind::ConnectionAborted, "the session was lost"),
        }
    }
}

impl AsyncRead for SessionStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.fate.reader.register(cx.waker());
        if self.fate.is_cut() {
            return Poll::Ready(Err(self.cut()));
        }
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let read = ready!(self.inner().poll_read(cx, buf.initialize_unfilled()));
        match read {
            Ok(0) if self.fate.remote() == Remote::Finished => Poll::Ready(Ok(())),
            Ok(0) | Err(_) => Poll::Ready(Err(self.cut())),
            Ok(n) => {
                buf.advance(n);
                self.link.read(self.id, n);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for SessionStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.fate.writer.register(cx.waker());
        if self.fate.is_cut() {
            return Poll::Ready(Err(self.cut()));
        }
        let written = ready!(self.inner().poll_write(cx, bytes));
        Poll::Ready(written.map_err(|_| self.cut()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(self.inner().poll_flush(cx));
        Poll::Ready(flushed.map_err(|_| self.cut()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended_here {
            return Poll::Ready(Ok(()));
        }
        self.fate.writer.register(cx.waker());
        if self.fate.is_cut() || self.link.end().is_some() {
            return Poll::Ready(Err(self.cut()));
        }
        let closed = ready!(self.inner().poll_close(cx));
        self.ended_here = closed.is_ok();
        Poll::Ready(closed.map_err(|_| self.cut()))
    }
}

impl Drop for SessionStream {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        match (self.fate.remote(), self.ended_here, self.at_drop) {
            (Remote::Reset, _, _) | (Remote::Finished, true, _) => {}
            (Remote::Open, true, AtDrop::Drain) if self.link.end().is_none() => {
                let mut rest = Self::new(inner, self.id, self.link.clone(), self.fate.clone());
                rest.ended_here = true;
                rest.at_drop = AtDrop::Reset;
                self.link.drain(rest);
                return;
            }
            // Before the frames that dropping `inner` causes.
            _ => self.link.send_reset(self.id),
        }
        drop(inner);
        self.link.closed(self.id);
    }
}

impl fmt::Debug for SessionStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStream").field("id", &self.id).field("remote", &self.fate.remote()).finish()
    }
}
