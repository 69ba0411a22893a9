//! The relay's end of a session: challenge, hand the answer to whoever decides, then open streams.
//!
//! Decides nothing about authority: that a token is genuine, fresh and welcome is for the caller to say, between
//! [`Handshake::challenge`] and [`PendingLogin::accept`].

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::task::AbortOnDropHandle;
use tunnler_protocol::challenge::{Exporter, Statement};
use tunnler_protocol::control::{
    AuthChallenge, AuthFailed, AuthOk, AuthResponse, Closing, Limits, ToClient, ToRelay,
};
use tunnler_protocol::stream::StreamHeader;
use tunnler_protocol::{Address, SecretKey};

use crate::client::IncomingStreams;
use crate::driver;
use crate::link::{CloseRequest, End, Link, LinkConfig};
pub use crate::opener::OpenError;
use crate::opener::StreamOpener;
use crate::stream::SessionStream;
use crate::unread::Opener;
use crate::websocket::{Incoming, Transport, WebSocket};

/// How long a login may take.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// How long the last words of a refused login may take.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(2);

/// What a relay proves about one TLS channel, as often as it asks for authority on it.
#[derive(Clone, Debug)]
pub struct Challenger {
    key: SecretKey,
    exporter: Exporter,
    limits: Limits,
}

/// A challenge that was sent: what a token must repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge(String);

impl Challenge {
    /// The text that a token's claim `challenge` must equal.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Challenger {
    /// For the relay with `key` on the channel of `exporter`, granting `limits`.
    pub fn new(key: SecretKey, exporter: Exporter, limits: Limits) -> Self {
        Self { key, exporter, limits }
    }

    /// What is granted.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// A message with a fresh challenge.
    pub fn challenge(&self) -> (Challenge, ToClient) {
        let bytes: [u8; 32] = rand::random();
        let challenge = URL_SAFE_NO_PAD.encode(bytes);
        let limits = serde_json::to_string(&self.limits).expect("plain JSON");
        let relay = self.key.address();
        let signature = Statement::Challenge { challenge: &bytes, relay, limits: &limits }
            .sign(&self.key, &self.exporter);
        let message = AuthChallenge {
            challenge: challenge.clone(),
            server_address: relay,
            limits: RawValue::from_string(limits).expect("plain JSON"),
            signature: URL_SAFE_NO_PAD.encode(signature),
        };
        (Challenge(challenge), ToClient::AuthChallenge(message))
    }
}

/// Why a login came to nothing before anybody could decide about it.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client said nothing useful in time.
    #[error("no answer to the challenge within 10 s")]
    Timeout,
    /// The connection ended.
    #[error("the connection ended during the handshake")]
    Ended,
    /// Something else than an `auth_response`.
    #[error("the client sent something else than auth_response")]
    Unexpected,
}

/// A client that answered the challenge and waits.
#[derive(Debug)]
pub struct PendingLogin<S> {
    websocket: WebSocket<S>,
    /// What it was asked; `None` when it brought a token of its own.
    pub challenge: Option<Challenge>,
    /// What it said. Nothing in it has been verified.
    pub response: AuthResponse,
    challenger: Challenger,
}

impl<S: Transport> PendingLogin<S> {
    /// Challenges the client on an upgraded HTTP connection; `read_ahead` is what the HTTP server had read already.
    pub async fn challenge(
        io: S,
        read_ahead: Vec<u8>,
        challenger: Challenger,
    ) -> Result<Self, HandshakeError> {
        let mut websocket = WebSocket::new(io, Role::Server, read_ahead);
        let (challenge, message) = challenger.challenge();
        let exchange = async {
            websocket.say(&message.to_text()).await.map_err(|_| HandshakeError::Ended)?;
            loop {
                match websocket.hear().await {
                    Ok(Incoming::Text(text)) => match ToRelay::parse(&text) {
                        Ok(Some(ToRelay::AuthResponse(response))) => return Ok(response),
                        Ok(None) => {}
                        _ => return Err(HandshakeError::Unexpected),
                    },
                    Ok(Incoming::Bytes(_)) => return Err(HandshakeError::Unexpected),
                    Ok(Incoming::End) | Err(_) => return Err(HandshakeError::Ended),
                }
            }
        };
        let response = timeout(HANDSHAKE_DEADLINE, exchange).await.map_err(|_| HandshakeError::Timeout)??;
        Ok(Self { websocket, challenge: Some(challenge), response, challenger })
    }

    /// A client that logs in without a challenge (the older way): what its upgrade request said.
    pub fn unasked(io: S, read_ahead: Vec<u8>, challenger: Challenger, response: AuthResponse) -> Self {
        let websocket = WebSocket::new(io, Role::Server, read_ahead);
        Self { websocket, challenge: None, response, challenger }
    }

    /// Refuses, says why, and closes.
    pub async fn refuse(mut self, failure: AuthFailed) {
        let goodbye = async {
            self.websocket.say(&ToClient::AuthFailed(failure).to_text()).await?;
            // Waits for the client's closing frame, so that our words are not lost in a TCP reset.
            self.websocket.close().await
        };
        let _ = timeout(REFUSAL_DEADLINE, goodbye).await;
    }

    /// Accepts. Nothing is sent and nobody is driven until [`AcceptedLogin::begin`], so that the session can be put
    /// where visitors find it before the client hears that it is there.
    pub fn accept(self, client: Address, config: &LinkConfig) -> (RelaySession, AcceptedLogin) {
        let (session, accepted, _) = self.set_up(client, Opener::Us, config);
        (session, accepted)
    }

    /// Accepts a relay that hands visitors to this one: here the other side opens streams, at most `config.streams`,
    /// and [`RelaySession::open`] opens none.
    pub fn accept_forwarder(
        self,
        forwarder: Address,
        config: &LinkConfig,
    ) -> (RelaySession, AcceptedLogin, IncomingStreams) {
        let (session, login, accepted) = self.set_up(forwarder, Opener::Them { at_most: 0 }, config);
        (session, login, IncomingStreams::new(accepted.expect("the forwarder opens")))
    }

    fn set_up(
        self,
        client: Address,
        opener: Opener,
        config: &LinkConfig,
    ) -> (RelaySession, AcceptedLogin, Option<mpsc::Receiver<SessionStream>>) {
        let (ends, driver) = driver::start(self.websocket, opener, config);
        let session = RelaySession {
            client,
            opener: StreamOpener::new(ends.link.clone(), ends.opens),
            link: ends.link,
            texts: ends.texts_out,
            task: Arc::default(),
        };
        let control = RelayControl { texts: ends.texts_in, challenger: self.challenger };
        (session.clone(), AcceptedLogin { session, control, driver: Box::pin(driver) }, ends.accepted)
    }
}

/// A connection that is set up but not driven yet.
pub struct AcceptedLogin {
    session: RelaySession,
    control: RelayControl,
    driver: Pin<Box<dyn Future<Output = End> + Send>>,
}

impl AcceptedLogin {
    /// Sends `auth_ok` and lets the session live.
    pub fn begin(self, auth_ok: AuthOk) -> RelayControl {
        // The queue is new: there is room.
        self.session.send(&ToClient::AuthOk(auth_ok));
        let task = AbortOnDropHandle::new(tokio::spawn(self.driver));
        let _ = self.session.task.set(task);
        self.control
    }

    /// Refuses after all, says why, and closes.
    pub async fn refuse(self, failure: AuthFailed) {
        self.session.send(&ToClient::AuthFailed(failure));
        self.session.link.request_close(CloseRequest { last_words: None, deadline: Instant::now() });
        let _ = timeout(REFUSAL_DEADLINE, self.driver).await;
    }
}

/// One authenticated connection of a client. Cheap to clone; the connection ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct RelaySession {
    client: Address,
    link: Arc<Link>,
    opener: StreamOpener,
    texts: mpsc::Sender<String>,
    task: Arc<OnceLock<AbortOnDropHandle<End>>>,
}

/// What the client of one connection says.
#[derive(Debug)]
pub struct RelayControl {
    texts: mpsc::Receiver<ToRelay>,
    /// Asks for fresh authority on this channel.
    pub challenger: Challenger,
}

impl RelayControl {
    /// The next message; `None` when the connection is over. Cancel-safe.
    pub async fn next(&mut self) -> Option<ToRelay> {
        self.texts.recv().await
    }
}

impl RelaySession {
    /// Whose session it is.
    pub fn client(&self) -> Address {
        self.client
    }

    /// Opens a stream for a visitor and sends its header. Waits up to 2 s for a free one.
    pub async fn open(&self, header: &StreamHeader) -> Result<SessionStream, OpenError> {
        self.opener.open(header).await
    }

    /// Visitors' streams open now.
    pub fn open_streams(&self) -> usize {
        self.link.open_streams()
    }

    /// The same with those that are about to open or not yet forgotten: what the next visitor competes with.
    pub fn taken_streams(&self) -> usize {
        self.link.taken_streams()
    }

    /// Sends a control message; false when it had to be dropped because the client takes none or the session is
    /// over.
    pub fn send(&self, message: &ToClient) -> bool {
        self.texts.try_send(message.to_text()).is_ok()
    }

    /// Says why, waits until no stream is left or `within` has passed, and closes. Returns at once; await
    /// [`RelaySession::ended`] for the end.
    pub fn close(&self, closing: Closing, within: Duration) {
        let last_words = Some(ToClient::Closing(closing).to_text());
        self.link.request_close(CloseRequest { last_words, deadline: Instant::now() + within });
    }

    /// Returns how the connection ended, once it is over.
    pub async fn ended(&self) -> End {
        self.link.ended().await;
        self.link.end().cloned().unwrap_or(End::Closed)
    }

    /// Whether the connection is over.
    pub fn is_over(&self) -> bool {
        self.link.end().is_some()
    }
}
