//! Copies bytes both ways between a visitor (or upstream) and a session stream, unchanged.
//!
//! Half-close is passed on as half-close. Whatever else ends one side ends the other visibly: a reset stream is never
//! an EOF to the visitor, nor the other way round.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::buffer::{BUFFER_LEN, BufferPool};
use crate::stream::SessionStream;

/// How long a write may wait before the pair is given up.
pub const STALLED_AFTER: Duration = Duration::from_secs(60);

/// A byte stream that can be ended so that the other side sees an error.
pub trait Abort {
    /// Ends it abnormally.
    fn abort(self);
}

impl Abort for TcpStream {
    /// Closes with RST.
    fn abort(self) {
        // An error means that the connection is gone already.
        let _ = self.set_zero_linger();
    }
}

impl Abort for SessionStream {
    fn abort(self) {
        self.reset();
    }
}

/// Sees every byte that a splice moves. For tests that show what a relay can see.
pub trait Tap: Send + Sync {
    /// `bytes` are about to be passed on.
    fn pass(&self, direction: Direction, bytes: &[u8]);
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the outside into the session.
    Inward,
    /// From the session to the outside.
    Outward,
}

/// What a splice needs besides its two ends.
#[derive(Clone)]
pub struct SpliceContext {
    /// Where copy buffers come from.
    pub buffers: Arc<BufferPool>,
    /// Who watches.
    pub tap: Option<Arc<dyn Tap>>,
}

/// How a splice ended.
#[derive(Debug)]
pub struct Spliced {
    /// Bytes from the outside into the session.
    pub inward: u64,
    /// Bytes from the session to the outside.
    pub outward: u64,
    /// What ended it.
    pub end: SpliceEnd,
}

/// What ended a splice.
#[derive(Debug)]
pub enum SpliceEnd {
    /// Both sides ended cleanly.
    Finished,
    /// One side failed; the other was reset.
    Cut(io::Error),
    /// A write waited for [`STALLED_AFTER`]; both were reset.
    Stalled,
}

/// Copies both ways until both sides have ended, or one failed. Dropping the future resets both.
pub async fn splice<A, B>(outside: A, session: B, context: &SpliceContext) -> Spliced
where
    A: AsyncRead + AsyncWrite + Abort + Unpin,
    B: AsyncRead + AsyncWrite + Abort + Unpin,
{
    let (mut outside, mut session) = (AbortOnDrop(Some(outside)), AbortOnDrop(Some(session)));
    let mut inward = Half::new(Direction::Inward);
    let mut outward = Half::new(Direction::Outward);
    let mut patience = Patience::default();
    let end = poll_fn(|cx| {
        let (a, b) = (outside.get(), session.get());
        let one = inward.poll(cx, a, b, context)?;
        let (a, b) = (outside.get(), session.get());
        let other = outward.poll(cx, b, a, context)?;
        if one.is_ready() && other.is_ready() {
            return Poll::Ready(Ok(SpliceEnd::Finished));
        }
        ready!(patience.poll(cx, [inward.blocked_since, outward.blocked_since]));
        Poll::Ready(Ok(SpliceEnd::Stalled))
    })
    .await;
    for half in [&mut inward, &mut outward] {
        half.give_back(&context.buffers);
    }
    let end = end.unwrap_or_else(SpliceEnd::Cut);
    if matches!(end, SpliceEnd::Finished) {
        drop(outside.0.take());
        drop(session.0.take());
    }
    Spliced { inward: inward.bytes, outward: outward.bytes, end }
}

struct AbortOnDrop<T: Abort>(Option<T>);

impl<T: Abort> AbortOnDrop<T> {
    fn get(&mut self) -> &mut T {
        self.0.as_mut().expect("taken only at the end")
    }
}

impl<T: Abort> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        if let Some(stream) = self.0.take() {
            stream.abort();
        }
    }
}

/// One direction.
struct Half {
    direction: Direction,
    buffer: Option<Box<[u8]>>,
    pending: std::ops::Range<usize>,
    stage: Stage,
    bytes: u64,
    blocked_since: Option<Instant>,
}

enum Stage {
    Copying,
    /// The other side is told that nothing more comes...
    Ending,
    Ended,
    /// ...or that what came is not all.
    Failed(io::Error),
}

/// Reads until nothing more is there, or little room: a session brings what a visitor is sent in pieces of half a buffer.
/// What was read before an end or a failure is passed on before it.
fn fill<R: AsyncRead + Unpin>(cx: &mut Context<'_>, from: &mut R, read: &mut ReadBuf<'_>) -> Stage {
    while read.remaining() >= BUFFER_LEN / 2 {
        let before = read.filled().len();
        match Pin::new(&mut *from).poll_read(cx, read) {
            Poll::Pending => break,
            Poll::Ready(Err(error)) => return Stage::Failed(error),
            Poll::Ready(Ok(())) if read.filled().len() == before => return Stage::Ending,
            Poll::Ready(Ok(())) => {}
        }
    }
    Stage::Copying
}

impl Half {
    fn new(direction: Direction) -> Self {
        Self { direction, buffer: None, pending: 0..0, stage: Stage::Copying, bytes: 0, blocked_since: None }
    }

    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        context: &SpliceContext,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if !self.pending.is_empty() {
                let buffer = self.buffer.as_ref().expect("holds what is pending");
                match Pin::new(&mut *to).poll_write(cx, &buffer[self.pending.clone()]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(n)) => {
                        self.pending.start += n;
                        self.bytes += n as u64;
                        self.blocked_since = None;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        self.blocked_since.get_or_insert_with(Instant::now);
                        return Poll::Pending;
                    }
                }
                continue;
            }
            match &mut self.stage {
                Stage::Copying => {
                    let buffer = self.buffer.get_or_insert_with(|| context.buffers.take());
                    let mut read = ReadBuf::new(buffer);
                    self.stage = fill(cx, from, &mut read);
                    if read.filled().is_empty() && matches!(self.stage, Stage::Copying) {
                        self.give_back(&context.buffers);
                        return Poll::Pending;
                    }
                    if let (Some(tap), false) = (&context.tap, read.filled().is_empty()) {
                        tap.pass(self.direction, read.filled());
                    }
                    self.pending = 0..read.filled().len();
                }
                Stage::Failed(error) => {
                    return Poll::Ready(Err(std::mem::replace(error, io::ErrorKind::BrokenPipe.into())));
                }
                Stage::Ending => {
                    self.give_back(&context.buffers);
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.stage = Stage::Ended;
                }
                Stage::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    fn give_back(&mut self, buffers: &BufferPool) {
        if let Some(buffer) = self.buffer.take() {
            buffers.give_back(buffer);
        }
    }
}

/// Fires when a write has been blocked for [`STALLED_AFTER`]. Sets no timer while nothing is blocked, and few else.
#[derive(Default)]
struct Patience {
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn poll(&mut self, cx: &mut Context<'_>, blocked_since: [Option<Instant>; 2]) -> Poll<()> {
        let Some(oldest) = blocked_since.into_iter().flatten().min() else { return Poll::Pending };
        let deadline = oldest + STALLED_AFTER;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
