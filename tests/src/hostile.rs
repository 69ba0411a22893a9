//! A relay that does as it should until clients trust it, and then asks them for what is not its business.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tunnler_protocol::control::{AcmeValue, AuthOk, Limits, SUBPROTOCOL, ToClient};
use tunnler_protocol::{Address, HostName, SecretKey, UnixSeconds};
use tunnler_transport::link::LinkConfig;
use tunnler_transport::relay::{Challenger, PendingLogin};
use tunnler_transport::{MemoryBudget, UnreadLimits, tls};

/// A value that nobody may sign, recognisable in DNS.
pub const VALUE: &str = "hostile-hostile-hostile-hostile-hostile-hos";

/// A moment that no test lives to see.
const FAR: UnixSeconds = UnixSeconds(4_000_000_000);

/// Answers at a relay's address with that relay's key, accepts every client, and asks each to show [`VALUE`] for
/// `names`. Ends with this value.
#[derive(Debug)]
pub struct HostileRelay {
    _task: JoinSet<()>,
}

impl HostileRelay {
    /// Starts to listen at `address`.
    pub async fn start(address: SocketAddr, key: SecretKey, names: Vec<HostName>) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let issued = rcgen::generate_simple_self_signed(["relay.invalid".to_owned()])?;
        let own = PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der());
        let mut config = rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], own.into())?;
        config.alpn_protocols = vec![tls::ALPN.to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                sessions.spawn(welcome(tcp, acceptor.clone(), key.clone(), names.clone()));
            }
        });
        Ok(Self { _task: task })
    }
}

async fn welcome(tcp: TcpStream, acceptor: TlsAcceptor, key: SecretKey, names: Vec<HostName>) {
    if let Err(error) = serve(tcp, acceptor, key, names).await {
        tracing::debug!(%error, "a connection to the hostile relay");
    }
}

async fn serve(tcp: TcpStream, acceptor: TlsAcceptor, key: SecretKey, names: Vec<HostName>) -> Result<()> {
    let mut stream = acceptor.accept(tcp).await?;
    let exporter = tls::exporter(stream.get_ref().1)?;
    upgrade(&mut stream).await?;
    let limits: Limits = serde_json::from_str(r#"{"streams":256,"connections":4}"#)?;
    let relay: Address = key.address();
    let challenger = Challenger::new(key, exporter, limits);
    let pending = PendingLogin::challenge(stream, Vec::new(), challenger).await?;
    let config = LinkConfig {
        streams: limits.streams,
        unread: UnreadLimits::default(),
        budget: MemoryBudget::new(1 << 20),
    };
    let (session, accepted) = pending.accept(relay, &config);
    let mut control = accepted.begin(AuthOk {
        server_address: relay,
        endpoints: vec![],
        ports: vec![],
        limits,
        expires: FAR,
    });
    for name in names {
        session.send(&ToClient::AcmeValue(AcmeValue { name, value: VALUE.into(), until: FAR }));
    }
    while control.next().await.is_some() {}
    Ok(())
}

/// Reads the request for `/connect` and agrees to it.
async fn upgrade<S: AsyncReadExt + AsyncWriteExt + Unpin>(stream: &mut S) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    });
    let accept = derive_accept_key(key.context("no WebSocket handshake")?.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\nsec-websocket-protocol: {SUBPROTOCOL}\r\n\r\n"
    );
    Ok(stream.write_all(answer.as_bytes()).await?)
}
