//! WebSocket, and what else asks to be something else than HTTP.

use futures::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::protocol::Role;
use tunnler_edge::Site;
use tunnler_edge::proxy::Http2Sockets;

use crate::rig::{self, Body, HOST, Record, empty, get, text, within};

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
fn connect(protocol: &'static str) -> Request<http_body_util::Empty<bytes::Bytes>> {
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
