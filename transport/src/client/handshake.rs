//! The client's side of the handshake: nothing signed leaves before the relay has proven that it owns this channel.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Request, header::SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::Role as Side;
use tunnler_protocol::challenge::{Exporter, Statement};
use tunnler_protocol::control::{
    AuthChallenge, AuthOk, AuthResponse, CONNECT_PATH, SUBPROTOCOL, ToClient, ToRelay,
};
use tunnler_protocol::presence::Presence;
use tunnler_protocol::token::{self, Role};
use tunnler_protocol::{Address, UnixSeconds};

use super::{ConnectError, Login, RelayTarget};
use crate::tcp::{self, Probes};
use crate::tls;
use crate::websocket::{Incoming, OneHead, Transport, WebSocket};

/// How long one address may take to accept a TCP connection while others are left.
const TCP_DEADLINE: Duration = Duration::from_secs(4);
/// Lifetime of the tokens this client signs; the relay asks for a new one in time.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// A relay that accepted the login.
pub(super) struct Accepted {
    pub websocket: WebSocket<TlsStream<TcpStream>>,
    pub exporter: Exporter,
    pub auth_ok: AuthOk,
}

/// Who talks to whom on which channel.
pub(super) struct Identity {
    pub relay: Address,
    pub exporter: Exporter,
    pub login: Login,
    pub role: Role,
}

/// Connects to one of the target's addresses and logs in.
pub(super) async fn log_in(
    target: &RelayTarget,
    login: &Login,
    role: Role,
    roots: Option<Arc<RootCertStore>>,
) -> Result<Accepted, ConnectError> {
    let relay = target.relay;
    let protocol = |problem: String| ConnectError::Protocol { relay, problem };
    let (tcp, address) = reach(target).await?;
    let tls = secure(target, tcp, roots).await.map_err(|source| ConnectError::Tls { relay, source })?;
    let exporter = tls::exporter(tls.get_ref().1)
        .map_err(|error| ConnectError::Tls { relay, source: io::Error::other(error) })?;

    let request = request(target, address).map_err(|error| protocol(error.to_string()))?;
    let upgraded = tokio_tungstenite::client_async(request, OneHead::new(tls)).await;
    let (upgraded, _) = upgraded.map_err(|error| protocol(error.to_string()))?;
    let mut websocket = WebSocket::new(upgraded.into_inner().into_inner(), Side::Client, Vec::new());

    let ToClient::AuthChallenge(challenge) = next_message(&mut websocket).await.map_err(protocol)? else {
        return Err(protocol("it does not begin with auth_challenge".into()));
    };
    let identity = Identity { relay, exporter, login: login.clone(), role };
    let answer = identity.answer(&challenge, login.presence.as_ref())?;
    let sent = websocket.say(&ToRelay::AuthResponse(answer).to_text()).await;
    sent.map_err(|error| protocol(error.to_string()))?;
    match next_message(&mut websocket).await.map_err(protocol)? {
        ToClient::AuthOk(auth_ok) => Ok(Accepted { websocket, exporter, auth_ok }),
        ToClient::AuthFailed(failed) => Err(ConnectError::Refused(failed)),
        _ => Err(protocol("it answers a login with neither auth_ok nor auth_failed".into())),
    }
}

impl Identity {
    /// Verifies that the relay signed this channel, then signs a token for it.
    pub fn answer(
        &self,
        challenge: &AuthChallenge,
        presence: Option<&Presence>,
    ) -> Result<AuthResponse, ConnectError> {
        let relay = self.relay;
        if challenge.server_address != relay {
            return Err(ConnectError::WrongRelay { expected: relay, found: challenge.server_address });
        }
        let malformed = || ConnectError::Protocol { relay, problem: "malformed auth_challenge".into() };
        let bytes = URL_SAFE_NO_PAD.decode(&challenge.challenge).map_err(|_| malformed())?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| malformed())?;
        let signature = URL_SAFE_NO_PAD.decode(&challenge.signature).map_err(|_| malformed())?;
        let signature: [u8; 64] = signature.try_into().map_err(|_| malformed())?;
        Statement::Challenge { challenge: &bytes, relay, limits: challenge.limits.get() }
            .verify(&self.exporter, &signature)
            .map_err(|_| ConnectError::Intercepted(relay))?;

        let login = &self.login;
        let now = now();
        let claims = token::Claims {
            iss: token::ISSUER.into(),
            sub: login.key.address(),
            aud: relay,
            iat: now,
            services: login.services.clone(),
            exp: now.plus(TOKEN_LIFETIME),
            challenge: Some(challenge.challenge.clone()),
            role: self.role,
        };
        Ok(AuthResponse {
            jwt: claims.sign(&login.key),
            ins: login.instance,
            session: login.session,
            presence: presence.map(|presence| presence.text().to_string()),
        })
    }
}

async fn reach(target: &RelayTarget) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let relay = target.relay;
    let mut failure = ConnectError::NoAddress(relay);
    for &address in &target.addresses {
        let attempt = timeout(TCP_DEADLINE, TcpStream::connect(address)).await;
        match attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(tcp) => {
                tcp::prepare(&tcp, Probes::SESSION);
                return Ok((tcp, address));
            }
            Err(source) => failure = ConnectError::Unreachable { relay, address, source },
        }
    }
    Err(failure)
}

async fn secure(
    target: &RelayTarget,
    tcp: TcpStream,
    roots: Option<Arc<RootCertStore>>,
) -> io::Result<TlsStream<TcpStream>> {
    let (config, verdict) = tls::client_config(roots);
    let name = ServerName::try_from(target.host.as_str().to_owned()).map_err(io::Error::other)?;
    let tls = TlsConnector::from(config).connect(name, tcp).await?;
    if let Some(problem) = verdict.problem() {
        tracing::warn!(relay = %target.relay, problem, "the relay's certificate is not in order; its key is");
    }
    Ok(tls)
}

fn request(target: &RelayTarget, address: SocketAddr) -> Result<Request<()>, Box<dyn std::error::Error>> {
    let uri = format!("wss://{}:{}{CONNECT_PATH}", target.host, address.port());
    let mut request = uri.into_client_request()?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    Ok(request)
}

/// The next control message of a known type.
async fn next_message<S: Transport>(websocket: &mut WebSocket<S>) -> Result<ToClient, String> {
    loop {
        match websocket.hear().await {
            Ok(Incoming::Text(text)) => match ToClient::parse(&text) {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(error) => return Err(error.to_string()),
            },
            Ok(Incoming::Bytes(_) | Incoming::End) => return Err("it ended the handshake".into()),
            Err(failure) => return Err(io::Error::from(failure).to_string()),
        }
    }
}

fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixSeconds(since.as_secs())
}
