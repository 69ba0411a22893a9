//! An edge in front of an upstream, and raw or polite visitors.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsConnector, rustls};
use tokio_util::sync::CancellationToken;
use tunnler_edge::proxy::{self, HostHeader, UpstreamTls};
use tunnler_edge::tls::TlsEnd;
use tunnler_edge::{Certificate, Certificates, Site, Upstream, Visitor};

pub const HOST: &str = "mynode.tun.test";
pub type Body = BoxBody<Bytes, std::io::Error>;

/// What an upstream saw of one request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    pub headers: http::HeaderMap,
}

pub type Record = Arc<Mutex<Vec<Seen>>>;

pub struct Rig {
    pub edge: SocketAddr,
    pub seen: Record,
    pub stop: CancellationToken,
    root: CertificateDer<'static>,
}

/// Runs `answer` as the upstream and an edge before it.
pub async fn start<F, R>(answer: F) -> Rig
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let seen = Record::default();
    let upstream = upstream(answer, seen.clone()).await;
    serving(upstream.into(), seen).await
}

/// A recording web server.
pub async fn upstream<F, R>(answer: F, seen: Record) -> Upstream
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = upstream.accept().await {
            stream.set_nodelay(true).unwrap();
            let (answer, record) = (answer.clone(), seen.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                record.lock().unwrap().push(Seen {
                    line: format!("{} {}", request.method(), request.uri()),
                    headers: request.headers().clone(),
                });
                let answer = answer(request);
                async move { Ok::<_, std::convert::Infallible>(answer.await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            tokio::spawn(connection);
        }
    });
    local(&address.to_string())
}

/// The upstream at a target, whatever its certificate.
pub fn local(target: &str) -> Upstream {
    Upstream::new(target.parse().unwrap(), &UpstreamTls::AnyCertificate, HostHeader::Keep)
}

/// An edge before any upstream.
pub async fn before(upstream: &str, seen: Record) -> Rig {
    serving(local(upstream).into(), seen).await
}

/// An edge that serves a site.
pub async fn serving(site: Site, seen: Record) -> Rig {
    let site = Arc::new(site);
    let names = vec![HOST.to_owned(), format!("*.{HOST}")];
    let issued = rcgen::generate_simple_self_signed(names).unwrap();
    let certificates = Arc::new(Certificates::default());
    let (chain, key) = (issued.cert.pem(), issued.signing_key.serialize_pem());
    certificates.install(&Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap());
    let tls = TlsEnd::new(certificates);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let edge = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        while let Ok((stream, address)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let (tls, site, stop) = (tls.clone(), site.clone(), stopped.clone());
            tokio::spawn(async move {
                if let Ok(visitor) = tls.accept(stream).await {
                    let seen = Visitor { address, host: visitor.host, protocol: visitor.protocol };
                    let _ = proxy::serve(visitor.stream, seen, site, stop).await;
                }
            });
        }
    });
    Rig { edge, seen, stop, root: issued.cert.der().clone() }
}

impl Rig {
    pub async fn connect(&self, host: &str, alpn: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from(host.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(self.edge).await?).await
    }

    /// Sends raw bytes and reads until the edge closes or falls silent for a moment.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect(HOST, b"http/1.1").await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        let read = async {
            let mut chunk = [0; 4096];
            loop {
                match tokio::time::timeout(Duration::from_millis(400), stream.read(&mut chunk)).await {
                    Ok(Ok(n)) if n > 0 => answer.extend_from_slice(&chunk[..n]),
                    _ => break,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), read).await.expect("an answer in time");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Sends one request that ends its connection, and reads the answer whole.
    pub async fn raw_until_answered(&self, request: &str) -> String {
        let mut stream = self.connect(HOST, b"http/1.1").await.unwrap();
        let request = request.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = within(stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub async fn http1<B>(&self) -> hyper::client::conn::http1::SendRequest<B>
    where
        B: hyper::body::Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static,
    {
        let stream = self.connect(HOST, b"http/1.1").await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    pub async fn http2<B>(&self) -> hyper::client::conn::http2::SendRequest<B>
    where
        B: hyper::body::Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
    {
        let stream = self.connect(HOST, b"h2").await.unwrap();
        let executor = hyper_util::rt::TokioExecutor::new();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    pub fn lines(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.line.clone()).collect()
    }
}

pub fn text(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed()
}

pub async fn hello(_: Request<Incoming>) -> Response<Body> {
    Response::new(text("hello"))
}

pub fn empty() -> Empty<Bytes> {
    Empty::new()
}

/// A GET that carries nothing.
pub fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://{HOST}{path}")).header("host", HOST).body(empty()).unwrap()
}

/// Bounds what must not hang.
pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("done in time")
}

/// Waits for a condition.
pub async fn until(condition: impl Fn() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
