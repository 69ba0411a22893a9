//! WebSocket, and what else asks to be something else than HTTP.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::Role;
use tunnler_edge::Site;
use tunnler_edge::proxy::Http2Sockets;

use crate::rig::{self, Body, HOST, Record, Rig, empty, get, text, within};

/// A WebSocket server that says everything again.
async fn echo(mut request: Request<Incoming>) -> Response<Body> {
    if request.headers().get(header::UPGRADE).is_none() {
        return Response::new(text("plain"));
    }
    let key = request.headers()["sec-websocket-key"].as_bytes().to_vec();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let io = TokioIo::new(upgrade.await.unwrap());
        let role = Role::Server;
        let mut socket = tokio_tungstenite::WebSocketStream::from_raw_socket(io, role, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() {
                break;
            }
            socket.send(message).await.unwrap();
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header("sec-websocket-accept", tokio_tungstenite::tungstenite::handshake::derive_accept_key(&key))
        .body(text(""))
        .unwrap()
}

#[tokio::test]
async fn websockets_pass_and_other_upgrades_do_not() {
    let rig = rig::start(echo).await;
    let stream = rig.connect(HOST, b"http/1.1").await.unwrap();
    let (mut socket, _) =
        within(tokio_tungstenite::client_async(format!("ws://{HOST}/echo"), stream)).await.unwrap();
    let message = tokio_tungstenite::tungstenite::Message::binary(vec![9; 100_000]);
    socket.send(message.clone()).await.unwrap();
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

/// RFC 8441, section 4.
fn connect(protocol: &'static str) -> Request<http_body_util::Empty<Bytes>> {
    Request::connect(format!("https://{HOST}/echo"))
        .extension(hyper::ext::Protocol::from_static(protocol))
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .body(empty())
        .unwrap()
}

#[tokio::test]
async fn websockets_are_not_offered_in_http2_streams_where_the_certificate_is_shared() {
    let seen = Record::default();
    let site = Site::from(rig::upstream(echo, seen.clone()).await).sockets(Http2Sockets::Withheld);
    let rig = rig::serving(site, seen).await;
    let mut http2 = rig.http2().await;
    within(http2.send_request(get("/"))).await.unwrap();
    let refused = within(http2.send_request(connect("websocket"))).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(rig.lines(), ["GET /"]);
}

#[tokio::test]
async fn websockets_pass_in_http2_streams_beside_other_requests() {
    let rig = rig::start(echo).await;
    let mut http2 = rig.http2().await;
    // The edge's settings say that it can; they come with its first answer at the latest.
    within(http2.send_request(get("/"))).await.unwrap();
    let answer = within(http2.send_request(connect("websocket"))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(!answer.headers().contains_key(header::SEC_WEBSOCKET_ACCEPT));
    let io = TokioIo::new(within(hyper::upgrade::on(answer)).await.unwrap());
    let mut socket = tokio_tungstenite::WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    let message = tokio_tungstenite::tungstenite::Message::binary(vec![9; 100_000]);
    socket.send(message.clone()).await.unwrap();
    assert_eq!(within(socket.next()).await.unwrap().unwrap(), message);
    within(http2.send_request(get("/"))).await.unwrap();
    socket.close(None).await.unwrap();
    let seen = rig.lines();
    assert_eq!(seen, ["GET /", "GET /echo", "GET /"]);

    let other = within(http2.send_request(connect("connect-udp"))).await.unwrap();
    assert_eq!(other.status(), StatusCode::METHOD_NOT_ALLOWED);
    // An upstream that speaks only HTTP/2 is not asked.
    let rig = rig::before("h2c://127.0.0.1:9", Record::default()).await;
    let mut http2 = rig.http2().await;
    within(http2.send_request(get("/"))).await.unwrap();
    let answer = within(http2.send_request(connect("websocket"))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_IMPLEMENTED);
}

/// Both ends of a WebSocket in an HTTP/2 stream, as bytes.
struct Ends {
    asking: h2::SendStream<Bytes>,
    answers: h2::RecvStream,
    upstream: TcpStream,
    _sender: h2::client::SendRequest<Bytes>,
}

/// Opens one through an edge before `listener`.
async fn open(rig: &Rig, listener: &TcpListener) -> Ends {
    let (sender, connection) = h2::client::handshake(rig.connect(HOST, b"h2").await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    within(async {
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut request =
        Request::builder().method(Method::CONNECT).uri(format!("https://{HOST}/")).body(()).unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (answer, asking) = sender.send_request(request, false).unwrap();
    let (mut upstream, _) = within(listener.accept()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within(upstream.read_u8()).await.unwrap());
    }
    let agreed = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    upstream.write_all(agreed).await.unwrap();
    let answer = within(answer).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    Ends { asking, answers: answer.into_body(), upstream, _sender: sender }
}

#[tokio::test]
async fn a_websocket_in_a_stream_waits_for_whoever_reads_slowly() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = rig::before(&listener.local_addr().unwrap().to_string(), Record::default()).await;
    let mut ends = open(&rig, &listener).await;
    // Towards the visitor, who reads nothing: sockets' buffers and the stream's window fill, and no more.
    let (part, mut written) = (vec![7; 64 << 10], 0);
    while let Ok(wrote) = timeout(Duration::from_secs(1), ends.upstream.write(&part)).await {
        written += wrote.unwrap();
        assert!(written < 32 << 20, "{written} bytes for nobody");
    }
    // Meanwhile the other direction moves.
    ends.asking.send_data(Bytes::from_static(b"hello"), false).unwrap();
    let mut heard = [0; 5];
    within(ends.upstream.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"hello");
    // And everything is still there.
    let mut read = 0;
    while read < written {
        let part = within(poll_fn(|cx| ends.answers.poll_data(cx))).await.unwrap().unwrap();
        read += part.len();
        ends.answers.flow_control().release_capacity(part.len()).unwrap();
    }
    assert_eq!(read, written);
    // Towards the upstream, which reads nothing.
    ends.asking.reserve_capacity(64 << 20);
    let mut written = 0;
    while let Ok(room) = timeout(Duration::from_secs(1), poll_fn(|cx| ends.asking.poll_capacity(cx))).await {
        let room = room.unwrap().unwrap();
        ends.asking.send_data(Bytes::from(vec![7; room]), false).unwrap();
        written += room;
        assert!(written < 32 << 20, "{written} bytes for nobody");
        ends.asking.reserve_capacity(64 << 20);
    }
}

#[tokio::test]
async fn a_websocket_in_a_stream_ends_as_its_other_side_does() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = rig::before(&listener.local_addr().unwrap().to_string(), Record::default()).await;
    // In order.
    let mut ends = open(&rig, &listener).await;
    ends.upstream.write_all(b"bye").await.unwrap();
    ends.upstream.shutdown().await.unwrap();
    assert_eq!(within(poll_fn(|cx| ends.answers.poll_data(cx))).await.unwrap().unwrap(), "bye");
    assert!(
        within(poll_fn(|cx| ends.answers.poll_data(cx))).await.is_none_or(|last| last.unwrap().is_empty())
    );
    // By a reset of the upstream.
    let mut ends = open(&rig, &listener).await;
    ends.upstream.set_zero_linger().unwrap();
    drop(ends.upstream);
    let error = within(poll_fn(|cx| ends.answers.poll_data(cx))).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
    // By a reset of the visitor.
    let mut ends = open(&rig, &listener).await;
    ends.asking.send_reset(h2::Reason::CANCEL);
    assert!(within(ends.upstream.read(&mut [0])).await.is_ok_and(|n| n == 0));
}
