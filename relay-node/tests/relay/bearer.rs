//! Tokens that answer no challenge: off unless the operator wants them, and then once each, for a day at most.

use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message, http};
use tunnler_protocol::UnixSeconds;
use tunnler_protocol::control::{AuthFailure, CONNECT_PATH, PresenceUpdate, SUBPROTOCOL, ToClient, ToRelay};
use tunnler_protocol::instance::{InstanceId, SessionId};
use tunnler_protocol::token::{Claims, ISSUER, Role};
use tunnler_relay::limits::Bearer;

use crate::world::*;

type Socket = WebSocketStream<TlsStream<TcpStream>>;

async fn connect(world: &World, token: &str) -> Result<Socket, Error> {
    let tls = world.visit("relay.example").await.unwrap();
    let (ins, session) = (InstanceId([1; 16]), SessionId([1; 16]));
    let uri = format!("wss://relay.example{CONNECT_PATH}?ins={ins}&session={session}");
    let mut request = uri.into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", http::HeaderValue::from_static(SUBPROTOCOL));
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    tokio_tungstenite::client_async(request, tls).await.map(|(socket, _)| socket)
}

async fn next(socket: &mut Socket) -> ToClient {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("in time").unwrap().unwrap() {
            Message::Text(text) => return ToClient::parse(text.as_str()).unwrap().unwrap(),
            Message::Close(_) => panic!("closed"),
            _ => {}
        }
    }
}

async fn refused(world: &World, token: &str) -> AuthFailure {
    match next(&mut connect(world, token).await.unwrap()).await {
        ToClient::AuthFailed(failed) => failed.code,
        other => panic!("{other:?}"),
    }
}

fn claims(world: &World, lifetime: u64) -> Claims {
    let now = now().seconds();
    Claims {
        iss: ISSUER.into(),
        sub: key(1).address(),
        aud: world.relay.address(),
        iat: now,
        services: vec!["web".parse().unwrap()],
        exp: UnixSeconds(now.0 + lifetime),
        challenge: None,
        role: Role::Client,
    }
}

#[tokio::test]
async fn they_are_refused_unless_the_operator_takes_them() {
    let world = World::new().await;
    let token = claims(&world, 600).sign(&key(1));
    let Err(Error::Http(answer)) = connect(&world, &token).await else { panic!("upgraded") };
    assert_eq!(answer.status(), 401);
}

#[tokio::test]
async fn a_token_serves_once_and_for_a_day_at_most() {
    let world = World::with(|config| config.limits.bearer = Bearer::Accepted).await;
    let day = 24 * 3600;
    for (n, change) in [
        (|c| c.exp = UnixSeconds(c.iat.0 + 24 * 3600 + 1)) as fn(&mut Claims),
        |c| (c.iat, c.exp) = (UnixSeconds(c.iat.0 - 120), UnixSeconds(c.iat.0 + 600)),
        |c| (c.role, c.services) = (Role::Forwarder, vec![]),
        |c| c.challenge = Some("x".into()),
        |c| c.aud = key(8).address(),
    ]
    .into_iter()
    .enumerate()
    {
        let mut bad = claims(&world, 600);
        change(&mut bad);
        assert_eq!(refused(&world, &bad.sign(&key(1))).await, AuthFailure::BadToken, "case {n}");
    }
    let token = claims(&world, day).sign(&key(1));
    let mut socket = connect(&world, &token).await.unwrap();
    assert!(matches!(next(&mut socket).await, ToClient::AuthOk(_)));
    let presence = world.presence(1, 0);
    let update = ToRelay::Presence(PresenceUpdate { presence: presence.text().to_string() });
    socket.send(Message::text(update.to_text())).await.unwrap();
    assert!(matches!(next(&mut socket).await, ToClient::PresenceOk(_)), "it can be routed");
    assert_eq!(refused(&world, &token).await, AuthFailure::Replayed);
}
