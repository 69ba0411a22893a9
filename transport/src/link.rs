//! What the streams of one connection, its driver and its handles share: the unread table, resets on their way out,
//! streams to be drained, and how it all ended.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::frames::{Header, Violation};
use crate::stream::SessionStream;
use crate::unread::{Fate, MemoryBudget, Opener, UnreadLimits, UnreadTable};

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// This side closed it, or the other side said so.
    #[error("closed")]
    Closed,
    /// It was asked for a sign of life and gave none.
    #[error("the other side fell silent")]
    Silent,
    /// The other side broke the protocol.
    #[error("protocol violation: {0}")]
    Violation(Violation),
    /// The connection broke.
    #[error("connection lost: {0}")]
    Broken(String),
}

impl End {
    /// One word for it: `closed`, `silent`, `violation` or `broken`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Silent => "silent",
            Self::Violation(_) => "violation",
            Self::Broken(_) => "broken",
        }
    }
}

/// Timing and size of a connection.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Most streams open at once; the relay never opens more.
    pub streams: u32,
    /// What may be unread in this connection.
    pub unread: UnreadLimits,
    /// What may be unread in all connections of the program.
    pub budget: Arc<MemoryBudget>,
}

#[derive(Debug)]
pub(crate) struct Link {
    table: Mutex<UnreadTable>,
    resets: Mutex<Vec<u32>>,
    drains: Mutex<Vec<SessionStream>>,
    /// Streams dropped here that yamux may not have noticed yet.
    dropped: AtomicUsize,
    open: AtomicUsize,
    close: Mutex<Option<CloseRequest>>,
    check: Mutex<Option<Duration>>,
    pub driver: AtomicWaker,
    pub permits: Semaphore,
    streams: usize,
    end: OnceLock<End>,
    ended: CancellationToken,
}

/// An orderly end that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct CloseRequest {
    pub last_words: Option<String>,
    pub deadline: Instant,
}

impl Link {
    pub fn new(opener: Opener, config: &LinkConfig) -> Arc<Self> {
        let permits = if opener == Opener::Us { config.streams as usize } else { 0 };
        Arc::new(Self {
            table: Mutex::new(UnreadTable::new(opener, config.unread, config.budget.clone())),
            resets: Mutex::default(),
            drains: Mutex::default(),
            dropped: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            close: Mutex::default(),
            check: Mutex::default(),
            driver: AtomicWaker::new(),
            permits: Semaphore::new(permits),
            streams: permits,
            end: OnceLock::new(),
            ended: CancellationToken::new(),
        })
    }

    pub fn open_streams(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Streams that this side has opened or is about to open.
    pub fn taken_streams(&self) -> usize {
        self.streams.saturating_sub(self.permits.available_permits())
    }

    /// A stream exists: opened by this side, or announced by a frame that passed.
    pub fn adopt(&self, stream: u32, opener: Opener) -> Option<Arc<Fate>> {
        let fate = match opener {
            Opener::Us => Some(self.table().opened(stream, Instant::now())),
            Opener::Them { .. } => self.table().fate(stream),
        };
        if fate.is_some() {
            self.open.fetch_add(1, Ordering::Relaxed);
        }
        fate
    }

    pub fn on_frame(&self, header: &Header) -> Result<(), Violation> {
        let given_up = self.table().on_frame(header, Instant::now())?;
        if given_up > 0 {
            metrics::counter!("tunnler_streams_given_up_total").increment(given_up as u64);
        }
        Ok(())
    }

    pub fn on_reset(&self, stream: u32) {
        self.table().on_reset(stream);
    }

    pub fn read(&self, stream: u32, n: usize) {
        self.table().read(stream, n, Instant::now());
    }

    /// Tells the other side that the stream ended abnormally.
    pub fn send_reset(&self, stream: u32) {
        lock(&self.resets).push(stream);
        self.driver.wake();
    }

    pub fn next_reset(&self) -> Option<u32> {
        lock(&self.resets).pop()
    }

    /// A stream whose other half is still open after ours ended: somebody must read it out.
    pub fn drain(&self, stream: SessionStream) {
        let mut drains = lock(&self.drains);
        if self.end.get().is_none() {
            drains.push(stream);
            drop(drains);
            self.driver.wake();
        } else {
            // Dropping it takes no lock on `drains` again: a draining stream is not drained twice.
            drop(drains);
            drop(stream);
        }
    }

    pub fn take_drains(&self) -> Vec<SessionStream> {
        std::mem::take(&mut *lock(&self.drains))
    }

    /// The stream's handle is gone.
    pub fn closed(&self, stream: u32) {
        self.table().closed(stream);
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.driver.wake();
    }

    /// Streams dropped since the last call.
    pub fn take_dropped(&self) -> usize {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    pub fn request_close(&self, request: CloseRequest) {
        lock(&self.close).get_or_insert(request);
        self.driver.wake();
    }

    pub fn close_request(&self) -> Option<CloseRequest> {
        lock(&self.close).clone()
    }

    /// Ends the connection unless the other side is heard within this time from now.
    pub fn request_check(&self, within: Duration) {
        *lock(&self.check) = Some(within);
        self.driver.wake();
    }

    pub fn take_check(&self) -> Option<Duration> {
        lock(&self.check).take()
    }

    pub fn take_last_words(&self) -> Option<String> {
        lock(&self.close).as_mut().and_then(|request| request.last_words.take())
    }

    pub fn end(&self) -> Option<&End> {
        self.end.get()
    }

    pub fn finish(&self, end: End) {
        let _ = self.end.set(end);
        self.permits.close();
        self.ended.cancel();
        drop(self.take_drains());
    }

    /// Returns once the connection is over.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    fn table(&self) -> MutexGuard<'_, UnreadTable> {
        lock(&self.table)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
