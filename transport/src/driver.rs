//! Drives one connection: yamux over the wire, pings, opening, accepting, draining, closing.
//!
//! One future, polled by one task. It alone touches yamux and the WebSocket.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{AsyncWrite, Stream};
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep};

use crate::link::{End, Link, LinkConfig};
use crate::liveness::{Duty, Liveness};
use crate::stream::SessionStream;
use crate::unread::Opener;
use crate::websocket::{Transport, WebSocket};
use crate::wire::{Control, LONGEST_BODY, SharedWire, Wire};

/// A stream is read out at most this long after this side ended its half...
const DRAIN_FOR: Duration = Duration::from_secs(30);
/// ...and at most this far, in bytes.
const DRAIN_AT_MOST: u64 = 1 << 20;
/// How long last words may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// Control messages waiting in each direction.
pub(crate) const CONTROL_QUEUE: usize = 32;

/// By how much the window of busy streams may grow beyond yamux's 256 KiB, in all: at a round trip of 100 ms one stream
/// moves five to eight times this a second. One paused download holds at most this much, half of what a connection may
/// leave unread.
const WINDOW_GROWTH: usize = 16 << 20;
const YAMUX_CREDIT: usize = yamux::DEFAULT_CREDIT as usize;

/// The ends of a connection's queues that its user holds.
pub(crate) struct Ends<C> {
    pub link: Arc<Link>,
    pub texts_in: mpsc::Receiver<C>,
    pub texts_out: mpsc::Sender<String>,
    pub opens: mpsc::Sender<OpenRequest>,
    /// Streams that the other side opened; `None` where it opens none.
    pub accepted: Option<mpsc::Receiver<SessionStream>>,
}

pub(crate) type OpenRequest = oneshot::Sender<SessionStream>;

/// Sets up a connection; the future drives it until it ends.
pub(crate) fn start<S: Transport, C: Control>(
    websocket: WebSocket<S>,
    opener: Opener,
    config: &LinkConfig,
) -> (Ends<C>, impl Future<Output = End> + Send + 'static) {
    // The acceptor allows twice what the opener opens: its own count of live streams runs late.
    let at_most = 2 * config.streams as usize;
    let opener = if opener == Opener::Us { opener } else { Opener::Them { at_most } };
    let link = Link::new(opener, config);
    let (texts_in, texts_in_rx) = mpsc::channel(CONTROL_QUEUE);
    let (texts_out_tx, texts_out) = mpsc::channel(CONTROL_QUEUE);
    let (opens_tx, opens) = mpsc::channel(CONTROL_QUEUE);
    let (accepted, accepted_rx) = match opener {
        Opener::Us => (None, None),
        Opener::Them { at_most } => {
            let (sender, receiver) = mpsc::channel(at_most);
            (Some(sender), Some(receiver))
        }
    };
    let wire = SharedWire(Arc::new(Mutex::new(Wire::new(websocket, link.clone(), texts_in, texts_out))));
    let mode = if opener == Opener::Us { yamux::Mode::Server } else { yamux::Mode::Client };
    let now = Instant::now();
    let liveness = Liveness::new(opener, now);
    let first_look = liveness.due(now, now);
    let driver = Driver {
        connection: yamux::Connection::new(wire.clone(), yamux_config(at_most), mode),
        wire: wire.clone(),
        link: link.clone(),
        opener,
        opens,
        accepted,
        drains: FuturesUnordered::new(),
        released_later: 0,
        liveness,
        timer: Box::pin(tokio::time::sleep_until(first_look)),
    };
    let ends =
        Ends { link, texts_in: texts_in_rx, texts_out: texts_out_tx, opens: opens_tx, accepted: accepted_rx };
    (ends, run(driver, wire))
}

fn yamux_config(max_streams: usize) -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_connection_receive_window(None);
    config.set_max_num_streams(max_streams);
    config.set_max_connection_receive_window(Some(max_streams * YAMUX_CREDIT + WINDOW_GROWTH));
    config.set_split_send_size(LONGEST_BODY);
    config
}

async fn run<S: Transport, C: Control>(mut driver: Driver<S, C>, wire: SharedWire<S, C>) -> End {
    let link = FinishOnDrop(driver.link.clone());
    let end = (&mut driver).await;
    link.0.finish(end.clone());
    // Wakes every stream of the connection.
    drop(driver);
    if let End::Violation(violation) = end
        && let Some(text) = C::farewell(violation)
    {
        wire.lock().say(text);
    }
    if !matches!(end, End::Broken(_) | End::Silent) {
        let goodbye = std::future::poll_fn(|cx| wire.lock().poll_close_all(cx));
        let _ = tokio::time::timeout(FAREWELL, goodbye).await;
    }
    end
}

/// Whoever waits for the end hears of it even when the task is aborted.
struct FinishOnDrop(Arc<Link>);

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        self.0.finish(End::Closed);
    }
}

struct Driver<S: Transport, C: Control> {
    connection: yamux::Connection<SharedWire<S, C>>,
    wire: SharedWire<S, C>,
    link: Arc<Link>,
    opener: Opener,
    opens: mpsc::Receiver<OpenRequest>,
    accepted: Option<mpsc::Sender<SessionStream>>,
    drains: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>>,
    released_later: usize,
    liveness: Liveness,
    timer: Pin<Box<Sleep>>,
}

impl<S: Transport, C: Control> Future for Driver<S, C> {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let this = &mut *self;
        this.link.driver.register(cx.waker());
        this.begin_check(cx);
        match this.turn(cx) {
            Ok(()) if this.drained(cx) => Poll::Ready(End::Closed),
            Ok(()) => {
                this.follow_streams(cx);
                ready!(this.poll_clock(cx));
                Poll::Ready(End::Silent)
            }
            Err(end) => Poll::Ready(end),
        }
    }
}

impl<S: Transport, C: Control> Driver<S, C> {
    /// Everything that can be done without waiting.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        if let Some(text) = self.link.take_last_words() {
            self.wire.lock().say(text);
        }
        for stream in self.link.take_drains() {
            self.drains.push(Box::pin(drain(stream)));
        }
        // Seldom any; asking an empty set costs a session at rest more than anything else here.
        if !self.drains.is_empty() {
            while let Poll::Ready(Some(())) = Pin::new(&mut self.drains).poll_next(cx) {}
        }
        self.released_later += self.link.take_dropped();
        self.open(cx)?;
        self.wire.lock().next_turn();
        loop {
            if !self.is_at_rest(cx)? {
                self.accept(cx)?;
            }
            let mut wire = self.wire.lock();
            match wire.poll_flush_all(cx) {
                Poll::Ready(Err(error)) => return Err(broken(&error)),
                Poll::Pending => return Ok(()),
                // yamux was refused and waits for nobody to wake it: ask it again.
                Poll::Ready(Ok(())) if wire.take_refused_write() => {}
                Poll::Ready(Ok(())) => break,
            }
        }
        // Nothing waits to be written, so yamux has taken note of every dropped stream.
        let released = std::mem::take(&mut self.released_later);
        if self.opener == Opener::Us && released > 0 {
            self.link.permits.add_permits(released);
        }
        Ok(())
    }

    /// Whether yamux has nothing to do: no stream is open, none was dropped since it was last asked, and nothing has come
    /// for it. Left alone it measures no round trips, which an idle session has no use for.
    fn is_at_rest(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.link.open_streams() > 0 || self.released_later > 0 {
            return Ok(false);
        }
        let inbound = self.wire.lock().poll_inbound(cx);
        match inbound {
            Poll::Pending => Ok(true),
            Poll::Ready(Ok(())) => Ok(false),
            Poll::Ready(Err(error)) => Err(self.failed(yamux::ConnectionError::Io(error))),
        }
    }

    fn open(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        while let Poll::Ready(Some(reply)) = self.opens.poll_recv(cx) {
            match self.connection.poll_new_outbound(cx) {
                Poll::Ready(Ok(stream)) => {
                    let id = stream_id(&stream);
                    let fate = self.link.adopt(id, Opener::Us).expect("we open");
                    // A caller that gave up drops the stream, which counts it again.
                    let _ = reply.send(SessionStream::new(stream, id, self.link.clone(), fate));
                }
                Poll::Ready(Err(error)) => return Err(self.failed(error)),
                // Cannot be: permits keep us below yamux's own bounds. The caller is told by the dropped reply.
                Poll::Pending => self.released_later += 1,
            }
        }
        Ok(())
    }

    /// Lets yamux read and write until it must wait; takes in the streams it brings.
    fn accept(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        while let Poll::Ready(next) = self.connection.poll_next_inbound(cx) {
            let mut stream = match next {
                Some(Ok(stream)) => stream,
                Some(Err(error)) => return Err(self.failed(error)),
                None => return Err(self.failed(yamux::ConnectionError::Closed)),
            };
            // The acknowledgement goes out at once: unacknowledged streams would block the opener.
            let acknowledged = Pin::new(&mut stream).poll_write(cx, &[]);
            let id = stream_id(&stream);
            // Known since its first frame passed the wire. From here on dropping the stream resets it.
            let Some(fate) = self.link.adopt(id, self.opener) else { continue };
            let stream = SessionStream::new(stream, id, self.link.clone(), fate);
            if let (Poll::Ready(Ok(_)), Some(accepted)) = (acknowledged, &self.accepted) {
                let _ = accepted.try_send(stream);
            }
        }
        Ok(())
    }

    /// Whether an orderly end was asked for and nothing is left to wait for.
    fn drained(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(request) = self.link.close_request() else { return false };
        if self.link.open_streams() == 0 || Instant::now() >= request.deadline {
            return true;
        }
        self.wake_by(request.deadline, cx);
        false
    }

    /// Pings at once when somebody doubts that the other side is still there.
    fn begin_check(&mut self, cx: &mut Context<'_>) {
        let Some(within) = self.link.take_check() else { return };
        let (heard, now) = (self.heard(), Instant::now());
        self.liveness.doubt(within, heard, now);
        self.wire.lock().ping();
        self.wake_by(self.liveness.due(heard, now), cx);
    }

    /// A connection with streams is looked after more closely. One without keeps nothing, and whatever it hears moves its timer,
    /// so that it need not wake for that.
    fn follow_streams(&mut self, cx: &mut Context<'_>) {
        let busy = self.link.open_streams() > 0;
        if busy && self.liveness.is_busy() {
            return;
        }
        let (heard, now) = (self.heard(), Instant::now());
        if busy != self.liveness.is_busy() {
            self.liveness.set_busy(busy, now);
        }
        let due = self.liveness.due(heard, now);
        if busy {
            self.wake_by(due, cx);
        } else {
            self.wire.lock().give_back();
            let later = due.max(self.timer.deadline());
            self.timer.as_mut().reset(later);
        }
    }

    /// Lets the timer fire no later than this.
    fn wake_by(&mut self, at: Instant, cx: &mut Context<'_>) {
        if at < self.timer.deadline() {
            self.timer.as_mut().reset(at);
            let _ = self.timer.as_mut().poll(cx);
        }
    }

    fn heard(&self) -> Instant {
        self.wire.lock().last_heard()
    }

    /// Pings when it is time; ready when the other side has been silent for too long.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let (heard, now) = (self.heard(), Instant::now());
            match self.liveness.look(heard, now) {
                Duty::End => return Poll::Ready(()),
                Duty::Ask => {
                    self.wire.lock().ping();
                    let _ = self.wire.lock().poll_flush_all(cx);
                }
                Duty::Wait => {}
            }
            self.wire.lock().give_back();
            let mut next = self.liveness.due(heard, now);
            if let Some(request) = self.link.close_request() {
                next = next.min(request.deadline.max(now + Duration::from_millis(1)));
                if now >= request.deadline {
                    cx.waker().wake_by_ref();
                }
            }
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }

    fn failed(&self, error: yamux::ConnectionError) -> End {
        if let Some(violation) = self.wire.lock().violation() {
            return End::Violation(violation);
        }
        match error {
            yamux::ConnectionError::Closed => End::Closed,
            other => End::Broken(other.to_string()),
        }
    }
}

/// Reads a stream out whose own half has ended. Dropping it before its end resets it.
async fn drain(mut stream: SessionStream) {
    let mut sink = tokio::io::sink();
    let mut limited = (&mut stream).take(DRAIN_AT_MOST);
    let _ = tokio::time::timeout(DRAIN_FOR, tokio::io::copy(&mut limited, &mut sink)).await;
}

fn stream_id(stream: &yamux::Stream) -> u32 {
    stream.id().val()
}

fn broken(error: &io::Error) -> End {
    End::Broken(error.to_string())
}

#[cfg(test)]
mod tests;
