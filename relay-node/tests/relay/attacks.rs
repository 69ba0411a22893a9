//! What an attacker tries with raw sockets and its own idea of the protocol.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tunnler_protocol::UnixSeconds;
use tunnler_protocol::control::{AuthFailure, CloseCode, ToClient};
use tunnler_protocol::token::Claims;
use tunnler_transport::{ConnectError, RelayTarget, connect};

use crate::comparison::{Sink, Visits, compare};
use crate::raw::*;
use crate::world::*;

#[tokio::test]
async fn only_a_fresh_token_for_this_relay_and_this_challenge_logs_in() {
    let world = World::new().await;
    let relay = world.relay.address();
    type Change = fn(&mut Claims);
    let bad: [Change; 6] = [
        |claims| claims.aud = key(8).address(),
        |claims| claims.challenge = None,
        |claims| claims.challenge = Some("A".repeat(43)),
        |claims| {
            (claims.iat, claims.exp) = (UnixSeconds(claims.iat.0 - 1000), UnixSeconds(claims.iat.0 - 61))
        },
        |claims| (claims.iat, claims.exp) = (UnixSeconds(claims.iat.0 + 90), UnixSeconds(claims.iat.0 + 900)),
        |claims| claims.exp = claims.iat,
    ];
    for (n, change) in bad.into_iter().enumerate() {
        let (mut raw, challenge) = Raw::connect(&world).await;
        let mut claims = claims(relay, &challenge);
        change(&mut claims);
        assert_eq!(raw.log_in(claims.sign(&key(1))).await, Err(AuthFailure::BadToken), "case {n}");
        assert!(raw.next().await.is_none());
    }
    let (mut raw, challenge) = Raw::connect(&world).await;
    let stolen = claims(relay, &challenge).sign(&key(1));
    raw.log_in(stolen.clone()).await.unwrap();
    let (mut thief, _) = Raw::connect(&world).await;
    assert_eq!(thief.log_in(stolen).await, Err(AuthFailure::BadToken), "replayed in another connection");
}

#[tokio::test]
async fn authority_is_asked_for_again_and_ends_when_it_is_not_renewed() {
    let world = World::new().await;
    let relay = world.relay.address();
    let (mut raw, challenge) = Raw::connect(&world).await;
    let mut short = claims(relay, &challenge);
    short.exp = UnixSeconds(short.iat.0 + 4);
    raw.log_in(short.sign(&key(1))).await.unwrap();

    let Some(ToClient::AuthChallenge(again)) = raw.next().await else { panic!("not asked again") };
    assert_ne!(again.challenge, challenge.challenge);
    let mut renewed = claims(relay, &again);
    renewed.exp = UnixSeconds(renewed.iat.0 + 4);
    let renewed = renewed.sign(&key(1));
    raw.log_in(renewed.clone()).await.unwrap();

    let Some(ToClient::AuthChallenge(_)) = raw.next().await else { panic!("not asked a third time") };
    assert_eq!(raw.log_in(renewed).await, Err(AuthFailure::BadToken), "an answer to the older challenge");
    let Some(ToClient::Closing(closing)) = raw.next().await else { panic!("no reason given") };
    assert_eq!(closing.code, CloseCode::AuthorityLost);
    assert!(raw.next().await.is_none());
}

#[tokio::test]
async fn another_client_cannot_renew_the_session() {
    let world = World::new().await;
    let (mut raw, challenge) = Raw::connect(&world).await;
    let mut short = claims(world.relay.address(), &challenge);
    short.exp = UnixSeconds(short.iat.0 + 4);
    raw.log_in(short.sign(&key(1))).await.unwrap();
    let Some(ToClient::AuthChallenge(again)) = raw.next().await else { panic!("not asked again") };
    let other = Claims { sub: key(2).address(), ..claims(world.relay.address(), &again) };
    assert_eq!(raw.log_in(other.sign(&key(2))).await, Err(AuthFailure::Mismatch));
}

#[tokio::test]
async fn whoever_says_nothing_is_let_go_after_ten_seconds() {
    let world = World::new().await;
    let start = Instant::now();
    let silent_tcp = async {
        let mut tcp = TcpStream::connect(world.relay.local_addr()).await.unwrap();
        tcp.write_all(&[22, 3, 1]).await.unwrap();
        let _ = timeout(PATIENCE * 2, tcp.read(&mut [0])).await.expect("closed in time");
    };
    let silent_tls = async {
        let mut tls = world.visit("relay.example").await.unwrap();
        let _ = timeout(PATIENCE * 2, tls.read(&mut [0])).await.expect("closed in time");
    };
    let silent_login = async {
        let (mut raw, _) = Raw::connect(&world).await;
        assert!(raw.next().await.is_none());
    };
    tokio::join!(silent_tcp, silent_tls, silent_login);
    assert!((9.0..14.0).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn unauthenticated_connections_are_capped_and_sessions_do_not_count() {
    let world = World::with(|config| config.limits.newcomers = 3).await;
    let session = world.connect(login(1, Some(world.presence(1, 0)))).await.unwrap();
    let _site = spawn_site(session, echo);
    let mut crowd = Vec::new();
    for _ in 0..3 {
        crowd.push(Raw::connect(&world).await);
    }
    let mut refused = TcpStream::connect(world.relay.local_addr()).await.unwrap();
    assert!(matches!(timeout(PATIENCE, refused.read(&mut [0])).await.unwrap(), Ok(0) | Err(_)));
    crowd.pop();
    eventually("there is room again", || async { world.visit("mynode.tun.test").await.is_ok() }).await;
}

#[tokio::test]
async fn a_full_relay_says_so() {
    let world = World::with(|config| config.limits.sessions = 1).await;
    let _session = world.connect(login(1, None)).await.unwrap();
    let Err(ConnectError::Refused(failed)) = world.connect(login(2, None)).await else { panic!("accepted") };
    assert_eq!(failed.code, AuthFailure::Full);
}

/// Somebody with a certificate ends TLS in the middle and passes everything on: both exporters differ.
#[tokio::test]
async fn a_relay_in_the_middle_gets_nothing_signed() {
    let world = World::new().await;
    let made = rcgen::generate_simple_self_signed(["relay.example".to_string()]).unwrap();
    let key_der = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let mut config = config.with_single_cert(vec![made.cert.der().clone()], key_der.into()).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let middle = listener.local_addr().unwrap();
    let relay = world.relay.local_addr();
    let sent = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut client = acceptor.accept(tcp).await.unwrap();
        let (config, _) = tunnler_transport::tls::client_config(None);
        let tcp = TcpStream::connect(relay).await.unwrap();
        let name = "relay.example".try_into().unwrap();
        let mut server = TlsConnector::from(config).connect(name, tcp).await.unwrap();
        let counted = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        counted.map_or(0, |(up, _)| up)
    });
    let host = "relay.example".parse().unwrap();
    let target = RelayTarget { relay: world.relay.address(), host, addresses: vec![middle] };
    let error = connect(&target, login(1, None), &options()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Intercepted(_)), "{error}");
    assert!(error.to_string().contains("something between you and the relay opens TLS"));
    let up = timeout(PATIENCE * 2, sent).await.unwrap().unwrap();
    assert!(up < 400, "{up} bytes: more than the upgrade request");
}

#[tokio::test]
async fn only_websockets_of_this_protocol_are_upgraded() {
    let world = World::new().await;
    for (path, headers, status) in [
        ("/connect", "", "426"),
        (
            "/connect",
            "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n",
            "400",
        ),
        ("/v1/feed", "", "426"),
        ("/health", "", "200"),
        ("/info", "", "200"),
        ("/else", "", "404"),
    ] {
        let mut tls = world.visit("relay.example").await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: relay.example\r\n{headers}\r\n");
        tls.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        timeout(PATIENCE, tls.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(std::str::from_utf8(&answer).unwrap(), format!("HTTP/1.1 {status}"), "{path} {headers}");
    }
}

/// While attackers do all they can, a visitor of an honest client is served, and not much later than while the same
/// connections are made to somebody else on the same cores.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_is_served_while_others_misbehave() {
    const VISITS: usize = 40;
    let world = World::new().await;
    let (_control, _site) = world.serve_mynode(echo).await;
    eventually("the name is served", || async { world.visit("mynode.tun.test").await.is_ok() }).await;
    let sink = Sink::start().await;
    let during = async |at: SocketAddr| {
        let mut attackers = JoinSet::new();
        for n in 0..40 {
            attackers.spawn(misbehave(at, n));
        }
        Visits::some(&world, VISITS).await
    };
    let (attacked, idle) = (during(world.relay.local_addr()).await, during(sink.address).await);
    compare("40 that misbehave", &attacked, &idle);
}

/// Connects again and again, says what is no whole hello, and listens for a moment.
async fn misbehave(at: SocketAddr, n: u8) {
    loop {
        let Ok(mut tcp) = TcpStream::connect(at).await else { return };
        let bytes = [vec![22, 3, 1, 0, n], vec![n; 200], b"GET / HTTP/1.1\r\n\r\n".to_vec()];
        let _ = tcp.write_all(&bytes[usize::from(n) % 3]).await;
        let _ = timeout(Duration::from_millis(50), tcp.read(&mut [0; 100])).await;
    }
}
