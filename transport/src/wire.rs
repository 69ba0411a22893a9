//! What lies below yamux: a WebSocket whose binary messages are its byte stream and whose texts are the control channel.
//!
//! Watches the frame headers in both directions, answers yamux pings itself (so that reading never waits for
//! writing) and gathers small writes into few messages. Never blocks one direction on the other, never buffers more
//! than about two messages each way.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;
use tokio::time::Instant;
use tunnler_protocol::control::{self, ControlError, ToClient, ToRelay};

use crate::frames::{Boundaries, HEADER_LEN, Kind, Step, Violation, pong};
use crate::link::Link;
use crate::websocket::{Failure, Incoming, MESSAGE, Transport, WebSocket};

/// The longest body that this side sends in one frame: with its header it fills a message.
pub(crate) const LONGEST_BODY: usize = MESSAGE - HEADER_LEN;

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

/// One connection's WebSocket with what is needed to feed yamux from it.
pub(crate) struct Wire<S, C> {
    websocket: WebSocket<S>,
    link: Arc<Link>,
    texts_in: mpsc::Sender<C>,
    texts_out: mpsc::Receiver<String>,
    ping_due: bool,
    last_words: VecDeque<String>,
    inbound_frames: Boundaries,
    /// Bytes of the completed header that yamux has not taken yet.
    header_left: usize,
    inbound_body: usize,
    outbound_frames: Boundaries,
    pong: Option<u32>,
    violation: Option<Violation>,
    refused_write: bool,
}

impl<S: Transport, C: Control> Wire<S, C> {
    pub fn new(
        websocket: WebSocket<S>,
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
            inbound_frames: Boundaries::default(),
            header_left: 0,
            inbound_body: 0,
            outbound_frames: Boundaries::default(),
            pong: None,
            violation: None,
            refused_write: false,
        }
    }

    /// When the last byte came.
    pub fn last_heard(&self) -> Instant {
        self.websocket.heard()
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
        self.websocket.next_turn();
    }

    /// Queues a WebSocket ping, before anything else that waits.
    pub fn ping(&mut self) {
        self.ping_due = true;
    }

    /// Gives memory back that no byte waits in. To be called now and then: after each flush it would cost throughput.
    pub fn give_back(&mut self) {
        self.websocket.give_back();
    }

    /// Queues a last text, after all others.
    pub fn say(&mut self, text: String) {
        self.last_words.push_back(text);
    }

    /// Sends everything gathered and queued.
    pub fn poll_flush_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_hand_over(cx))?;
        self.websocket.poll_flush(cx)
    }

    /// Sends everything and the closing frame.
    pub fn poll_close_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_hand_over(cx))?;
        self.websocket.poll_close(cx)
    }

    /// Hands texts and gathered bytes to the WebSocket. Texts first: a `reset` must not come after the frames that
    /// the end of its stream causes.
    fn poll_hand_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.websocket.poll_hand_over(cx))?;
            if std::mem::take(&mut self.ping_due) {
                self.websocket.ping();
            } else if let Some(stream) = self.link.next_reset() {
                self.websocket.text(&C::reset_text(stream));
            } else if let Poll::Ready(Some(text)) = self.texts_out.poll_recv(cx) {
                self.websocket.text(&text);
            } else if let Some(text) = self.last_words.pop_front() {
                self.websocket.text(&text);
            } else {
                self.answer_ping();
                if !self.websocket.seal() {
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Answers the last yamux ping, where a frame may begin.
    fn answer_ping(&mut self) {
        if self.outbound_frames.between_frames()
            && let Some(id) = self.pong.take()
        {
            self.websocket.gather(&pong(id));
        }
    }

    /// Takes in what is not for yamux; ready once something is, or when nothing more comes.
    pub fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_header(cx).map_ok(|_| ())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        if !ready!(self.poll_header(cx))? {
            return Poll::Ready(Ok(0));
        }
        if self.header_left > 0 {
            let n = self.header_left.min(out.len());
            let from = HEADER_LEN - self.header_left;
            out[..n].copy_from_slice(&self.inbound_frames.header_bytes()[from..from + n]);
            self.header_left -= n;
            return Poll::Ready(Ok(n));
        }
        let most = self.inbound_body.min(out.len());
        let Some(n) = ready!(self.poll_bytes(cx, &mut out[..most]))? else { return Poll::Ready(Ok(0)) };
        let step = self.inbound_frames.step(&out[..n]);
        debug_assert!(n == 0 || matches!(step, Ok(Step::Body(m)) if m == n));
        self.inbound_body -= n;
        Poll::Ready(Ok(n))
    }

    /// Reads until a frame for yamux has begun; false at the end.
    fn poll_header(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.header_left == 0 && self.inbound_body == 0 {
            let mut header = [0; HEADER_LEN];
            let missing = self.inbound_frames.missing();
            let Some(n) = ready!(self.poll_bytes(cx, &mut header[..missing]))? else {
                return Poll::Ready(Ok(false));
            };
            let header = match self.inbound_frames.step(&header[..n]) {
                Ok(Step::Header(_, header)) => header,
                Ok(Step::Partial(_) | Step::Body(_)) => continue,
                Err(violation) => return Poll::Ready(Err(self.violated(violation))),
            };
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
        Poll::Ready(Ok(true))
    }

    /// Reads at least one byte of yamux's stream and takes in the texts before it; `None` at the end.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<Option<usize>>> {
        loop {
            match ready!(self.websocket.poll_read(cx, out)) {
                Ok(Incoming::Bytes(n)) => return Poll::Ready(Ok(Some(n))),
                Ok(Incoming::Text(text)) => self.on_text(&text)?,
                Ok(Incoming::End) => return Poll::Ready(Ok(None)),
                Err(Failure::Violation(violation)) => return Poll::Ready(Err(self.violated(violation))),
                Err(Failure::Io(error)) => return Poll::Ready(Err(error)),
            }
        }
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
        if !self.websocket.has_room(bytes.len())
            && let Poll::Pending = self.poll_hand_over(cx)?
        {
            self.refused_write = true;
            return Poll::Pending;
        }
        self.answer_ping();
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
        self.websocket.gather(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn violated(&mut self, violation: Violation) -> io::Error {
        self.violation.get_or_insert(violation);
        io::Error::new(io::ErrorKind::InvalidData, violation)
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
