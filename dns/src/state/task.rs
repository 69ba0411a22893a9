//! The task that owns [`State`]: events in, snapshots out, new presences to the state file.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tunnler_protocol::directory::Directory;

use super::store::Store;
use super::{Event, State, Subscription};
use crate::clock;
use crate::snapshot::Snapshot;

/// Changes are gathered for so long before they are published together.
const BATCH: Duration = Duration::from_millis(50);
/// Events that may wait; whoever sends more waits itself.
pub const QUEUE: usize = 4096;

/// What everybody else holds: the newest snapshot, swapped whole.
pub type Shared = Arc<ArcSwap<Snapshot>>;

/// The ends of the task.
#[derive(Debug)]
pub struct Ends {
    /// The chain's directory.
    pub directory: watch::Receiver<Option<Arc<Directory>>>,
    /// Everything else that happens.
    pub events: mpsc::Receiver<Event>,
    /// Where snapshots go.
    pub shared: Shared,
    /// Which feeds are to be read; told only after the state expects them.
    pub subscriptions: watch::Sender<Vec<Subscription>>,
}

/// Runs until `stop`, then saves what is left.
pub async fn run(mut state: State, mut ends: Ends, mut store: Option<Store>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(BATCH);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ends.directory.mark_changed();
    let mut batch = Vec::with_capacity(256);
    let mut chain_gone = false;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = tick.tick() => publish(&mut state, &ends, store.as_mut()),
            changed = ends.directory.changed(), if !chain_gone => {
                // A reader that stopped leaves its last word standing.
                chain_gone = changed.is_err();
                let directory = ends.directory.borrow_and_update().clone();
                if let Some(directory) = directory {
                    state.handle(Event::Directory(directory), clock::now());
                    publish(&mut state, &ends, store.as_mut());
                    ends.subscriptions.send_if_modified(|known| {
                        let wanted = state.subscriptions();
                        let differs = *known != wanted;
                        *known = wanted;
                        differs
                    });
                }
            }
            _ = ends.events.recv_many(&mut batch, 256) => {
                for event in batch.drain(..) {
                    state.handle(event, clock::now());
                }
            }
        }
    }
    publish(&mut state, &ends, store.as_mut());
    if let Some(store) = store {
        store.close().await;
    }
}

fn publish(state: &mut State, ends: &Ends, store: Option<&mut Store>) {
    if let Some(snapshot) = state.publish(clock::now()) {
        ends.shared.store(snapshot);
    }
    let unsaved = state.take_unsaved();
    metrics::gauge!("tunnler_dns_presences").set(state.presences() as f64);
    if let Some(store) = store.filter(|_| !unsaved.is_empty()) {
        store.append(unsaved, || state.remembered());
    }
}
