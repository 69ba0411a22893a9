//! The edge as a whole: a visitor's TLS and HTTP against a recording upstream, all on loopback.

mod rig {
    //! An edge in front of an upstream, and raw or polite visitors.

    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::combinators::BoxBody;
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
    use tunnler_edge::proxy::{self, HostHeader, Target, UpstreamTls};
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
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = upstream.local_addr().unwrap();
        let record = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = upstream.accept().await {
                let (answer, record) = (answer.clone(), record.clone());
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
        before(&address.to_string(), seen).await
    }

    /// An edge before any upstream.
    pub async fn before(upstream: &str, seen: Record) -> Rig {
        let target: Target = upstream.parse().unwrap();
        let site: Site = Upstream::new(target, &UpstreamTls::AnyCertificate, HostHeader::Keep).into();
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

        pub async fn http1<B>(&self) -> hyper::client::conn::http1::SendRequest<B>
        where
            B: hyper::body::Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static,
        {
            let stream = self.connect(HOST, b"http/1.1").await.unwrap();
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
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
}

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use rig::{Body, HOST};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn text(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed()
}

async fn hello(_: Request<Incoming>) -> Response<Body> {
    Response::new(text("hello"))
}

fn empty() -> Empty<Bytes> {
    Empty::new()
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("done in time")
}

#[tokio::test]
async fn forwarding_headers_are_replaced_and_host_is_kept() {
    let rig = rig::start(hello).await;
    let answer = rig
        .raw(
            b"GET /a//b%2F?q=1 HTTP/1.1\r\nHost: MyNode.tun.test.:8443\r\nX-Forwarded-For: 6.6.6.6\r\n\
              Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nConnection: close, x-gone\r\n\
              X-Gone: 1\r\nKeep-Alive: 5\r\nProxy: http://evil\r\nX-Kept: yes\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    let seen = rig.seen.lock().unwrap()[0].clone();
    assert_eq!(seen.line, "GET /a//b%2F?q=1");
    assert_eq!(seen.headers[header::HOST], "mynode.tun.test:8443");
    assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(seen.headers["x-forwarded-proto"], "https");
    assert_eq!(seen.headers["x-forwarded-host"], "mynode.tun.test:8443");
    assert_eq!(seen.headers["forwarded"], "for=127.0.0.1;host=\"mynode.tun.test:8443\";proto=https");
    assert_eq!(seen.headers["x-kept"], "yes");
    for gone in ["x_forwarded_for", "x-gone", "keep-alive", "proxy"] {
        assert!(!seen.headers.contains_key(gone), "{gone}");
    }
}

#[tokio::test]
async fn the_host_must_be_the_one_of_the_connection() {
    let rig = rig::start(hello).await;
    let cases: [(&str, u16); 12] = [
        ("GET / HTTP/1.1\r\nHost: other.tun.test\r\n\r\n", 421),
        ("GET http://other.tun.test/ HTTP/1.1\r\nHost: other.tun.test\r\n\r\n", 421),
        ("GET http://mynode.tun.test/x HTTP/1.1\r\nHost: mynode.tun.test\r\n\r\n", 200),
        ("GET http://other.tun.test/ HTTP/1.1\r\nHost: mynode.tun.test\r\n\r\n", 400),
        ("GET http://u@mynode.tun.test/ HTTP/1.1\r\nHost: mynode.tun.test\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: u@mynode.tun.test\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: mynode.tun.test\r\nHost: mynode.tun.test\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: mynode.tun.test:x\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: mynode.tun.test\r\n\r\n", 400),
        ("CONNECT mynode.tun.test:443 HTTP/1.1\r\nHost: mynode.tun.test:443\r\n\r\n", 405),
        ("TRACE / HTTP/1.1\r\nHost: mynode.tun.test\r\n\r\n", 405),
    ];
    for (request, status) in cases {
        let answer = rig.raw(request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {answer}");
    }
    assert_eq!(rig.lines(), ["GET /x"]);
    // Another host gets no handshake at all.
    assert!(rig.connect("other.tun.test", b"http/1.1").await.is_err());
}

#[tokio::test]
async fn smuggled_requests_never_reach_the_upstream() {
    // Each of these could carry a second request to a server that frames it differently.
    let start = "POST /first HTTP/1.1\r\nHost: mynode.tun.test\r\n";
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: mynode.tun.test\r\n\r\n";
    let variants: Vec<(&str, String)> = vec![
        (
            "CL.TE",
            format!("{start}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        (
            "TE.CL",
            format!(
                "{start}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n",
                smuggled.len()
            ),
        ),
        (
            "two lengths",
            format!("{start}Content-Length: 0\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len()),
        ),
        ("list of lengths", format!("{start}Content-Length: 0, {}\r\n\r\n{smuggled}", smuggled.len())),
        ("signed length", format!("{start}Content-Length: +{}\r\n\r\n{smuggled}", smuggled.len())),
        (
            "TE identity",
            format!(
                "{start}Transfer-Encoding: identity\r\nContent-Length: {}\r\n\r\n{smuggled}",
                smuggled.len()
            ),
        ),
        (
            "TE xchunked",
            format!(
                "{start}Transfer-Encoding: xchunked\r\nContent-Length: {}\r\n\r\n{smuggled}",
                smuggled.len()
            ),
        ),
        (
            "TE chunked, identity",
            format!("{start}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        (
            "TE tab",
            format!("{start}Transfer-Encoding:\tchunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        ("space before colon", format!("{start}Content-Length : {}\r\n\r\n{smuggled}", smuggled.len())),
        (
            "obs-fold",
            format!("{start}Transfer-Encoding:\r\n chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        (
            "underscore",
            format!(
                "{start}Transfer_Encoding: chunked\r\nContent-Length: {}\r\n\r\n{smuggled}",
                smuggled.len()
            ),
        ),
        ("NUL in a value", format!("{start}X: a\0b\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len())),
        (
            "CR in a value",
            format!("{start}X: a\rContent-Length: 0\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len()),
        ),
        ("chunk size with sign", format!("{start}Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n{smuggled}")),
        (
            "chunk size overflow",
            format!("{start}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{smuggled}"),
        ),
        (
            "chunk without CRLF",
            format!("{start}Transfer-Encoding: chunked\r\n\r\n1\r\nZZ\r\n0\r\n\r\n{smuggled}"),
        ),
        (
            "HTTP/1.0 chunked",
            format!(
                "POST /first HTTP/1.0\r\nHost: mynode.tun.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
            ),
        ),
    ];
    let drain = |request: Request<Incoming>| async {
        let _ = request.into_body().collect().await;
        Response::new(text("ok"))
    };
    for (name, bytes) in variants {
        let rig = rig::start(drain).await;
        let answer = rig.raw(bytes.as_bytes()).await;
        let lines = rig.lines();
        // Pipelining is allowed where both sides agree on the framing; then the second request is one of the visitor's
        // own and is answered as one. What must not happen: the upstream sees a request that was not answered.
        let answered = answer.matches("HTTP/1.1 200").count();
        assert!(lines.len() <= answered.max(1), "{name}: upstream saw {lines:?}, visitor {answer:?}");
        let framed_alike = ["CL.TE", "TE.CL", "TE tab", "underscore"];
        if !framed_alike.contains(&name) {
            assert!(!lines.iter().any(|line| line.contains("smuggled")), "{name}: {lines:?}");
        }
    }
}

#[tokio::test]
async fn repeated_headers_and_errors_for_people_and_programs() {
    let rig = rig::start(|_| async {
        let mut response = Response::new(text("cookies"));
        for cookie in ["a=1; Path=/", "b=2; Path=/"] {
            response.headers_mut().append(header::SET_COOKIE, HeaderValue::from_static(cookie));
        }
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("x-internal"));
        response.headers_mut().insert("x-internal", HeaderValue::from_static("1"));
        response
    })
    .await;
    let mut sender = rig.http1().await;
    let request = Request::get("/").header("host", HOST).body(empty()).unwrap();
    let answer = within(sender.send_request(request)).await.unwrap();
    assert_eq!(answer.headers().get_all(header::SET_COOKIE).iter().count(), 2);
    assert!(!answer.headers().contains_key("x-internal"));

    // A port where nobody listens.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let dead = rig::before(&free.to_string(), rig::Record::default()).await;
    let answer =
        dead.raw(b"GET / HTTP/1.1\r\nHost: mynode.tun.test\r\nAccept: application/json\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"status\":503"), "{answer}");
    let answer = dead.raw(b"GET / HTTP/1.1\r\nHost: mynode.tun.test\r\nAccept: text/html\r\n\r\n").await;
    assert!(answer.contains("<h1>503"), "{answer}");
}

#[tokio::test]
async fn large_bodies_stream_both_ways_over_both_protocols() {
    const SIZE: usize = 50 << 20;
    let rig = rig::start(|request: Request<Incoming>| async move {
        let mut digest = Sha256::new();
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.unwrap().into_data() {
                digest.update(&data);
            }
        }
        let chunk = Bytes::from(vec![7; 64 << 10]);
        let chunks =
            futures::stream::iter((0..SIZE / chunk.len()).map(move |_| Ok(Frame::data(chunk.clone()))));
        let mut response = Response::new(BodyExt::boxed(StreamBody::new(chunks)));
        let digest = HeaderValue::from_str(&hex(&digest.finalize())).unwrap();
        response.headers_mut().insert("x-digest", digest);
        response
    })
    .await;
    let sent = vec![3; SIZE];
    let expected = (hex(&Sha256::digest(&sent)), hex(&Sha256::digest(vec![7; SIZE])));
    let request = |body: Vec<u8>| {
        Request::post(format!("https://{HOST}/"))
            .header("host", HOST)
            .body(Full::new(Bytes::from(body)))
            .unwrap()
    };
    let mut http1 = rig.http1().await;
    let mut http2 = rig.http2().await;
    for answer in [
        within(http1.send_request(request(sent.clone()))).await,
        within(http2.send_request(request(sent))).await,
    ] {
        let answer = answer.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["x-digest"], expected.0);
        let body = within(answer.into_body().collect()).await.unwrap().to_bytes();
        assert_eq!(hex(&Sha256::digest(&body)), expected.1);
    }
}

#[tokio::test]
async fn an_aborted_answer_is_an_aborted_answer() {
    // An upstream that promises more than it sends, with a length and in chunks, and one that is reset.
    for head in ["Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = upstream.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = upstream.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ =
                    stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n5\r\nhello\r\n").as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        let rig = rig::before(&address.to_string(), rig::Record::default()).await;
        let mut http1 = rig.http1().await;
        let request = || Request::get(format!("https://{HOST}/")).header("host", HOST).body(empty()).unwrap();
        let answer = within(http1.send_request(request())).await.unwrap();
        assert!(within(answer.into_body().collect()).await.is_err(), "h1, {head}");
        let mut http2 = rig.http2().await;
        let answer = within(http2.send_request(request())).await.unwrap();
        assert!(within(answer.into_body().collect()).await.is_err(), "h2, {head}");
    }
}

#[tokio::test]
async fn an_aborted_upload_is_an_aborted_upload() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let rig = rig::start(move |request: Request<Incoming>| {
        let tell = tell.clone();
        async move {
            let _ = tell.send(request.into_body().collect().await.is_err());
            Response::new(text("read"))
        }
    })
    .await;
    for head in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let mut stream = rig.connect(HOST, b"http/1.1").await.unwrap();
        let request = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\n{head}\r\n\r\n5\r\nhello\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        World::until(|| rig.lines().len() == 1).await;
        drop(stream);
        assert!(within(told.recv()).await.unwrap(), "the upstream saw a clean end, {head}");
        rig.seen.lock().unwrap().clear();
    }
}

/// Waiting for a condition.
struct World;

impl World {
    async fn until(condition: impl Fn() -> bool) {
        within(async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn websockets_pass_and_other_upgrades_do_not() {
    let rig = rig::start(|mut request: Request<Incoming>| async move {
        if request.headers().get(header::UPGRADE).is_none() {
            return Response::new(text("plain"));
        }
        let key = request.headers()["sec-websocket-key"].as_bytes().to_vec();
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let io = TokioIo::new(upgrade.await.unwrap());
            let role = tokio_tungstenite::tungstenite::protocol::Role::Server;
            let mut socket = tokio_tungstenite::WebSocketStream::from_raw_socket(io, role, None).await;
            while let Some(Ok(message)) = socket.next().await {
                if message.is_close() {
                    break;
                }
                futures::SinkExt::send(&mut socket, message).await.unwrap();
            }
        });
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(
                "sec-websocket-accept",
                tokio_tungstenite::tungstenite::handshake::derive_accept_key(&key),
            )
            .body(text(""))
            .unwrap()
    })
    .await;
    let stream = rig.connect(HOST, b"http/1.1").await.unwrap();
    let (mut socket, _) =
        within(tokio_tungstenite::client_async(format!("ws://{HOST}/echo"), stream)).await.unwrap();
    let message = tokio_tungstenite::tungstenite::Message::binary(vec![9; 100_000]);
    futures::SinkExt::send(&mut socket, message.clone()).await.unwrap();
    assert_eq!(within(socket.next()).await.unwrap().unwrap(), message);
    socket.close(None).await.unwrap();

    for upgrade in ["h2c", "websocket, h2c", "TLS/1.0"] {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\
             Upgrade: {upgrade}\r\n\r\n"
        );
        let answer = rig.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("plain"), "{upgrade}: {answer}");
    }
}

#[tokio::test]
async fn http2_requests_are_held_to_the_same_rules() {
    let rig = rig::start(hello).await;
    let mut http2 = rig.http2().await;
    let request = |uri: &str| Request::get(uri).body(empty()).unwrap();
    let answer = within(http2.send_request(request("https://mynode.tun.test/ok"))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let answer = within(http2.send_request(request("https://other.tun.test/"))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST);
    let mut both = request("https://mynode.tun.test/");
    both.headers_mut().insert(header::HOST, HeaderValue::from_static("other.tun.test"));
    assert_eq!(within(http2.send_request(both)).await.unwrap().status(), StatusCode::BAD_REQUEST);
    let mut cookies = request("https://mynode.tun.test/cookies");
    for cookie in ["a=1", "b=2"] {
        cookies.headers_mut().append(header::COOKIE, HeaderValue::from_static(cookie));
    }
    within(http2.send_request(cookies)).await.unwrap();
    let seen = rig.seen.lock().unwrap().clone();
    assert_eq!(seen.iter().map(|seen| seen.line.as_str()).collect::<Vec<_>>(), ["GET /ok", "GET /cookies"]);
    assert_eq!(seen[1].headers[header::COOKIE], "a=1; b=2");
    assert_eq!(seen[0].headers[header::HOST], HOST);
}

#[tokio::test]
async fn events_arrive_as_they_are_written_and_stopping_lets_answers_finish() {
    let (send, receive) = tokio::sync::mpsc::channel::<&'static str>(4);
    let receive = std::sync::Arc::new(tokio::sync::Mutex::new(receive));
    let rig = rig::start(move |_| {
        let receive = receive.clone();
        async move {
            let stream = futures::stream::unfold(receive, |receive| async move {
                let event = receive.lock().await.recv().await?;
                Some((Ok(Frame::data(Bytes::from_static(event.as_bytes()))), receive))
            });
            Response::new(BodyExt::boxed(StreamBody::new(Box::pin(stream).fuse())))
        }
    })
    .await;
    let mut sender = rig.http1().await;
    let request = Request::get("/events").header("host", HOST).body(empty()).unwrap();
    let mut answer = within(sender.send_request(request)).await.unwrap().into_body();
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        send.send(event).await.unwrap();
        let frame = within(answer.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), event);
    }
    rig.stop.cancel();
    send.send("data: 3\n\n").await.unwrap();
    assert_eq!(within(answer.frame()).await.unwrap().unwrap().into_data().unwrap(), "data: 3\n\n");
    drop(send);
    assert!(within(answer.frame()).await.is_none(), "a clean end");
}

#[tokio::test]
async fn trailers_pass_to_and_from_an_http2_upstream() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("h2c://{}", upstream.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = upstream.accept().await {
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                assert_eq!(request.uri().authority().unwrap(), HOST);
                assert_eq!(request.headers()[header::TE], "trailers");
                let whole = request.into_body().collect().await.unwrap();
                let status = whole.trailers().unwrap()["x-checksum"].clone();
                let trailers = [(http::HeaderName::from_static("grpc-status"), status)].into_iter().collect();
                let frames =
                    [Ok::<_, std::io::Error>(Frame::data(whole.to_bytes())), Ok(Frame::trailers(trailers))];
                Ok::<_, std::convert::Infallible>(Response::new(StreamBody::new(futures::stream::iter(
                    frames,
                ))))
            });
            let executor = hyper_util::rt::TokioExecutor::new();
            let server = hyper::server::conn::http2::Builder::new(executor);
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    let rig = rig::before(&target, rig::Record::default()).await;
    let mut http2 = rig.http2().await;
    let trailers = [(http::HeaderName::from_static("x-checksum"), HeaderValue::from_static("0"))];
    let frames = [
        Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"call"))),
        Ok(Frame::trailers(trailers.into_iter().collect())),
    ];
    let request = Request::post(format!("https://{HOST}/pkg.Service/Call")).header(header::TE, "trailers");
    let request = request.body(StreamBody::new(futures::stream::iter(frames))).unwrap();
    let answer = within(http2.send_request(request)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let whole = within(answer.into_body().collect()).await.unwrap();
    assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(whole.to_bytes(), "call");
}

#[tokio::test]
async fn heads_have_a_limit_in_size() {
    let rig = rig::start(hello).await;
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX: {}\r\n\r\n", "x".repeat(100 << 10));
    let answer = rig.raw(request.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(rig.lines().is_empty());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
