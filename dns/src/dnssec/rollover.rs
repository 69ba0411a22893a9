//! Following the key directory, so that `tunnler-dns keys` takes effect without a restart.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::keys::{self, ZoneKeys};
use crate::state::Event;

/// How often the directory is looked at.
const EVERY: Duration = Duration::from_secs(5);

/// Hands on the keys in `dir` whenever they change, until `stop`. Keys that cannot be read leave the last ones standing.
pub async fn follow(dir: PathBuf, events: mpsc::Sender<Event>, stop: CancellationToken) {
    let mut seen = keys::changed_at(&dir);
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let now = keys::changed_at(&dir);
        if now == seen {
            continue;
        }
        match ZoneKeys::load(&dir) {
            Ok(keys) => {
                tracing::info!(keys = ?keys, "zone keys changed");
                seen = now;
                if events.send(Event::Keys(Arc::new(keys))).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::error!(%error, "the zone goes on with its former keys"),
        }
    }
}
