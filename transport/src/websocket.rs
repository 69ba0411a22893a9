//! The WebSocket of a session (RFC 6455, section 5), after tokio-tungstenite or hyper upgraded the connection. Frame
//! headers are read and written by tungstenite; payload is ours.
//!
//! A session's binary messages are one byte stream, so no message is ever put together: received bytes are copied once, from
//! where TLS decrypted them to where they are wanted, and bytes to send are framed where they were gathered. An idle
//! connection keeps no buffer. Reading never waits for writing.

mod head;
mod outbound;

use std::future::poll_fn;
use std::io::{self, Cursor};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tunnler_protocol::control;

pub(crate) use self::head::OneHead;
use self::outbound::Outbound;
use crate::frames::Violation;

/// Most payload in one message that is sent: with its header it fills two TLS records.
pub(crate) const MESSAGE: usize = 2 * 16 * 1024 - 16;
/// Longest binary message that is accepted.
const LONGEST_MESSAGE: usize = 512 * 1024;
/// Longest payload of a control frame (section 5.5).
const LONGEST_CONTROL: usize = 125;
/// Longest frame header (section 5.2).
const LONGEST_HEADER: usize = 14;
/// Frames taken in before other tasks get a turn.
const FRAMES_PER_TURN: usize = 128;

type Mask = [u8; 4];

/// Byte streams that sessions run over: TLS, which lends what it has decrypted.
pub trait Transport: AsyncBufRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncBufRead + AsyncWrite + Unpin + Send + 'static> Transport for T {}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// So many bytes of binary messages.
    Bytes(usize),
    /// A text message.
    Text(String),
    /// The other side closed.
    End,
}

/// Why nothing more can be read.
#[derive(Debug)]
pub(crate) enum Failure {
    Io(io::Error),
    Violation(Violation),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Io(error) => error,
            Failure::Violation(violation) => Self::new(io::ErrorKind::InvalidData, violation),
        }
    }
}

/// One side of a WebSocket.
#[derive(Debug)]
pub(crate) struct WebSocket<S> {
    io: S,
    role: Role,
    heard: Instant,
    /// What was read before the connection came here.
    ahead: Bytes,
    /// How much of what TLS lent is not taken yet.
    lent: usize,
    inbound: Inbound,
    outbound: Outbound,
    turn: usize,
}

impl<S: Transport> WebSocket<S> {
    /// `ahead` was read from `io` already and comes first.
    pub fn new(io: S, role: Role, ahead: Vec<u8>) -> Self {
        Self {
            io,
            role,
            heard: Instant::now(),
            ahead: ahead.into(),
            lent: 0,
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            turn: 0,
        }
    }

    /// When the last byte came.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// Allows the next turn of reading.
    pub fn next_turn(&mut self) {
        self.turn = 0;
    }

    /// Reads binary payload into `out`, or a whole text. With an empty `out`, `Bytes(0)` says that payload waits.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<Result<Incoming, Failure>> {
        loop {
            let Some(frame) = self.inbound.frame else {
                if self.inbound.closed || !ready!(self.poll_header(cx))? {
                    return Poll::Ready(Ok(Incoming::End));
                }
                continue;
            };
            if frame.left == 0 {
                if let Some(incoming) = self.finish(frame)? {
                    return Poll::Ready(Ok(incoming));
                }
                continue;
            }
            let bytes = ready!(poll_fill(&mut self.io, &self.ahead, &mut self.lent, &mut self.heard, cx))?;
            if bytes.is_empty() {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
            }
            let n = bytes.len().min(frame.left);
            let done = match frame.payload {
                Payload::Binary => {
                    let n = n.min(out.len());
                    out[..n].copy_from_slice(&bytes[..n]);
                    frame.unmask(&mut out[..n]);
                    n
                }
                Payload::Text => take_in(&mut self.inbound.text, &frame, &bytes[..n]),
                Payload::Control(_) => take_in(&mut self.inbound.control, &frame, &bytes[..n]),
            };
            self.consume(done);
            self.inbound.frame = Some(frame.after(done));
            if frame.payload == Payload::Binary {
                return Poll::Ready(Ok(Incoming::Bytes(done)));
            }
        }
    }

    /// Reads a frame's header; false when the stream ends instead.
    fn poll_header(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Failure>> {
        if self.turn >= FRAMES_PER_TURN {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            let bytes = ready!(poll_fill(&mut self.io, &self.ahead, &mut self.lent, &mut self.heard, cx))?;
            let inbound = &mut self.inbound;
            if bytes.is_empty() {
                return Poll::Ready(if inbound.have == 0 {
                    Ok(false)
                } else {
                    Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
                });
            }
            let before = inbound.have;
            let n = bytes.len().min(LONGEST_HEADER - before);
            inbound.header[before..before + n].copy_from_slice(&bytes[..n]);
            let mut cursor = Cursor::new(&inbound.header[..before + n]);
            let parsed = FrameHeader::parse(&mut cursor).map_err(|_| malformed())?;
            let Some((header, length)) = parsed else {
                inbound.have += n;
                self.consume(n);
                continue;
            };
            let used = cursor.position() as usize - before;
            inbound.have = 0;
            inbound.begin(&header, length, self.role)?;
            self.consume(used);
            self.turn += 1;
            return Poll::Ready(Ok(true));
        }
    }

    /// The whole payload of a frame is there.
    fn finish(&mut self, frame: Frame) -> Result<Option<Incoming>, Failure> {
        self.inbound.frame = None;
        match frame.payload {
            Payload::Text if frame.last => {
                let text = String::from_utf8(std::mem::take(&mut self.inbound.text));
                Ok(Some(Incoming::Text(text.map_err(|_| Failure::Violation(Violation::Control))?)))
            }
            Payload::Binary | Payload::Text | Payload::Control(Control::Pong) => Ok(None),
            Payload::Control(Control::Ping) => {
                self.outbound.pong = Some(std::mem::take(&mut self.inbound.control));
                Ok(None)
            }
            Payload::Control(_) => {
                self.inbound.closed = true;
                Ok(Some(Incoming::End))
            }
        }
    }

    fn consume(&mut self, n: usize) {
        if self.ahead.is_empty() {
            Pin::new(&mut self.io).consume(n);
            self.lent -= n;
        } else {
            self.ahead.advance(n);
        }
    }

    /// Whether `n` more bytes fit into the binary message that goes out next.
    pub fn has_room(&self, n: usize) -> bool {
        self.outbound.has_room(n, self.role)
    }

    /// Adds to the binary message that goes out next.
    pub fn gather(&mut self, bytes: &[u8]) {
        self.outbound.gather(bytes, self.role);
    }

    /// Makes what is gathered the next message; false if nothing is. Only once everything before it was handed over.
    pub fn seal(&mut self) -> bool {
        self.outbound.seal(self.role)
    }

    /// Queues a text message, before what is gathered.
    pub fn text(&mut self, text: &str) {
        self.outbound.push(OpCode::Data(Data::Text), text.as_bytes(), self.role);
    }

    /// Queues a ping, before what is gathered.
    pub fn ping(&mut self) {
        self.outbound.push(OpCode::Control(Control::Ping), &[], self.role);
    }

    /// Hands everything queued to TLS.
    pub fn poll_hand_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while let rest @ [_, ..] = self.outbound.rest() {
                match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    n => self.outbound.sent(n),
                }
            }
            let Some(payload) = self.outbound.pong.take() else { return Poll::Ready(Ok(())) };
            self.outbound.push(OpCode::Control(Control::Pong), &payload, self.role);
        }
    }

    /// Sends everything queued.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_hand_over(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Sends everything queued and the closing frame.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.outbound.closed, true) {
            let normal: u16 = CloseCode::Normal.into();
            self.outbound.push(OpCode::Control(Control::Close), &normal.to_be_bytes(), self.role);
        }
        self.poll_flush(cx)
    }

    /// Gives memory back that no byte waits in. To be called now and then: after each flush it would cost throughput.
    pub fn give_back(&mut self) {
        self.outbound.give_back();
    }

    /// Sends a text message.
    pub async fn say(&mut self, text: &str) -> io::Result<()> {
        self.text(text);
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// The next message, of which only texts are read; `Bytes` stands for a binary one.
    pub async fn hear(&mut self) -> Result<Incoming, Failure> {
        poll_fn(|cx| {
            self.next_turn();
            self.poll_read(cx, &mut [])
        })
        .await
    }

    /// Closes and waits for the other side to do so, too: our last words would be lost if unread bytes were left.
    pub async fn close(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_close(cx)).await?;
        let mut unread = [0; 512];
        let next = poll_fn(|cx| {
            self.next_turn();
            while let Incoming::Bytes(_) | Incoming::Text(_) = ready!(self.poll_read(cx, &mut unread))? {}
            Poll::Ready(Ok(()))
        });
        next.await.map_err(|failure: Failure| failure.into())
    }
}

/// What can be read without waiting: bytes read ahead first, then what TLS has. Empty at the end.
fn poll_fill<'a, S: Transport>(
    io: &'a mut S,
    ahead: &'a [u8],
    lent: &mut usize,
    heard: &mut Instant,
    cx: &mut Context<'_>,
) -> Poll<io::Result<&'a [u8]>> {
    if !ahead.is_empty() {
        return Poll::Ready(Ok(ahead));
    }
    let bytes = ready!(Pin::new(io).poll_fill_buf(cx))?;
    if *lent == 0 && !bytes.is_empty() {
        *heard = Instant::now();
    }
    *lent = bytes.len();
    Poll::Ready(Ok(bytes))
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payload {
    Binary,
    Text,
    Control(Control),
}

/// The frame whose payload is being read.
#[derive(Clone, Copy, Debug)]
struct Frame {
    payload: Payload,
    last: bool,
    mask: Option<Mask>,
    left: usize,
    /// Payload bytes taken already.
    at: usize,
}

impl Frame {
    fn after(self, n: usize) -> Self {
        Self { left: self.left - n, at: self.at + n, ..self }
    }

    /// Takes the mask off the payload's next bytes.
    fn unmask(&self, bytes: &mut [u8]) {
        if let Some(mask) = self.mask {
            apply_mask(bytes, mask, self.at);
        }
    }
}

/// Collects payload; returns how much.
fn take_in(collected: &mut Vec<u8>, frame: &Frame, bytes: &[u8]) -> usize {
    let from = collected.len();
    collected.extend_from_slice(bytes);
    frame.unmask(&mut collected[from..]);
    bytes.len()
}

#[derive(Debug, Default)]
struct Inbound {
    header: [u8; LONGEST_HEADER],
    have: usize,
    frame: Option<Frame>,
    /// A message of which more frames must follow.
    unfinished: Option<Payload>,
    /// Length of that message so far.
    length: usize,
    text: Vec<u8>,
    control: Vec<u8>,
    closed: bool,
}

impl Inbound {
    /// Judges a header.
    fn begin(&mut self, header: &FrameHeader, length: u64, receiver: Role) -> Result<(), Failure> {
        if header.rsv1 || header.rsv2 || header.rsv3 || header.mask.is_some() != (receiver == Role::Server) {
            return Err(malformed());
        }
        let length = usize::try_from(length).map_err(|_| malformed())?;
        let payload = match (header.opcode, self.unfinished) {
            (OpCode::Data(Data::Binary), None) => Payload::Binary,
            (OpCode::Data(Data::Text), None) => Payload::Text,
            (OpCode::Data(Data::Continue), Some(payload)) => payload,
            (OpCode::Control(control), _) if header.is_final && length <= LONGEST_CONTROL => {
                self.control.clear();
                Payload::Control(control)
            }
            _ => return Err(malformed()),
        };
        if !matches!(payload, Payload::Control(_)) {
            self.length = self.length.saturating_add(length);
            match payload {
                Payload::Text if self.length > control::MAX_LEN => {
                    return Err(Failure::Violation(Violation::Control));
                }
                _ if self.length > LONGEST_MESSAGE => return Err(malformed()),
                _ => {}
            }
            self.unfinished = (!header.is_final).then_some(payload);
            if header.is_final {
                self.length = 0;
            }
        }
        self.frame = Some(Frame { payload, last: header.is_final, mask: header.mask, left: length, at: 0 });
        Ok(())
    }
}

fn malformed() -> Failure {
    Failure::Violation(Violation::WebSocket)
}

/// Puts a mask on, or takes it off, a part of a payload that begins at `at` (section 5.3).
fn apply_mask(bytes: &mut [u8], mask: Mask, at: usize) {
    let mask: Mask = std::array::from_fn(|i| mask[(at + i) % mask.len()]);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests;
