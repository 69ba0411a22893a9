//! The conversation of an established session: messages out, events in, fresh tokens when the relay asks.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tunnler_protocol::control::{Leaving, PortGrant, Ports, PresenceUpdate, ToClient, ToRelay};
use tunnler_protocol::presence::Presence;

use super::SessionEvent;
use super::handshake::Identity;
use crate::link::{CloseRequest, End, Link};

/// Events waiting to be read.
const EVENT_QUEUE: usize = 64;

type Task = Arc<AbortOnDropHandle<(End, ())>>;

/// Sends control messages of one session. The session ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct SessionControl {
    link: Arc<Link>,
    texts: mpsc::Sender<String>,
    _task: Option<Task>,
}

/// The session is over, or its relay takes no messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session is over")]
pub struct SessionEnded;

/// Events of one session.
#[derive(Debug)]
pub struct SessionEvents(mpsc::Receiver<SessionEvent>);

pub(super) fn start(
    link: Arc<Link>,
    texts_out: mpsc::Sender<String>,
    texts_in: mpsc::Receiver<ToClient>,
    identity: Identity,
) -> (SessionControl, SessionEvents, impl Future<Output = ()> + Send) {
    let (events, events_rx) = mpsc::channel(EVENT_QUEUE);
    // A weak sender: the conversation must not keep its own session alive.
    let conversation = converse(link.clone(), texts_out.downgrade(), texts_in, identity, events);
    (SessionControl { link, texts: texts_out, _task: None }, SessionEvents(events_rx), conversation)
}

async fn converse(
    link: Arc<Link>,
    texts: mpsc::WeakSender<String>,
    mut incoming: mpsc::Receiver<ToClient>,
    identity: Identity,
    events: mpsc::Sender<SessionEvent>,
) {
    while let Some(message) = incoming.recv().await {
        let event = match message {
            ToClient::AuthChallenge(challenge) => {
                // The presence travels on its own; a fresh token leaves it as it is.
                match identity.answer(&challenge, None) {
                    Ok(answer) => {
                        if let Some(texts) = texts.upgrade() {
                            let _ = texts.send(ToRelay::AuthResponse(answer).to_text()).await;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(relay = %identity.relay, %error, "did not renew the session")
                    }
                }
                continue;
            }
            ToClient::AuthOk(auth_ok) => SessionEvent::Renewed(auth_ok),
            ToClient::PresenceOk(ok) => SessionEvent::PresenceOk(ok.seq),
            ToClient::PresenceStale(stale) => SessionEvent::PresenceStale(stale.seq),
            ToClient::AcmeValue(value) => SessionEvent::AcmeValue(value),
            ToClient::Draining(draining) => SessionEvent::Draining(draining.deadline),
            ToClient::Limits(limits) => SessionEvent::Limits(limits),
            ToClient::Closing(closing) => SessionEvent::Closing(closing),
            ToClient::AuthFailed(failed) => SessionEvent::Refused(failed),
            ToClient::Reset(_) => continue,
        };
        if events.send(event).await.is_err() {
            break;
        }
    }
    link.ended().await;
    let end = link.end().map_or_else(|| End::Closed.to_string(), End::to_string);
    let _ = events.send(SessionEvent::Lost(end)).await;
}

impl SessionControl {
    pub(super) fn owning(mut self, task: Task) -> Self {
        self._task = Some(task);
        self
    }

    /// Tells the relay a new presence; [`SessionEvent::PresenceOk`] or `PresenceStale` answers.
    pub fn send_presence(&self, presence: &Presence) -> Result<(), SessionEnded> {
        self.send(ToRelay::Presence(PresenceUpdate { presence: presence.text().to_string() }))
    }

    /// Asks for ports of TCP services; [`SessionEvent::Renewed`] answers with what is granted.
    pub fn ask_ports(&self, ports: Vec<PortGrant>) -> Result<(), SessionEnded> {
        self.send(ToRelay::Ports(Ports { ports }))
    }

    /// Tells the relay that the client is about to close: it stops sending visitors.
    pub fn leave(&self) -> Result<(), SessionEnded> {
        self.send(ToRelay::Leaving(Leaving {}))
    }

    /// Closes once no stream is left, at the latest after `within`. Returns when the session is over.
    pub async fn close(&self, within: Duration) {
        self.link.request_close(CloseRequest { last_words: None, deadline: Instant::now() + within });
        self.link.ended().await;
    }

    /// Asks for a sign of life: without one within this time the session is over (`Lost`), long before the usual
    /// 10 s of silence. For when the network below is known to have changed.
    pub fn check(&self, within: Duration) {
        self.link.request_check(within);
    }

    /// Returns when the session is over.
    pub async fn ended(&self) {
        self.link.ended().await;
    }

    /// Number of visitors' streams open now.
    pub fn open_streams(&self) -> usize {
        self.link.open_streams()
    }

    fn send(&self, message: ToRelay) -> Result<(), SessionEnded> {
        self.texts.try_send(message.to_text()).map_err(|_| SessionEnded)
    }
}

impl SessionEvents {
    /// The next event; `None` after [`SessionEvent::Lost`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<SessionEvent> {
        self.0.recv().await
    }
}
