//! Worker threads, each with a runtime of its own: a session lives on one of them, with the visitors it serves.
//!
//! Between the tasks of one thread a byte costs no wake-up of another. On a runtime whose tasks may run on any thread, those
//! wake-ups and the caches that go cold with them cost more than everything else a tunnel does.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::net::TcpStream;
use tokio::runtime::{self, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::stream::SessionStream;

thread_local! {
    static HERE: RefCell<Worker> = const { RefCell::new(Worker(None)) };
}

/// A program's workers. They end when this is dropped, and with them what runs there; so nothing that runs there may own it.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    turn: AtomicUsize,
    _stop: DropGuard,
}

/// One of them, or whatever runtime a task is in. Whoever lives there keeps a clone: that is how work is spread.
#[derive(Clone, Debug)]
pub struct Worker(Option<Arc<Handle>>);

impl Workers {
    /// For so many sessions: one each, but no more than the machine has cores.
    pub fn for_sessions(sessions: usize) -> io::Result<Self> {
        Self::start(thread::available_parallelism().map_or(1, usize::from).min(sessions))
    }

    /// So many; with none, everything stays on the runtime where it began.
    pub fn start(threads: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let start = |number| Worker::start(number, stop.clone());
        let workers = (0..threads).map(start).collect::<io::Result<_>>();
        Ok(Self { _stop: stop.drop_guard(), workers: workers?, turn: AtomicUsize::new(0) })
    }

    /// The one on which the fewest live.
    pub fn least_busy(&self) -> Worker {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.workers.len().max(1);
        let (late, early) = self.workers.split_at(turn);
        early.iter().chain(late).min_by_key(|worker| worker.residents()).cloned().unwrap_or(Worker(None))
    }
}

impl Worker {
    fn start(number: usize, stop: CancellationToken) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let worker = Self(Some(Arc::new(runtime.handle().clone())));
        let here = worker.clone();
        thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            HERE.set(here);
            runtime.block_on(stop.cancelled());
        })?;
        Ok(worker)
    }

    /// Where the caller runs.
    pub fn here() -> Self {
        HERE.with_borrow(Self::clone)
    }

    fn residents(&self) -> usize {
        self.0.as_ref().map_or(0, Arc::strong_count)
    }

    fn is_here(&self) -> bool {
        let Some(own) = &self.0 else { return true };
        HERE.with_borrow(|here| here.0.as_ref().is_some_and(|here| Arc::ptr_eq(own, here)))
    }

    /// Its runtime.
    ///
    /// # Panics
    /// If this is no worker, outside of a runtime.
    pub fn handle(&self) -> Handle {
        self.0.as_deref().cloned().unwrap_or_else(Handle::current)
    }

    /// Has `guest` served here, as one of `tasks`.
    pub fn spawn<G: Guest, F>(
        self,
        tasks: &TaskTracker,
        guest: G,
        serve: impl FnOnce(G) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let handle = self.handle();
        tasks.spawn_on(self.take_in(guest, serve), &handle);
    }

    /// Has `guest` served here, to the end. Dropping the future ends it.
    pub async fn serve<G: Guest, F>(&self, guest: G, serve: impl FnOnce(G) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.is_here() {
            return serve(guest).await;
        }
        let served = self.handle().spawn(self.clone().take_in(guest, serve));
        // Whether it panicked is for the panic hook to tell.
        let _ = AbortOnDropHandle::new(served).await;
    }

    /// To be polled here. Counts as a resident until it is done.
    async fn take_in<G: Guest, F: Future<Output = ()>>(self, guest: G, serve: impl FnOnce(G) -> F) {
        match guest.settle() {
            Ok(guest) => serve(guest).await,
            Err(error) => tracing::warn!(%error, "a connection was lost on its way to another thread"),
        }
    }
}

/// Connections that can be taken to another thread.
pub trait Guest: Sized + Send + 'static {
    /// Settles in the runtime of the caller.
    ///
    /// # Errors
    /// If the system does not let it; the connection is closed then.
    fn settle(self) -> io::Result<Self>;
}

impl Guest for TcpStream {
    fn settle(self) -> io::Result<Self> {
        Self::from_std(self.into_std()?)
    }
}

/// Its session stays where it is.
impl Guest for SessionStream {
    fn settle(self) -> io::Result<Self> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn guests_are_served_where_they_are_sent_and_workers_end_with_their_owner() {
        let workers = Workers::start(2).unwrap();
        let (one, two) = (workers.least_busy(), workers.least_busy());
        assert!(!one.is_here() && !two.is_here());
        assert!(
            !Arc::ptr_eq(one.0.as_ref().unwrap(), two.0.as_ref().unwrap()),
            "the second has fewer residents"
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (mut near, far) = (near.unwrap(), far.unwrap().0);
        let then = two.clone();
        let echoed = one.serve(far, move |mut tcp| async move {
            assert!(Worker::here().is_here() && !then.is_here());
            let mut byte = [0];
            tcp.read_exact(&mut byte).await.unwrap();
            let again = then.serve(tcp, move |mut tcp| async move { tcp.write_all(&byte).await.unwrap() });
            again.await;
        });
        near.write_all(b"x").await.unwrap();
        echoed.await;
        let mut echo = Vec::new();
        near.read_to_end(&mut echo).await.unwrap();
        assert_eq!(echo, b"x");
        let waiting = one.handle().spawn(std::future::pending::<()>());
        drop(workers);
        assert!(waiting.await.unwrap_err().is_cancelled());
    }

    #[tokio::test]
    async fn without_workers_everything_stays() {
        let workers = Workers::start(0).unwrap();
        assert!(workers.least_busy().is_here() && Worker::here().is_here());
        assert_eq!(workers.least_busy().handle().id(), Handle::current().id());
    }
}
