//! WebSocket, and what else asks to be something else than HTTP.

use futures::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use crate::rig::{self, HOST, text, within};

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
                socket.send(message).await.unwrap();
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
