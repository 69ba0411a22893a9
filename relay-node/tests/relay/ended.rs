//! A relay that ends its visitors' TLS, a client that lets it, and the web server behind.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tunnler_edge::proxy::{self, HostHeader, UpstreamTls};
use tunnler_edge::tls::Protocol;
use tunnler_edge::{Certificate, Certificates, Site, Upstream, Visitor};
use tunnler_protocol::presence::{Presence, TlsMode};
use tunnler_protocol::stream::{Payload, StreamHeader};
use tunnler_transport::IncomingStream;

use crate::world::*;

pub const HOST: &str = "mynode.tun.test";

/// A relay, a client of it in term mode, and the web server behind.
pub struct Term {
    pub world: World,
    pub root: CertificateDer<'static>,
    /// What the client was told of each stream.
    pub streams: Arc<Mutex<Vec<StreamHeader>>>,
    pub client: tokio::task::JoinHandle<()>,
}

/// Answers with what it saw.
pub async fn upstream() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                if request.uri().path() == "/never" {
                    tokio::time::sleep(PATIENCE).await;
                }
                let mut text = format!("{} {}\n", request.method(), request.uri());
                for (name, value) in request.headers() {
                    text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
                }
                let body = request.into_body().collect().await?.to_bytes();
                text += &format!("{} bytes", body.len());
                Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(text))))
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

pub fn term_presence(world: &World, later: u64) -> Presence {
    let mut claims = world.presence(1, later).claims().clone();
    claims.services[0].tls = TlsMode::Term;
    claims.sign(&key(1)).unwrap()
}

impl Term {
    pub async fn start() -> Self {
        Self::before(upstream().await).await
    }

    pub async fn before(upstream: SocketAddr) -> Self {
        Self::with(upstream, |_| {}).await
    }

    pub async fn with(upstream: SocketAddr, change: impl FnOnce(&mut tunnler_relay::RelayConfig)) -> Self {
        let issued = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
        let (chain, private) = (issued.cert.pem(), issued.signing_key.serialize_pem());
        let certificate = Certificate::from_pem(chain.as_bytes(), private.as_bytes()).unwrap();
        let certificates = Arc::<Certificates>::default();
        certificates.install(&certificate);
        let world = World::with(|config| {
            config.term_certificates = certificates;
            change(config);
        })
        .await;
        let mut session = world.connect(login(1, Some(term_presence(&world, 0)))).await.unwrap();
        let target = upstream.to_string().parse().unwrap();
        let site: Site = Upstream::new(target, &UpstreamTls::AnyCertificate, HostHeader::Keep).into();
        let (site, streams) = (Arc::new(site), Arc::<Mutex<Vec<StreamHeader>>>::default());
        let seen = streams.clone();
        let client = tokio::spawn(async move {
            let _control = session.control;
            loop {
                tokio::select! {
                    stream = session.streams.next() => {
                        let Some(IncomingStream { io, header }) = stream else { return };
                        seen.lock().unwrap().push(header.clone());
                        let protocol = match header.payload {
                            Payload::Http2 => Protocol::Http2,
                            _ => Protocol::Http1,
                        };
                        let host = header.host.expect("the relay names it");
                        let visitor = Visitor { address: header.visitor, host, protocol };
                        tokio::spawn(proxy::serve(io, visitor, site.clone(), CancellationToken::new()));
                    }
                    event = session.events.next() => if event.is_none() { return },
                }
            }
        });
        Self { world, root: issued.cert.der().clone(), streams, client }
    }

    pub async fn visit(&self, alpn: &[u8]) -> TlsStream<TcpStream> {
        self.visit_from([127, 0, 0, 1], alpn).await
    }

    pub async fn visit_from(&self, from: [u8; 4], alpn: &[u8]) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from(HOST).unwrap();
        let tcp = connect_from(from, self.world.relay.local_addr()).await.unwrap();
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        timeout(PATIENCE, connecting).await.expect("in time").unwrap()
    }

    /// Sends raw bytes and reads all that comes until the relay closes, or falls silent.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.visit(b"http/1.1").await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(Ok(n)) = timeout(Duration::from_millis(400), stream.read(&mut chunk)).await {
            if n == 0 {
                break;
            }
            answer.extend_from_slice(&chunk[..n]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }
}
