//! Serves the feed: who is attached here, to the zone's servers and a few others (DESIGN §7).

mod slots;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::{SinkExt, StreamExt};
use tokio::time::{Instant, interval_at, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tunnler_protocol::Address;
use tunnler_protocol::challenge::{Exporter, Statement};
use tunnler_protocol::feed::{HEARTBEAT, Message, Request};
use tunnler_transport::Transport;

use self::slots::Slot;
pub use self::slots::Slots;
use crate::ingress::Newcomer;
use crate::relay::Shared;

/// How long a reader may take to claim a reserved slot when no public one is free.
const CLAIM_DEADLINE: Duration = Duration::from_secs(5);
/// How long one message may take to be written.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Requests one reader may send.
const MOST_REQUESTS: u32 = 16;

/// Why a reader is let go.
#[derive(Debug, thiserror::Error)]
enum Gone {
    #[error("it left")]
    Left,
    #[error("it reads too slowly")]
    Slow,
    #[error("no slot is free")]
    NoSlot,
    #[error("it misbehaves")]
    Misbehaves,
}

/// Serves one reader until it leaves, is too slow, or the relay stops.
pub async fn serve<S: Transport>(
    shared: Arc<Shared>,
    io: S,
    read_ahead: Vec<u8>,
    exporter: Exporter,
    newcomer: Newcomer,
) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(16 * 1024)
        .max_write_buffer_size(256 * 1024)
        .max_message_size(Some(16 * 1024))
        .max_frame_size(Some(16 * 1024));
    let websocket = WebSocketStream::from_partially_read(io, read_ahead, Role::Server, Some(config)).await;
    let mut reader = Reader { shared, websocket, exporter, slot: None, requests: 0 };
    metrics::gauge!("tunnler_feed_readers").increment(1);
    let gone = reader.run(newcomer).await;
    metrics::gauge!("tunnler_feed_readers").decrement(1);
    if let Err(reason) = gone {
        tracing::debug!(%reason, "a feed reader is gone");
    }
    let _ = timeout(Duration::from_secs(1), reader.websocket.close(None)).await;
}

struct Reader<S> {
    shared: Arc<Shared>,
    websocket: WebSocketStream<S>,
    exporter: Exporter,
    slot: Option<Slot>,
    requests: u32,
}

impl<S: Transport> Reader<S> {
    async fn run(&mut self, newcomer: Newcomer) -> Result<(), Gone> {
        self.send(self.hello().to_text()).await?;
        self.take_slot().await?;
        drop(newcomer);
        let mut subscription = self.shared.sessions.subscribe();
        for text in std::mem::take(&mut subscription.snapshot) {
            self.send(text.to_string()).await?;
        }
        self.send(Message::Synced.to_text()).await?;
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        let shared = self.shared.clone();
        loop {
            let evicted = self.slot.as_ref().map(Slot::evicted);
            tokio::select! {
                change = subscription.changes.recv() => {
                    self.send(change.ok_or(Gone::Slow)?.to_string()).await?;
                }
                _ = heartbeat.tick() => self.send(Message::Heartbeat.to_text()).await?,
                frame = self.websocket.next() => self.on_frame(frame)?,
                () = async { match evicted { Some(evicted) => evicted.await, None => std::future::pending().await } } => {
                    return Err(Gone::NoSlot);
                }
                () = shared.stopped.cancelled() => return Ok(()),
            }
        }
    }

    fn hello(&self) -> Message {
        let (relay, boot) = (self.shared.address, self.shared.boot);
        let signature = Statement::Feed { relay, boot }.sign(&self.shared.key, &self.exporter);
        Message::Hello { relay, boot, signature: URL_SAFE_NO_PAD.encode(signature) }
    }

    /// A public slot if there is one; else the reader must claim a reserved one at once.
    async fn take_slot(&mut self) -> Result<(), Gone> {
        self.slot = self.shared.feed_slots.public();
        let deadline = Instant::now() + CLAIM_DEADLINE;
        while self.slot.is_none() {
            let frame = timeout_at(deadline, self.websocket.next()).await.map_err(|_| Gone::NoSlot)?;
            self.on_frame(frame)?;
        }
        Ok(())
    }

    fn on_frame(
        &mut self,
        frame: Option<Result<Frame, tokio_tungstenite::tungstenite::Error>>,
    ) -> Result<(), Gone> {
        match frame {
            Some(Ok(Frame::Text(text))) => {
                self.requests += 1;
                if self.requests > MOST_REQUESTS {
                    return Err(Gone::Misbehaves);
                }
                match Request::parse(text.as_str()) {
                    Ok(Request::Subscribe { server, signature }) => self.claim(server, &signature),
                    Ok(Request::Unknown) => Ok(()),
                    Err(_) => Err(Gone::Misbehaves),
                }
            }
            Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => Ok(()),
            Some(Ok(Frame::Binary(_) | Frame::Frame(_))) => Err(Gone::Misbehaves),
            Some(Ok(Frame::Close(_)) | Err(_)) | None => Err(Gone::Left),
        }
    }

    /// Gives a server of the zone the slot that is reserved for it.
    fn claim(&mut self, server: Address, signature: &str) -> Result<(), Gone> {
        let of_the_zone = self
            .shared
            .directory
            .borrow()
            .as_ref()
            .is_some_and(|directory| directory.zone.servers.iter().any(|known| known.key == server));
        let statement = Statement::Subscribe { server, relay: self.shared.address };
        let signature = URL_SAFE_NO_PAD.decode(signature).ok().and_then(|bytes| bytes.try_into().ok());
        let proven = signature.is_some_and(|signature| statement.verify(&self.exporter, &signature).is_ok());
        if !of_the_zone || !proven {
            // Not an error of the reader's: the chain may know it later. It keeps a public slot if it has one.
            return Ok(());
        }
        self.slot = Some(self.shared.feed_slots.reserved(server));
        Ok(())
    }

    async fn send(&mut self, text: String) -> Result<(), Gone> {
        match timeout(WRITE_DEADLINE, self.websocket.send(Frame::text(text))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Gone::Left),
            Err(_) => Err(Gone::Slow),
        }
    }
}
