//! One connection to a relay's feed: TCP, TLS 1.3, WebSocket, `hello` (DESIGN §6, §7).
//!
//! The relay is proven by its key's signature over this channel, not by WebPKI: an expired certificate or a CA's outage
//! must not silence a feed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::{SinkExt, StreamExt};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tunnler_protocol::SecretKey;
use tunnler_protocol::challenge::{Exporter, Statement};
use tunnler_protocol::directory::Relay;
use tunnler_protocol::feed::{self, Request};
use tunnler_protocol::instance::BootId;
use tunnler_transport::tls;

use crate::state::task::Shared;

/// From the first packet to the verified `hello`, per address.
const DEADLINE: Duration = Duration::from_secs(10);
/// A frame holds one presence at most.
const MAX_FRAME: usize = 16 * 1024;

/// Why a feed cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Its record has no address that may be dialled.
    #[error("no address that may be dialled")]
    NoAddress,
    /// Nothing within the deadline.
    #[error("no hello within {} s", DEADLINE.as_secs())]
    TimedOut,
    /// TCP or TLS.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// WebSocket.
    #[error("{0}")]
    WebSocket(#[from] Box<tungstenite::Error>),
    /// The other end cannot prove the relay's key on this channel.
    #[error("the other end is not this relay: {0}")]
    NotTheRelay(&'static str),
}

/// An open feed.
pub type Connection = WebSocketStream<TlsStream<TcpStream>>;

/// Dials feeds on behalf of one zone server.
#[derive(Debug)]
pub struct Dialer {
    key: SecretKey,
    tls: Arc<ClientConfig>,
    shared: Shared,
}

impl Dialer {
    /// A dialer that proves `key`. The process-wide rustls provider must be installed.
    pub fn new(key: SecretKey, shared: Shared) -> Self {
        let (tls, _) = tls::client_config(None);
        Self { key, tls, shared }
    }

    /// Connects to the first address of `relay` that answers as that relay.
    pub(super) async fn connect(&self, relay: &Relay) -> Result<(Connection, BootId), DialError> {
        let mut last = DialError::NoAddress;
        let policy = self.shared.load().terms.policy;
        for ip in relay.addresses(policy) {
            let address = SocketAddr::new(ip, relay.control_port);
            match tokio::time::timeout(DEADLINE, self.connect_to(address, relay)).await {
                Ok(Ok(open)) => return Ok(open),
                Ok(Err(error)) => last = error,
                Err(_) => last = DialError::TimedOut,
            }
        }
        Err(last)
    }

    async fn connect_to(
        &self,
        address: SocketAddr,
        relay: &Relay,
    ) -> Result<(Connection, BootId), DialError> {
        let zone = self.shared.load().zone.clone().ok_or(DialError::NoAddress)?;
        let host = relay.own_host(&zone.directory.zone.zone);
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(host.as_str().to_owned())
            .map_err(|_| DialError::NotTheRelay("its host is not a name"))?;
        let tls = TlsConnector::from(self.tls.clone()).connect(name, tcp).await?;
        let exporter = tls::exporter(tls.get_ref().1).map_err(std::io::Error::other)?;
        let mut request = format!("wss://{host}:{}{}", relay.control_port, feed::PATH)
            .into_client_request()
            .map_err(Box::new)?;
        let protocol = HeaderValue::from_static(feed::SUBPROTOCOL);
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
        let config = WebSocketConfig::default()
            .read_buffer_size(MAX_FRAME)
            .write_buffer_size(0)
            .max_write_buffer_size(MAX_FRAME)
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        let (mut socket, _) = tokio_tungstenite::client_async_with_config(request, tls, Some(config))
            .await
            .map_err(Box::new)?;
        let boot = hello(&mut socket, relay, &exporter).await?;
        let server = self.key.address();
        let signature = Statement::Subscribe { server, relay: relay.address }.sign(&self.key, &exporter);
        let subscribe = Request::Subscribe { server, signature: URL_SAFE_NO_PAD.encode(signature) };
        socket.send(Message::text(subscribe.to_text())).await.map_err(Box::new)?;
        Ok((socket, boot))
    }
}

/// The first frame has to be the relay's proof.
async fn hello(socket: &mut Connection, relay: &Relay, exporter: &Exporter) -> Result<BootId, DialError> {
    let text = loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => break text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(_)) => return Err(DialError::NotTheRelay("no hello")),
            Some(Err(error)) => return Err(Box::new(error).into()),
            None => return Err(DialError::NotTheRelay("closed before hello")),
        }
    };
    let Ok(feed::Message::Hello { relay: claimed, boot, signature }) = feed::Message::parse(&text) else {
        return Err(DialError::NotTheRelay("the first message is not a hello"));
    };
    if claimed != relay.address {
        return Err(DialError::NotTheRelay("it says it is another relay"));
    }
    let signature: Option<[u8; 64]> = URL_SAFE_NO_PAD.decode(signature).ok().and_then(|s| s.try_into().ok());
    let signature = signature.ok_or(DialError::NotTheRelay("no signature"))?;
    Statement::Feed { relay: claimed, boot }
        .verify(exporter, &signature)
        .map_err(|_| DialError::NotTheRelay("the signature is not this relay's on this channel"))?;
    Ok(boot)
}
