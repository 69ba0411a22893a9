//! Readers of the feed. A reader that cannot keep up is dropped, never waited for.

use std::sync::Arc;

use tokio::sync::mpsc;
use tunnler_protocol::feed::Message;

/// Changes that may wait for one reader.
const QUEUE: usize = 4096;

/// One reader's view: everything at the moment of subscribing, then every change.
pub struct Subscription {
    /// Messages that describe the state at the beginning.
    pub snapshot: Vec<Arc<str>>,
    /// What happened since; ends when the reader was too slow.
    pub changes: mpsc::Receiver<Arc<str>>,
}

#[derive(Default)]
pub(super) struct Subscribers(Vec<mpsc::Sender<Arc<str>>>);

impl Subscribers {
    pub fn add(&mut self, snapshot: Vec<Arc<str>>) -> Subscription {
        let (sender, changes) = mpsc::channel(QUEUE);
        self.0.push(sender);
        Subscription { snapshot, changes }
    }

    pub fn tell(&mut self, message: &Message) {
        let text: Arc<str> = message.to_text().into();
        self.0.retain(|reader| {
            let sent = reader.try_send(text.clone());
            if matches!(sent, Err(mpsc::error::TrySendError::Full(_))) {
                metrics::counter!("tunnler_feed_readers_dropped_total").increment(1);
            }
            sent.is_ok()
        });
    }
}
