//! Lines to other relays: dialled for the first visitor that needs one, shared by all, closed when idle.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;
use tunnler_protocol::Address;
use tunnler_protocol::stream::StreamHeader;
use tunnler_transport::{
    ConnectOptions, ForwarderSession, OpenError, RelayTarget, StreamOpener, connect_forwarder,
};

use crate::limits::shares::Origin;
use crate::places::{Places, Seated};
use crate::relay::Shared;

/// A line without visitors is looked at this often, and closed the second time.
const IDLE: Duration = Duration::from_secs(30);
/// Pause before a relay that could not be reached is dialled again.
const PAUSE: Duration = Duration::from_secs(10);
/// Visitors that may wait for one line.
const QUEUE: usize = 64;

/// A visitor that waits; hears nothing when there is no line.
type Ask = oneshot::Sender<Line>;

/// A line to another relay, with the places that this relay's visitors share in it.
#[derive(Clone, Debug)]
pub struct Line {
    opener: StreamOpener,
    places: Arc<Places>,
}

impl Line {
    /// Opens a stream for a visitor from `origin`. Waits up to 2 s for a place; `displaced` is cancelled when the visitor
    /// must give it up.
    pub async fn open(
        &self,
        header: &StreamHeader,
        origin: Origin,
        displaced: CancellationToken,
    ) -> Result<Seated, OpenError> {
        self.places.seat(origin, displaced, self.opener.open(header)).await
    }
}

/// The lines of one relay.
#[derive(Debug, Default)]
pub struct Lines(Mutex<HashMap<Address, mpsc::Sender<Ask>>>);

impl Lines {
    /// Forgets lines that are closed.
    pub fn sweep(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, asks| !asks.is_closed());
    }
}

impl Shared {
    /// The line to `target`; dials if there is none. `None` when that fails.
    pub async fn line_to(self: &Arc<Self>, target: &RelayTarget) -> Option<Line> {
        let (ask, line) = oneshot::channel();
        {
            let mut lines = self.lines.0.lock().unwrap_or_else(PoisonError::into_inner);
            let asks = lines.entry(target.relay).or_insert_with(|| self.start_line(target));
            if asks.is_closed() {
                *asks = self.start_line(target);
            }
            asks.try_send(ask).ok()?;
        }
        line.await.ok()
    }

    fn start_line(self: &Arc<Self>, target: &RelayTarget) -> mpsc::Sender<Ask> {
        let (asks, asked) = mpsc::channel(QUEUE);
        let (shared, target) = (self.clone(), target.clone());
        self.tasks.spawn(async move {
            let stopped = shared.stopped.clone();
            tokio::select! {
                () = keep(&shared, target, asked) => {}
                () = stopped.cancelled() => {}
            }
        });
        asks
    }
}

async fn keep(shared: &Shared, target: RelayTarget, mut asked: mpsc::Receiver<Ask>) {
    let relay = target.relay;
    let options = ConnectOptions { roots: None, budget: shared.budget.clone() };
    match connect_forwarder(&target, shared.key.clone(), &options).await {
        Ok(session) => {
            tracing::info!(%relay, "handing visitors to another relay");
            // As many as this relay takes of another: most relays allow each other the same.
            serve(session, Places::new(shared.limits.per_forwarder.at_once), asked).await;
        }
        Err(error) => {
            tracing::info!(%relay, %error, "cannot hand visitors to another relay");
            let refuse = async { while asked.recv().await.is_some() {} };
            tokio::select! {
                () = refuse => {}
                () = sleep(PAUSE) => {}
            }
        }
    }
}

/// Gives the line to whoever asks, until it is lost, refused or idle. Its streams go on until they end.
async fn serve(session: ForwarderSession, places: Arc<Places>, mut asked: mpsc::Receiver<Ask>) {
    let ForwarderSession { opener, control, mut events } = session;
    let line = Line { opener, places };
    let mut look = interval(IDLE);
    let mut used = true;
    loop {
        tokio::select! {
            ask = asked.recv() => match ask {
                Some(ask) => {
                    used = true;
                    let _ = ask.send(line.clone());
                }
                None => break,
            },
            event = events.next() => match event {
                Some(tunnler_transport::SessionEvent::Closing(_) | tunnler_transport::SessionEvent::Lost(_))
                | None => break,
                Some(_) => {}
            },
            _ = look.tick() => {
                if !used && line.opener.open_streams() == 0 {
                    break;
                }
                used = false;
            }
        }
    }
    // No new visitors; those that are on the line stay until they leave or the other side ends it.
    drop(asked);
    control.close(Duration::from_secs(24 * 3600)).await;
}
