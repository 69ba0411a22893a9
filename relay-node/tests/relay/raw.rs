//! A peer of a relay that says whatever a test wants: WebSocket messages and yamux frames made by hand.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, http};
use tunnler_protocol::control::{
    AuthChallenge, AuthFailure, AuthResponse, CONNECT_PATH, SUBPROTOCOL, ToClient, ToRelay,
};
use tunnler_protocol::instance::{InstanceId, SessionId};
use tunnler_protocol::presence::Presence;
use tunnler_protocol::token::{Claims, Role};
use tunnler_protocol::{Address, UnixSeconds};

use crate::comparison::Tally;
use crate::world::*;

pub const DATA: u8 = 0;
pub const WINDOW: u8 = 1;
pub const PING: u8 = 2;
pub const OPEN: u16 = 1;
pub const ACK: u16 = 2;
pub const RESET: u16 = 8;

/// A peer that says whatever the test wants.
pub struct Raw {
    pub websocket: WebSocketStream<TlsStream<TcpStream>>,
    bytes: Vec<u8>,
    texts: VecDeque<ToClient>,
    tally: Arc<Tally>,
}

/// One yamux frame (yamux specification, "Framing").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u16,
    pub stream: u32,
    pub length: u32,
    pub body: Vec<u8>,
}

/// The bytes of a data frame.
pub fn data(flags: u16, stream: u32, body: &[u8]) -> Vec<u8> {
    [&frame(DATA, flags, stream, body.len() as u32)[..], body].concat()
}

/// The bytes of a frame's header.
pub fn frame(kind: u8, flags: u16, stream: u32, length: u32) -> Vec<u8> {
    let mut bytes = vec![0, kind];
    bytes.extend(flags.to_be_bytes());
    bytes.extend(stream.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

impl Raw {
    /// Upgrades at the relay; gives its challenge too.
    pub async fn connect(world: &World) -> (Self, AuthChallenge) {
        let tls = world.visit(&world.own_host).await.unwrap();
        let mut request = format!("wss://{}{CONNECT_PATH}", world.own_host).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", http::HeaderValue::from_static(SUBPROTOCOL));
        let (websocket, _) = tokio_tungstenite::client_async(request, tls).await.unwrap();
        world.attackers.connected();
        let tally = world.attackers.clone();
        let mut raw = Self { websocket, bytes: vec![], texts: VecDeque::new(), tally };
        let Some(ToClient::AuthChallenge(challenge)) = raw.next().await else { panic!("no challenge") };
        (raw, challenge)
    }

    /// A key, logged in with its presence.
    pub async fn client(world: &World, seed: u8, presence: &Presence) -> Self {
        let (mut raw, challenge) = Self::connect(world).await;
        let claims = Claims { sub: key(seed).address(), ..claims(world.relay.address(), &challenge) };
        let jwt = claims.sign(&key(seed));
        // Another session each time: it need not wait for the end of the one before.
        let (ins, session) = (presence.claims().ins, SessionId(rand::random()));
        let presence = Some(presence.text().to_string());
        raw.say(&ToRelay::AuthResponse(AuthResponse { jwt, ins, session, presence })).await;
        assert!(matches!(raw.next().await, Some(ToClient::AuthOk(_))));
        raw
    }

    /// The relay with this key, logged in as a forwarder.
    pub async fn forwarder(world: &World, seed: u8) -> Result<Self, AuthFailure> {
        Self::forwarder_for(world, seed, 600).await
    }

    /// The same with a token for so many seconds.
    pub async fn forwarder_for(world: &World, seed: u8, seconds: u64) -> Result<Self, AuthFailure> {
        let (mut raw, challenge) = Self::connect(world).await;
        let relay = world.relay.address();
        raw.log_in(forwarder_token(relay, seed, seconds, &challenge)).await.map(|()| raw)
    }

    pub async fn say(&mut self, message: &ToRelay) {
        self.websocket.send(Message::text(message.to_text())).await.unwrap();
    }

    /// Sends yamux bytes; false when the relay has hung up.
    pub async fn send(&mut self, bytes: Vec<u8>) -> bool {
        self.tally.sent(bytes.len());
        let sent = timeout(PATIENCE, self.websocket.send(Message::binary(bytes))).await;
        sent.expect("taken in time").is_ok()
    }

    /// The next control message; `None` at the end.
    pub async fn next(&mut self) -> Option<ToClient> {
        while self.texts.is_empty() {
            if !self.hear().await {
                return None;
            }
        }
        self.texts.pop_front()
    }

    /// The next frame that is no ping; `None` at the end.
    pub async fn next_frame(&mut self) -> Option<Frame> {
        loop {
            match self.take_frame() {
                Some(frame) if frame.kind == PING => {}
                Some(frame) => return Some(frame),
                None => {
                    if !self.hear().await {
                        return None;
                    }
                }
            }
        }
    }

    /// Reads until the relay hangs up.
    pub async fn end(&mut self) {
        while self.hear().await {
            self.bytes.clear();
        }
    }

    pub async fn log_in(&mut self, jwt: String) -> Result<(), AuthFailure> {
        self.say(&ToRelay::AuthResponse(response(jwt))).await;
        match self.next().await {
            Some(ToClient::AuthOk(_)) => Ok(()),
            Some(ToClient::AuthFailed(failed)) => Err(failed.code),
            other => panic!("{other:?}"),
        }
    }

    /// Takes in one message; false at the end.
    async fn hear(&mut self) -> bool {
        match timeout(PATIENCE * 2, self.websocket.next()).await.expect("in time") {
            Some(Ok(Message::Text(text))) => self.texts.extend(ToClient::parse(text.as_str()).unwrap()),
            Some(Ok(Message::Binary(bytes))) => self.bytes.extend(&bytes),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return false,
            Some(Ok(_)) => {}
        }
        true
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let header = self.bytes.get(..12)?;
        let number = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
        let (kind, flags) = (header[1], u16::from_be_bytes([header[2], header[3]]));
        let (stream, length) = (number(4), number(8));
        let body_len = if kind == DATA { length as usize } else { 0 };
        let body = self.bytes.get(12..12 + body_len)?.to_vec();
        self.bytes.drain(..12 + body_len);
        Some(Frame { kind, flags, stream, length, body })
    }
}

/// A forwarder's token for so many seconds.
pub fn forwarder_token(relay: Address, seed: u8, seconds: u64, challenge: &AuthChallenge) -> String {
    let claims = claims(relay, challenge);
    let exp = UnixSeconds(claims.iat.0 + seconds);
    let claims = Claims { sub: key(seed).address(), services: vec![], role: Role::Forwarder, exp, ..claims };
    claims.sign(&key(seed))
}

pub fn response(jwt: String) -> AuthResponse {
    AuthResponse { jwt, ins: InstanceId([1; 16]), session: SessionId([1; 16]), presence: None }
}

pub fn claims(relay: Address, challenge: &AuthChallenge) -> Claims {
    let now = now().seconds();
    Claims {
        iss: tunnler_protocol::token::ISSUER.into(),
        sub: key(1).address(),
        aud: relay,
        iat: now,
        services: vec!["web".parse().unwrap()],
        exp: UnixSeconds(now.0 + 600),
        challenge: Some(challenge.challenge.clone()),
        role: Role::Client,
    }
}

/// What any browser sends first.
pub fn client_hello(host: &str) -> Vec<u8> {
    let (config, _) = tunnler_transport::tls::client_config(None);
    let mut tls = rustls::ClientConnection::new(config, host.to_owned().try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    tls.write_tls(&mut bytes).unwrap();
    bytes
}
