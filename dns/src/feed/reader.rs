//! One relay's feed from frames to events, for as long as the relay is registered. Believes nothing that is not signed:
//! presences are verified here, after everything cheaper.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tunnler_protocol::directory::Relay;
use tunnler_protocol::feed;
use tunnler_protocol::live::{FeedEvent, Session};
use tunnler_protocol::merge::Source;
use tunnler_protocol::presence::UnverifiedPresence;

use super::backoff::Backoff;
use super::budget::Budget;
use super::dial::{Connection, Dialer};
use crate::clock;
use crate::state::Event;
use crate::state::task::Shared;

/// A connection without a frame for so long is given up.
const DEAD: Duration = Duration::from_secs(10);
/// Signature checks: what a snapshot may need at once, and a second later on.
const CHECKS: (u32, u32) = (8192, 100);
/// Frames likewise: each session of a snapshot takes two.
const FRAMES: (u32, u32) = (4 * 8192, 1000);

/// Reads `relay`'s feed, dialling again whenever it ends. Never returns; whoever started it aborts it.
pub(super) async fn read(
    dialer: Arc<Dialer>,
    relay: Arc<Relay>,
    shared: Shared,
    events: mpsc::Sender<Event>,
) {
    let mut backoff = Backoff::new();
    let budget = |(burst, rate)| Budget::new(burst, rate, Instant::now());
    let mut reader = Reader { relay, shared, events, checks: budget(CHECKS), frames: budget(FRAMES) };
    loop {
        match dialer.connect(&reader.relay).await {
            Ok((socket, boot)) => {
                backoff.proven();
                tracing::info!(relay = %reader.relay.address, "feed connected");
                if reader.tell(FeedEvent::Hello(boot)).await.is_err() {
                    return;
                }
                let why = reader.follow(socket).await;
                tracing::info!(relay = %reader.relay.address, why, "feed lost");
                if reader.tell(FeedEvent::Lost).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                metrics::counter!("tunnler_dns_feed_dial_failures_total").increment(1);
                tracing::debug!(relay = %reader.relay.address, %error, "feed not reachable");
            }
        }
        tokio::time::sleep(backoff.next(rand::random())).await;
    }
}

struct Reader {
    relay: Arc<Relay>,
    shared: Shared,
    events: mpsc::Sender<Event>,
    checks: Budget,
    frames: Budget,
}

/// The state is gone: the program ends.
struct Gone;

/// Takes one token, waiting for it if need be.
async fn afford(budget: &mut Budget) {
    let wait = budget.take(Instant::now());
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

impl Reader {
    /// Turns frames into events until the connection ends; returns why.
    async fn follow(&mut self, mut socket: Connection) -> &'static str {
        loop {
            let frame = match tokio::time::timeout(DEAD, socket.next()).await {
                Err(_) => return "silent",
                Ok(None) => return "closed",
                Ok(Some(Err(_))) => return "broken",
                Ok(Some(Ok(frame))) => frame,
            };
            afford(&mut self.frames).await;
            let text = match frame {
                Message::Text(text) => text,
                Message::Close(_) => return "closed",
                Message::Binary(_) => return "not a feed",
                _ => continue,
            };
            let Ok(message) = feed::Message::parse(&text) else { return "not a feed" };
            let event = match message {
                feed::Message::Hello { .. } => return "a second hello",
                feed::Message::Presence { presence } => {
                    self.take(&presence).await;
                    FeedEvent::Heard
                }
                feed::Message::Attached { client, ins } => {
                    FeedEvent::Session((client, ins), Session::Attached)
                }
                feed::Message::Draining { client, ins } => {
                    FeedEvent::Session((client, ins), Session::Draining)
                }
                feed::Message::Detached { client, ins } => FeedEvent::Detached((client, ins)),
                feed::Message::Synced => FeedEvent::Synced,
                feed::Message::Heartbeat | feed::Message::Unknown => FeedEvent::Heard,
            };
            if self.tell(event).await.is_err() {
                return "shutting down";
            }
        }
    }

    /// Verifies a presence if it is news and hands it on.
    async fn take(&mut self, text: &str) {
        let refused = |why: &'static str| {
            metrics::counter!("tunnler_dns_presences_refused_total", "why" => why).increment(1);
        };
        let unverified = match UnverifiedPresence::parse(text, clock::unix_now()) {
            Ok(unverified) => unverified,
            Err(error) => {
                tracing::debug!(relay = %self.relay.address, %error, "presence refused");
                return refused("malformed");
            }
        };
        if self.shared.load().knows(unverified.claims(), text) {
            return;
        }
        afford(&mut self.checks).await;
        match unverified.verify() {
            Ok(presence) => {
                let source = Source::Relay(self.relay.address);
                let _ = self.events.send(Event::Presence(Arc::new(presence), source)).await;
            }
            Err(_) => refused("forged"),
        }
    }

    async fn tell(&self, event: FeedEvent) -> Result<(), Gone> {
        self.events.send(Event::Feed(self.relay.address, event)).await.map_err(|_| Gone)
    }
}
