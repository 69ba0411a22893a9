//! Whether somebody is still there: whoever says nothing is asked by a PING, and is gone if nothing at all comes back.
//! Any byte counts, so a reader whose answers to PING are stuck behind what it reads is not taken for gone.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

use super::HEAD_DEADLINE;
use crate::proxy::body::Progress;

/// A connection that remembers when it last brought something.
pub(super) struct Heard<S> {
    io: S,
    last: Arc<Progress>,
}

impl<S> Heard<S> {
    pub(super) fn listen(io: S) -> (Self, Arc<Progress>) {
        let last = Arc::<Progress>::default();
        (Self { io, last: last.clone() }, last)
    }
}

/// Ends when nothing came for [`HEAD_DEADLINE`], and nothing for as long again after a PING.
pub(super) async fn lost(heard: Arc<Progress>, mut pings: PingPong) {
    loop {
        let quiet = heard.last() + HEAD_DEADLINE;
        sleep_until(quiet).await;
        if heard.last() + HEAD_DEADLINE > quiet {
            continue;
        }
        let asked = Instant::now();
        // Takes in the answer to the one before; while that one is missing no other is sent.
        let _ = futures::poll!(futures::future::poll_fn(|cx| pings.poll_pong(cx)));
        if let Err(error) = pings.send_ping(Ping::opaque()) {
            tracing::trace!(%error, "no PING");
        }
        sleep_until(asked + HEAD_DEADLINE).await;
        if heard.last() < asked {
            return;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.last.moved();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
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
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
