//! Visitors whose TLS ends at the relay.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
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

use crate::adversary::{self, Recorder};
use crate::places::{CALM, LOUD, SERVED_WITHIN, connect_from, is_reset};
use crate::world::*;

const HOST: &str = "mynode.tun.test";

/// A relay, a client of it in term mode, and the web server behind.
struct Term {
    world: World,
    root: CertificateDer<'static>,
    /// What the client was told of each stream.
    streams: Arc<Mutex<Vec<StreamHeader>>>,
    client: tokio::task::JoinHandle<()>,
}

/// Answers with what it saw.
async fn upstream() -> SocketAddr {
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

fn term_presence(world: &World, later: u64) -> Presence {
    let mut claims = world.presence(1, later).claims().clone();
    claims.services[0].tls = TlsMode::Term;
    claims.sign(&key(1)).unwrap()
}

impl Term {
    async fn start() -> Self {
        Self::before(upstream().await).await
    }

    async fn before(upstream: SocketAddr) -> Self {
        Self::with(upstream, |_| {}).await
    }

    async fn with(upstream: SocketAddr, change: impl FnOnce(&mut tunnler_relay::RelayConfig)) -> Self {
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

    async fn visit(&self, alpn: &[u8]) -> TlsStream<TcpStream> {
        self.visit_from([127, 0, 0, 1], alpn).await
    }

    async fn visit_from(&self, from: [u8; 4], alpn: &[u8]) -> TlsStream<TcpStream> {
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
    async fn raw(&self, bytes: &[u8]) -> String {
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

#[tokio::test]
async fn the_client_gets_http_and_the_truth_about_the_visitor() {
    let term = Term::start().await;
    let lies = "x-forwarded-for: 1.2.3.4\r\nforwarded: for=1.2.3.4\r\nx-real-ip: 1.2.3.4\r\n";
    let request = format!("POST /a?b HTTP/1.1\r\nhost: {HOST}\r\n{lies}content-length: 3\r\n\r\nabc");
    let answer = term.raw(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for line in ["POST /a?b", "3 bytes", "x-forwarded-for: 127.0.0.1", "x-forwarded-proto: https"] {
        assert!(answer.contains(line), "no {line:?} in {answer}");
    }
    assert!(!answer.contains("1.2.3.4"), "{answer}");
    assert_eq!(answer.matches("forwarded:").count(), 1, "{answer}");
    assert!(answer.contains(&format!("host: {HOST}")), "{answer}");
    let streams = term.streams.lock().unwrap();
    assert_eq!(streams.len(), 1);
    assert_eq!(streams[0].payload, Payload::Http1);
    assert!(streams[0].visitor.ip().is_loopback());
}

#[tokio::test]
async fn an_http2_visitor_has_one_stream_for_all_requests() {
    let term = Term::start().await;
    let io = TokioIo::new(term.visit(b"h2").await);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let get = |n: usize| {
        let mut sender = sender.clone();
        async move {
            let uri = format!("https://{HOST}/{n}");
            let request = Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
            let answer = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
            assert_eq!(answer.status(), 200);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(body.starts_with(format!("GET /{n}\n").as_bytes()), "{body:?}");
        }
    };
    get(0).await;
    futures::future::join_all((1..40).map(get)).await;
    let streams = term.streams.lock().unwrap();
    assert_eq!(streams.len(), 1, "{streams:?}");
    assert_eq!(streams[0].payload, Payload::Http2);
}

#[tokio::test]
async fn without_a_certificate_a_visitor_is_refused_at_once() {
    let world = World::new().await;
    let session = world.connect(login(1, Some(term_presence(&world, 0)))).await.unwrap();
    let _site = spawn_site(session, echo);
    let error = world.visit(HOST).await.unwrap_err();
    assert!(error.to_string().contains("InternalError"), "{error}");
}

#[tokio::test]
async fn a_service_that_passes_again_is_passed_although_there_is_a_certificate() {
    let term = Term::start().await;
    term.client.abort();
    let session = term.world.connect(login(1, Some(term.world.presence(1, 1000)))).await.unwrap();
    let _site = spawn_site(session, echo);
    // The client's own certificate, not the relay's, and the bytes as they are.
    eventually("the client itself answers", || async {
        let Ok(mut tls) = term.world.visit(HOST).await else { return false };
        let leaf = tls.get_ref().1.peer_certificates().unwrap()[0].clone();
        leaf != term.root && exchange(&mut tls, b"not HTTP").await.is_ok_and(|echoed| echoed == b"not HTTP")
    })
    .await;
}

#[tokio::test]
async fn a_name_taken_away_cuts_its_visitors() {
    let term = Term::start().await;
    let mut tls = term.visit(b"http/1.1").await;
    tls.write_all(format!("GET /never HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    eventually("the request arrives", || async { !term.streams.lock().unwrap().is_empty() }).await;
    term.world.directory.send_replace(Some(Arc::new(directory(vec![named("mynode", &key(2))]))));
    let (mut tcp, _) = tls.into_inner();
    let error = timeout(PATIENCE, tcp.read_to_end(&mut Vec::new())).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// A visitor holds a place while a request of it is under way. When that must be given up, all of its connection is.
#[tokio::test]
async fn requests_that_never_end_give_way_to_another_networks() {
    let term = Term::with(upstream().await, |config| config.limits.streams = 2).await;
    let mut loud = Vec::new();
    for n in 0..2 {
        let mut tls = term.visit_from(LOUD, b"http/1.1").await;
        tls.write_all(format!("GET /never HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
        eventually("the request arrives", || async { term.streams.lock().unwrap().len() == n + 1 }).await;
        loud.push(tls);
    }
    let mut calm = term.visit_from(CALM, b"http/1.1").await;
    calm.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    timeout(SERVED_WITHIN, calm.read_exact(&mut answer)).await.expect("in time").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let other = timeout(Duration::from_millis(50), loud[1].read(&mut [0])).await;
    assert!(other.is_err(), "undisturbed, and still without an answer: {other:?}");
    assert!(is_reset(&mut loud.swap_remove(0).into_inner().0).await);
}

#[tokio::test]
async fn smuggled_requests_never_reach_the_upstream_behind_the_client() {
    let recorder = Recorder::start("ok").await;
    let term = Term::before(recorder.address).await;
    let connect = |alpn| {
        let term = &term;
        async move { Ok(term.visit(alpn).await) }
    };
    adversary::smuggle(connect, HOST, &recorder).await;
}
