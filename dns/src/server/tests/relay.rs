//! The feed of a relay, and nothing else of it: TLS 1.3, `hello`, snapshot, changes, heartbeats; or a flood.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::{SinkExt, StreamExt};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tunnler_protocol::SecretKey;
use tunnler_protocol::address::Address;
use tunnler_protocol::challenge::{EXPORTER_LABEL, Exporter, Statement};
use tunnler_protocol::feed::{self, HEARTBEAT, Message};
use tunnler_protocol::instance::{BootId, InstanceId};
use tunnler_protocol::presence::Presence;

use crate::fixture::{address, key};

/// What a relay holds, and who listens.
#[derive(Debug)]
struct Held {
    number: u8,
    key: SecretKey,
    boot: BootId,
    /// The snapshot: messages by what they are about.
    snapshot: Mutex<BTreeMap<String, Message>>,
    changes: broadcast::Sender<Message>,
    silent: watch::Sender<bool>,
    subscriber: watch::Sender<Option<Address>>,
    /// Says what comes next, without end, as soon as the second half opens the gates.
    flood: Option<(Flood, watch::Sender<bool>)>,
}

/// The message of a number.
pub type Flood = fn(u64) -> Message;

/// A relay that ends with this value.
#[derive(Debug)]
pub struct FeedRelay {
    held: Arc<Held>,
    ip: Ipv4Addr,
    port: u16,
    task: JoinHandle<()>,
}

impl Drop for FeedRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FeedRelay {
    /// Relay `number` with its own key at 127.0.NUMBER.1.
    pub async fn start(number: u8) -> Self {
        Self::listen(number, key(number), 0, None).await
    }

    /// A hostile one, which says whatever `flood` says as fast as it is read.
    pub async fn start_flooding(number: u8, flood: Flood) -> Self {
        Self::listen(number, key(number), 0, Some(flood)).await
    }

    /// Lets a flood go.
    pub fn open_the_gates(&self) {
        if let Some((_, open)) = &self.held.flood {
            open.send_replace(true);
        }
    }

    /// The same again at the port it had.
    pub async fn start_at(number: u8, port: u16) -> Self {
        Self::listen(number, key(number), port, None).await
    }

    /// Somebody with another key who claims to be relay `number`.
    pub async fn start_as(number: u8, key: SecretKey) -> Self {
        Self::listen(number, key, 0, None).await
    }

    async fn listen(number: u8, key: SecretKey, port: u16, flood: Option<Flood>) -> Self {
        // A network of its own per relay, as the server mixes networks.
        let ip = Ipv4Addr::new(127, 0, number, 1);
        let listener = TcpListener::bind((IpAddr::V4(ip), port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let held = Arc::new(Held {
            number,
            key,
            boot: BootId(rand::random()),
            snapshot: Mutex::default(),
            changes: broadcast::channel(64).0,
            silent: watch::channel(false).0,
            subscriber: watch::channel(None).0,
            flood: flood.map(|flood| (flood, watch::channel(false).0)),
        });
        let task = tokio::spawn(accept(listener, held.clone()));
        Self { held, ip, port, task }
    }

    pub fn number(&self) -> u8 {
        self.held.number
    }

    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The client's session begins here, with its presence.
    pub fn attach(&self, presence: &Presence) {
        self.publish(presence);
        self.attach_silently(presence.claims().ins.0[0]);
    }

    /// The session of client `n` begins, but its presence is withheld.
    pub fn attach_silently(&self, n: u8) {
        self.tell(format!("session {n}"), Message::Attached { client: address(n), ins: InstanceId([n; 16]) });
    }

    pub fn drain(&self, n: u8) {
        self.tell(format!("session {n}"), Message::Draining { client: address(n), ins: InstanceId([n; 16]) });
    }

    pub fn publish(&self, presence: &Presence) {
        self.publish_text(presence.text());
    }

    pub fn publish_text(&self, text: &str) {
        self.tell(format!("presence {text}"), Message::Presence { presence: text.to_owned() });
    }

    /// Stops saying anything; connections stay open, and new ones are not answered.
    pub fn fall_silent(&self) {
        self.held.silent.send_replace(true);
    }

    /// Dies: connections are reset. Returns its port.
    pub fn kill(self) -> u16 {
        self.port
    }

    /// Who proved a key on the feed.
    pub async fn subscriber(&self) -> Address {
        let mut subscriber = self.held.subscriber.subscribe();
        let waiting = subscriber.wait_for(Option::is_some);
        tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap().unwrap()
    }

    fn tell(&self, about: String, message: Message) {
        self.held.snapshot.lock().unwrap().insert(about, message.clone());
        let _ = self.held.changes.send(message);
    }
}

async fn accept(listener: TcpListener, held: Arc<Held>) {
    let certificate = rcgen::generate_simple_self_signed(vec!["relay.invalid".to_owned()]).unwrap();
    let private = PrivatePkcs8KeyDer::from(certificate.signing_key.serialize_der());
    let mut config = rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], private.into())
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, held) = (acceptor.clone(), held.clone());
        connections.spawn(async move {
            let _ = speak(stream, acceptor, held).await;
        });
    }
}

async fn speak(stream: TcpStream, acceptor: TlsAcceptor, held: Arc<Held>) -> anyhow::Result<()> {
    let mut silent = held.silent.subscribe();
    if *silent.borrow() {
        std::future::pending::<()>().await;
    }
    let tls = acceptor.accept(stream).await?;
    let exporter = Exporter(tls.get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, None)?);
    // The type is tungstenite's.
    #[allow(clippy::result_large_err)]
    let protocol = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        assert_eq!(request.uri().path(), feed::PATH);
        assert_eq!(request.headers()["sec-websocket-protocol"], feed::SUBPROTOCOL);
        let value = HeaderValue::from_static(feed::SUBPROTOCOL);
        response.headers_mut().insert("sec-websocket-protocol", value);
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(tls, protocol).await?;
    let relay = address(held.number);
    let signature = Statement::Feed { relay, boot: held.boot }.sign(&held.key, &exporter);
    let hello = Message::Hello { relay, boot: held.boot, signature: URL_SAFE_NO_PAD.encode(signature) };
    socket.send(Frame::text(hello.to_text())).await?;
    let (mut changes, snapshot): (_, Vec<Message>) = {
        let snapshot = held.snapshot.lock().unwrap();
        (held.changes.subscribe(), snapshot.values().cloned().collect())
    };
    for message in snapshot.into_iter().chain([Message::Synced]) {
        socket.send(Frame::text(message.to_text())).await?;
    }
    if let Some((flood, open)) = &held.flood {
        open.subscribe().wait_for(|open| *open).await?;
        for n in 0.. {
            socket.send(Frame::text(flood(n).to_text())).await?;
        }
    }
    let mut beat = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            () = told_to_be_silent(&mut silent) => std::future::pending::<()>().await,
            _ = beat.tick() => socket.send(Frame::text(Message::Heartbeat.to_text())).await?,
            Ok(change) = changes.recv() => socket.send(Frame::text(change.to_text())).await?,
            Some(frame) = socket.next() => {
                if let Frame::Text(text) = frame?
                    && let feed::Request::Subscribe { server, signature } = feed::Request::parse(&text)?
                {
                    let signature = URL_SAFE_NO_PAD.decode(signature)?.try_into().expect("64 bytes");
                    Statement::Subscribe { server, relay }.verify(&exporter, &signature)?;
                    held.subscriber.send_replace(Some(server));
                }
            }
        }
    }
}

async fn told_to_be_silent(silent: &mut watch::Receiver<bool>) {
    let _ = silent.wait_for(|silent| *silent).await;
}
