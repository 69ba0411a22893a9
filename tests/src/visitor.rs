//! A stranger with a browser's habits: asks DNS, tries each address of the answer, verifies TLS, speaks HTTP, and
//! repeats an idempotent request whose connection broke. Knows nothing of relays or tunnels.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long one address may take until its answer begins, before the next address is tried.
const PER_ADDRESS: Duration = Duration::from_secs(2);
/// How often a request is repeated over fresh addresses.
const ROUNDS: usize = 3;

/// Somebody who visits names of one zone.
#[derive(Clone, Debug)]
pub struct Visitor {
    dns: SocketAddr,
    port: u16,
    tls: Tls,
}

/// TLS with one set of trusted roots.
#[derive(Clone)]
pub struct Tls(Arc<rustls::ClientConfig>);

/// A whole HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers, repeated ones kept.
    pub headers: hyper::HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// The certificate the server showed.
    pub leaf: CertificateDer<'static>,
    /// The address that answered.
    pub via: SocketAddr,
}

/// A DNS answer.
#[derive(Debug)]
pub struct Resolved {
    /// Response code.
    pub code: ResponseCode,
    /// Answer section.
    pub records: Vec<Record>,
}

impl Resolved {
    /// The addresses in the answer.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let address = |record: &Record| match record.data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(a) => Some(IpAddr::V6(a.0)),
            _ => None,
        };
        self.records.iter().filter_map(address).collect()
    }
}

impl Visitor {
    /// A visitor that asks `dns`, connects to `port` and trusts `roots` (PEM).
    pub fn new(dns: SocketAddr, port: u16, roots: &str) -> Result<Self> {
        let mut store = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
            store.add(root?)?;
        }
        ensure!(!store.is_empty(), "no root certificate given");
        Ok(Self { dns, port, tls: Tls::new(store) })
    }

    /// The roots this visitor trusts.
    pub fn tls(&self) -> &Tls {
        &self.tls
    }

    /// Asks DNS over UDP, repeating a lost question twice.
    pub async fn resolve(&self, host: &str, kind: RecordType) -> Result<Resolved> {
        let mut query = Message::new(rand::random(), MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii(format!("{host}."))?, kind));
        let id = query.metadata.id;
        let bytes = query.to_vec()?;
        for _ in 0..3 {
            let socket = UdpSocket::bind((if self.dns.is_ipv4() { "127.0.0.1" } else { "::1" }, 0)).await?;
            socket.connect(self.dns).await?;
            socket.send(&bytes).await?;
            let mut buffer = [0; 4096];
            let Ok(length) = tokio::time::timeout(Duration::from_secs(1), socket.recv(&mut buffer)).await
            else {
                continue;
            };
            let Ok(length) = length else { continue };
            let answer = Message::from_vec(&buffer[..length])?;
            ensure!(answer.metadata.id == id, "an answer to another question");
            return Ok(Resolved { code: answer.metadata.response_code, records: answer.answers });
        }
        bail!("no answer from the DNS server at {}", self.dns)
    }

    /// The addresses of `host`.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>> {
        Ok(self.resolve(host, RecordType::A).await?.addresses())
    }

    /// GETs `https://HOST/PATH`, trying every address, up to three rounds: the request is idempotent.
    pub async fn get(&self, host: &str, path: &str) -> Result<Answer> {
        let mut problem = None;
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            match self.get_once(host, path).await {
                Ok(answer) => return Ok(answer),
                Err(error) => problem = Some(error),
            }
        }
        Err(problem.expect("at least one round"))
    }

    /// One round of [`get`](Self::get): each address of one DNS answer once.
    pub async fn get_once(&self, host: &str, path: &str) -> Result<Answer> {
        let addresses = self.addresses(host).await?;
        let mut problems = vec![format!("DNS names {addresses:?}")];
        for address in addresses {
            let address = SocketAddr::new(address, self.port);
            match self.tls.get(address, host, host, path).await {
                Ok(answer) => return Ok(answer),
                Err(error) => problems.push(format!("{address}: {error:#}")),
            }
        }
        bail!("https://{host}{path}: {}", problems.join("; "))
    }

    /// PUTs `body`; tries the next address only while nothing has been sent.
    pub async fn put(&self, host: &str, path: &str, body: Bytes) -> Result<Answer> {
        let (stream, via) = self.connect(host).await?;
        let request = Request::put(path).header("host", host).body(Full::new(body))?;
        exchange(stream, via, request).await
    }

    /// Sends `text` over a WebSocket and returns the first answer.
    pub async fn echo(&self, host: &str, path: &str, text: &str) -> Result<String> {
        let (stream, _) = self.connect(host).await?;
        let url = format!("wss://{host}{path}");
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await?;
        socket.send(text.into()).await?;
        let answer = tokio::time::timeout(Duration::from_secs(5), socket.next()).await?;
        let answer = answer.context("closed without an answer")??.into_text()?.to_string();
        socket.close(None).await?;
        Ok(answer)
    }

    /// A verified TLS connection to the first address that completes a handshake.
    pub async fn connect(&self, host: &str) -> Result<(TlsStream<TcpStream>, SocketAddr)> {
        for address in self.addresses(host).await? {
            let address = SocketAddr::new(address, self.port);
            if let Ok(Ok(stream)) = tokio::time::timeout(PER_ADDRESS, self.tls.connect(address, host)).await {
                return Ok((stream, address));
            }
        }
        bail!("no address of {host} completes a TLS handshake")
    }
}

impl Tls {
    /// Trusts `roots` and nothing else.
    pub fn new(roots: RootCertStore) -> Self {
        let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }

    /// Connects and verifies the certificate for `server_name`.
    pub async fn connect(&self, address: SocketAddr, server_name: &str) -> Result<TlsStream<TcpStream>> {
        self.handshake(TcpStream::connect(address).await?, server_name).await
    }

    /// The same from an address of one's own.
    pub async fn connect_from(
        &self,
        source: IpAddr,
        address: SocketAddr,
        server_name: &str,
    ) -> Result<TlsStream<TcpStream>> {
        let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(SocketAddr::new(source, 0))?;
        self.handshake(socket.connect(address).await?, server_name).await
    }

    async fn handshake(&self, tcp: TcpStream, server_name: &str) -> Result<TlsStream<TcpStream>> {
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(server_name.to_owned())?;
        Ok(TlsConnector::from(self.0.clone()).connect(name, tcp).await?)
    }

    /// One GET over one new connection; the answer must begin within two seconds.
    pub async fn get(
        &self,
        address: SocketAddr,
        server_name: &str,
        host: &str,
        path: &str,
    ) -> Result<Answer> {
        let request = Request::get(path).header("host", host).body(Full::new(Bytes::new()))?;
        let stream = tokio::time::timeout(PER_ADDRESS, self.connect(address, server_name));
        exchange(stream.await.context("TLS handshake timed out")??, address, request).await
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

async fn exchange(
    stream: TlsStream<TcpStream>,
    via: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<Answer> {
    let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let leaf = leaf.context("the server showed no certificate")?.clone().into_owned();
    let idempotent = request.method().is_idempotent() && request.method() != hyper::Method::PUT;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let head = sender.send_request(request);
    let response = if idempotent {
        tokio::time::timeout(PER_ADDRESS, head).await.context("no answer within two seconds")??
    } else {
        head.await?
    };
    let (head, body) = response.into_parts();
    let body = body.collect().await.context("the answer broke off")?.to_bytes();
    connection.abort();
    Ok(Answer { status: head.status, headers: head.headers, body, leaf, via })
}
