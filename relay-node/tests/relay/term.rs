//! Visitors whose TLS ends at the relay.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tunnler_protocol::stream::Payload;

use crate::adversary::{self, Recorder};
use crate::ended::*;
use crate::places::{CALM, LOUD, SERVED_WITHIN, is_reset};
use crate::world::*;

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
async fn neither_smuggled_requests_nor_lies_reach_the_upstream_behind_the_client() {
    let recorder = Recorder::start("ok").await;
    let term = Term::before(recorder.address).await;
    let connect = |alpn| {
        let term = &term;
        async move { Ok(term.visit(alpn).await) }
    };
    adversary::smuggle(connect, HOST, &recorder).await;
    adversary::lie(connect, HOST, &recorder).await;
}

#[tokio::test]
async fn hints_cross_both_hops_before_the_answer() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (answer, mut may_answer) = tokio::sync::mpsc::channel::<()>(1);
    let upstream = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        let hint = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nKeep-Alive: 5\r\n\r\n";
        stream.write_all(hint.repeat(1000).as_bytes()).await.unwrap();
        may_answer.recv().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await.unwrap();
    });
    let term = Term::before(address).await;
    let (sender, connection) = h2::client::handshake(term.visit(b"h2").await).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get(format!("https://{HOST}/")).body(()).unwrap();
    let (mut answering, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
    for n in 0..8 {
        let hint = timeout(PATIENCE, poll_fn(|cx| answering.poll_informational(cx))).await.unwrap();
        let hint = hint.expect("no answer yet").unwrap();
        assert_eq!(hint.status(), 103, "{n}");
        assert_eq!(hint.headers()["link"], "</style.css>; rel=preload");
        assert_eq!(hint.headers().len(), 1, "{hint:?}");
    }
    answer.send(()).await.unwrap();
    let none = timeout(PATIENCE, poll_fn(|cx| answering.poll_informational(cx))).await.unwrap();
    assert!(none.is_none(), "{none:?}");
    assert_eq!(timeout(PATIENCE, answering).await.unwrap().unwrap().status(), 200);
    upstream.await.unwrap();
    connection.abort();
}
