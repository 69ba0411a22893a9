//! What the operator sees on the admin listener.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tunnler_relay::admin::{self, Desk};

use crate::world::*;

async fn fetch(address: std::net::SocketAddr, path: &str) -> (String, String) {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, tcp.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test]
async fn the_admin_listener_tells_of_readiness_sessions_and_metrics() {
    let metrics = PrometheusBuilder::new().install_recorder().unwrap();
    let world = World::new().await;
    let (_control, _site) = world.serve_mynode(echo).await;
    eventually("the name is served", || async { world.visit("mynode.tun.test").await.is_ok() }).await;
    drop(world.connect(login(2, None)).await.unwrap());
    let observer = world.relay.observer();
    eventually("one has left", || async { observer.session_count() == 1 }).await;
    let mut tls = world.visit("mynode.tun.test").await.unwrap();
    exchange(&mut tls, b"hello").await.unwrap();
    drop(tls);
    eventually("its visitor has left", || async { observer.sessions()[0].streams == 0 }).await;
    let ready = Arc::new(AtomicBool::new(false));
    let desk = Desk { relay: world.relay.observer(), ready: ready.clone(), metrics: Some(metrics) };
    let listener = tunnler_relay::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let admin = tokio::spawn(admin::serve(listener, desk));

    assert_eq!(fetch(address, "/live").await.0, "HTTP/1.1 200 OK");
    assert_eq!(fetch(address, "/ready").await.0, "HTTP/1.1 503 Service Unavailable");
    ready.store(true, Ordering::Relaxed);
    assert_eq!(fetch(address, "/ready").await.0, "HTTP/1.1 200 OK");
    let (_, sessions) = fetch(address, "/sessions").await;
    assert!(sessions.contains(&key(1).address().to_string()), "{sessions}");
    let (_, text) = fetch(address, "/metrics").await;
    for metric in [
        "tunnler_sessions 1",
        "tunnler_ledger_age_seconds",
        "tunnler_certificate 0",
        "tunnler_unread_bytes",
        "tunnler_visitors_total",
        "tunnler_login_seconds",
        "tunnler_open_seconds",
        "tunnler_first_byte_seconds",
        "tunnler_sessions_ended_total",
        "tunnler_bytes_total",
    ] {
        assert!(text.contains(metric), "{metric} is missing in\n{text}");
    }
    admin.abort();
}
