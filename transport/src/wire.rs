//! The WebSocket below yamux: binary frames are its byte stream, text frames are the control channel.
//!
//! Watches the frame headers in both directions, answers yamux pings itself (so that reading never waits for
//! writing) and gathers small writes into few messages. Never blocks one direction on the other, never buffers more
//! than about [`CHUNK`] each way.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};
use tunnler_protocol::control::{self, ControlError, ToClient, ToRelay};

use crate::frames::{Boundaries, HEADER_LEN, Kind, Step, Violation, pong};
use crate::link::Link;

/// Bytes gathered into one message: with its WebSocket header (14 at most) it fills two TLS records. Both ends keep
/// buffers of this size after their first busy moment, so it weighs memory against throughput.
const CHUNK: usize = 2 * 16 * 1024 - 16;
/// The longest body that this side sends in one frame: with its header it fills a message.
pub(crate) const LONGEST_BODY: usize = CHUNK - HEADER_LEN;
/// Longest message accepted.
const MAX_MESSAGE: usize = 512 * 1024;
/// WebSocket messages taken in before other tasks get a turn.
const MESSAGES_PER_TURN: usize = 128;

/// Buffers of a session's WebSocket: small while idle, bounded always.
pub(crate) fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        // Small writes are gathered here already.
        .write_buffer_size(0)
        .max_write_buffer_size(4 * CHUNK)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

/// Messages that one side receives.
pub(crate) trait Control: Sized + Send + 'static {
    fn parse(text: &str) -> Result<Option<Self>, ControlError>;
    /// The stream, if this is a `reset`.
    fn reset(&self) -> Option<u32>;
    /// The text of a `reset` that the receiver of `Self` sends.
    fn reset_text(stream: u32) -> String;
    /// Last words to a peer that broke the protocol.
    fn farewell(violation: Violation) -> Option<String>;
}

impl Control for ToClient {
    fn parse(text: &str) -> Result<Option<Self>, ControlError> {
        ToClient::parse(text)
    }

    fn reset(&self) -> Option<u32> {
        if let Self::Reset(reset) = self { Some(reset.stream) } else { None }
    }

    fn reset_text(stream: u32) -> String {
        ToRelay::Reset(control::Reset { stream }).to_text()
    }

    fn farewell(_: Violation) -> Option<String> {
        None
    }
}

impl Control for ToRelay {
    fn parse(text: &str) -> Result<Option<Self>, ControlError> {
        ToRelay::parse(text)
    }

    fn reset(&self) -> Option<u32> {
        if let Self::Reset(reset) = self { Some(reset.stream) } else { None }
    }

    fn reset_text(stream: u32) -> String {
        ToClient::Reset(control::Reset { stream }).to_text()
    }

    fn farewell(violation: Violation) -> Option<String> {
        let closing = control::Closing { code: control::CloseCode::Violation, text: violation.to_string() };
        Some(ToClient::Closing(closing).to_text())
    }
}

/// Byte streams that sessions run over.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for T {}

/// A byte stream that remembers when it last heard something.
#[derive(Debug)]
pub(crate) struct Heard<S> {
    io: S,
    last: Instant,
}

impl<S> Heard<S> {
    pub fn new(io: S) -> Self {
        Self { io, last: Instant::now() }
    }
}

/// One connection's WebSocket with what is needed to feed yamux from it.
pub(crate) struct Wire<S, C> {
    websocket: WebSocketStream<Heard<S>>,
    link: Arc<Link>,
    texts_in: mpsc::Sender<C>,
    texts_out: mpsc::Receiver<String>,
    ping_due: bool,
    last_words: VecDeque<String>,
    inbound: Bytes,
    inbound_frames: Boundaries,
    /// Bytes of the completed header that yamux has not taken yet.
    header_left: usize,
    inbound_body: usize,
    outbound: BytesMut,
    outbound_frames: Boundaries,
    pong: Option<u32>,
    violation: Option<Violation>,
    ended: bool,
    refused_write: bool,
    turn: usize,
}

impl<S: Transport, C: Control> Wire<S, C> {
    pub fn new(
        websocket: WebSocketStream<Heard<S>>,
        link: Arc<Link>,
        texts_in: mpsc::Sender<C>,
        texts_out: mpsc::Receiver<String>,
    ) -> Self {
        Self {
            websocket,
            link,
            texts_in,
            texts_out,
            ping_due: false,
            last_words: VecDeque::new(),
            inbound: Bytes::new(),
            inbound_frames: Boundaries::default(),
            header_left: 0,
            inbound_body: 0,
            outbound: BytesMut::new(),
            outbound_frames: Boundaries::default(),
            pong: None,
            violation: None,
            ended: false,
            refused_write: false,
            turn: 0,
        }
    }

    /// When the last byte came.
    pub fn last_heard(&self) -> Instant {
        self.websocket.get_ref().last
    }

    /// What the other side broke, if it did.
    pub fn violation(&self) -> Option<Violation> {
        self.violation
    }

    /// Whether a write was refused since the last call; then yamux must be polled again after a flush.
    pub fn take_refused_write(&mut self) -> bool {
        std::mem::take(&mut self.refused_write)
    }

    /// Allows the next turn of reading.
    pub fn next_turn(&mut self) {
        self.turn = 0;
    }

    /// Queues a WebSocket ping, before anything else that waits.
    pub fn ping(&mut self) {
        self.ping_due = true;
    }

    /// Gives memory back that no byte waits in. To be called now and then: after each flush it would cost throughput.
    pub fn give_back(&mut self) {
        if self.outbound.is_empty() {
            self.outbound = BytesMut::new();
        }
    }

    /// Queues a last text, after all others.
    pub fn say(&mut self, text: String) {
        self.last_words.push_back(text);
    }

    /// Sends everything gathered and queued.
    pub fn poll_flush_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_hand_over(cx))?;
        Pin::new(&mut self.websocket).poll_flush(cx).map_err(broken)
    }

    /// Sends everything and the closing frame.
    pub fn poll_close_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_hand_over(cx))?;
        Pin::new(&mut self.websocket).poll_close(cx).map_err(broken)
    }

    /// Hands texts and gathered bytes to the WebSocket. Texts first: a `reset` must not come after the frames that
    /// the end of its stream causes.
    fn poll_hand_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(Pin::new(&mut self.websocket).poll_ready(cx)).map_err(broken)?;
            let message = if std::mem::take(&mut self.ping_due) {
                Message::Ping(Bytes::new())
            } else if let Some(stream) = self.link.next_reset() {
                Message::text(C::reset_text(stream))
            } else if let Poll::Ready(Some(text)) = self.texts_out.poll_recv(cx) {
                Message::text(text)
            } else if let Some(text) = self.last_words.pop_front() {
                Message::text(text)
            } else {
                if self.outbound_frames.between_frames()
                    && let Some(id) = self.pong.take()
                {
                    self.outbound.extend_from_slice(&pong(id));
                }
                if self.outbound.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                Message::Binary(self.outbound.split().freeze())
            };
            Pin::new(&mut self.websocket).start_send(message).map_err(broken)?;
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if self.header_left > 0 {
                let n = self.header_left.min(out.len());
                let from = HEADER_LEN - self.header_left;
                out[..n].copy_from_slice(&self.inbound_frames.header_bytes()[from..from + n]);
                self.header_left -= n;
                return Poll::Ready(Ok(n));
            }
            if self.inbound.is_empty() {
                // The WebSocket reads the next message into the same memory only if nobody holds the last one.
                self.inbound = Bytes::new();
                if self.ended || !ready!(self.poll_message(cx))? {
                    self.ended = true;
                    return Poll::Ready(Ok(0));
                }
                continue;
            }
            if self.inbound_body > 0 {
                let n = self.inbound_body.min(out.len()).min(self.inbound.len());
                let step = self.inbound_frames.step(&self.inbound[..n]);
                debug_assert!(matches!(step, Ok(Step::Body(m)) if m == n));
                self.inbound.copy_to_slice(&mut out[..n]);
                self.inbound_body -= n;
                return Poll::Ready(Ok(n));
            }
            match self.inbound_frames.step(&self.inbound) {
                Ok(Step::Partial(n) | Step::Body(n)) => self.inbound.advance(n),
                Ok(Step::Header(n, header)) => {
                    self.inbound.advance(n);
                    if header.asks_pong() {
                        self.pong = Some(header.value);
                        continue;
                    }
                    if let Err(violation) = self.link.on_frame(&header) {
                        return Poll::Ready(Err(self.violated(violation)));
                    }
                    self.header_left = HEADER_LEN;
                    self.inbound_body = header.body_len();
                }
                Err(violation) => return Poll::Ready(Err(self.violated(violation))),
            }
        }
    }

    /// Takes in the next message; false at the end.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.turn >= MESSAGES_PER_TURN {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.turn += 1;
        match ready!(Pin::new(&mut self.websocket).poll_next(cx)) {
            Some(Ok(Message::Binary(bytes))) => self.inbound = bytes,
            Some(Ok(Message::Text(text))) => self.on_text(text.as_str())?,
            Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(false)),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(broken(error))),
        }
        Poll::Ready(Ok(true))
    }

    fn on_text(&mut self, text: &str) -> io::Result<()> {
        match C::parse(text) {
            Err(_) => Err(self.violated(Violation::Control)),
            Ok(None) => Ok(()),
            Ok(Some(message)) => match message.reset() {
                Some(stream) => {
                    self.link.on_reset(stream);
                    Ok(())
                }
                None => match self.texts_in.try_send(message) {
                    Err(mpsc::error::TrySendError::Full(_)) => Err(self.violated(Violation::ControlFlood)),
                    // Nobody listens any more: the session is on its way out.
                    Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
                },
            },
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.outbound.is_empty()
            && self.outbound.len() + bytes.len() > CHUNK
            && let Poll::Pending = self.poll_hand_over(cx)?
        {
            self.refused_write = true;
            return Poll::Pending;
        }
        if self.outbound_frames.between_frames()
            && let Some(id) = self.pong.take()
        {
            self.outbound.extend_from_slice(&pong(id));
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = match self.outbound_frames.step(rest).map_err(io::Error::other)? {
                Step::Partial(n) | Step::Body(n) => n,
                // yamux says goodbye only when it refuses a frame: sessions end by the WebSocket's close.
                Step::Header(_, header) if header.kind == Kind::GoAway => {
                    return Poll::Ready(Err(self.violated(Violation::FlowControl)));
                }
                Step::Header(n, _) => n,
            };
            rest = &rest[n..];
        }
        self.outbound.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn violated(&mut self, violation: Violation) -> io::Error {
        self.violation.get_or_insert(violation);
        io::Error::new(io::ErrorKind::InvalidData, violation)
    }
}

fn broken(error: WebSocketError) -> io::Error {
    match error {
        WebSocketError::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// The wire as yamux sees it; the driver keeps another handle. One task uses both, so the lock is never contended.
pub(crate) struct SharedWire<S, C>(pub Arc<Mutex<Wire<S, C>>>);

impl<S: Transport, C: Control> SharedWire<S, C> {
    pub fn lock(&self) -> std::sync::MutexGuard<'_, Wire<S, C>> {
        self.0.lock().expect("no panic while locked")
    }
}

impl<S, C> Clone for SharedWire<S, C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Transport, C: Control> futures::AsyncRead for SharedWire<S, C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        self.lock().poll_read(cx, out)
    }
}

impl<S: Transport, C: Control> futures::AsyncWrite for SharedWire<S, C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.lock().poll_write(cx, bytes)
    }

    /// yamux flushes after every frame; the driver does it once everybody has written.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.last = Instant::now();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
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
