//! How long visitors are waited for, on a paused clock and over pipes.

use std::net::Ipv4Addr;

use http::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;

use super::*;
use crate::proxy::{Backend, Fixed, Site, Visitor};
use crate::tls::Protocol;

/// What every client says first (RFC 9113, section 3.4), with empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// An acknowledgement of a PING that nobody sent.
const PONG: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0unasked!";

/// An edge at the other end of a pipe; how it ended comes with the time it took.
fn served(stop: CancellationToken) -> (DuplexStream, impl Future<Output = (Result<(), ServeError>, u64)>) {
    let (visitor, io) = duplex(64 << 10);
    let fixed = Fixed::new(HeaderValue::from_static("text/plain"), "hello");
    let connection = Connection {
        visitor: Visitor {
            address: (Ipv4Addr::LOCALHOST, 1).into(),
            host: "mynode.tun.test".parse().unwrap(),
            protocol: Protocol::Http2,
        },
        site: Arc::new(Site::new(Backend::Fixed(fixed))),
        spliced: Default::default(),
        open: Arc::default(),
    };
    let begun = Instant::now();
    let serving = async move {
        let ended = serve(io, Arc::new(connection), &stop).await;
        (ended, begun.elapsed().as_secs())
    };
    (visitor, serving)
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_at_all_is_let_go() {
    let (_visitor, serving) = served(CancellationToken::new());
    let (ended, took) = serving.await;
    assert!(matches!(ended, Err(ServeError::Silent)), "{ended:?}");
    assert_eq!(took, 20);
}

#[tokio::test(start_paused = true)]
async fn who_answers_no_ping_is_gone() {
    let (mut visitor, serving) = served(CancellationToken::new());
    visitor.write_all(PREFACE).await.unwrap();
    let (ended, took) = serving.await;
    assert!(matches!(ended, Err(ServeError::Silent)), "{ended:?}");
    assert_eq!(took, 40);
    let mut heard = Vec::new();
    visitor.read_to_end(&mut heard).await.unwrap();
    assert!(heard.windows(5).any(|frame| frame == [0, 0, 8, 6, 0]), "no PING in {heard:?}");
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_nothing_is_told_to_go_and_then_made_to() {
    let (mut visitor, serving) = served(CancellationToken::new());
    visitor.write_all(PREFACE).await.unwrap();
    // Always there and never leaving.
    let (mut read, mut write) = tokio::io::split(visitor);
    let talking = tokio::spawn(async move {
        while write.write_all(PONG).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    });
    let (ended, took) = serving.await;
    assert!(ended.is_ok(), "{ended:?}");
    assert!((80..=85).contains(&took), "{took}");
    let mut heard = Vec::new();
    let _ = read.read_to_end(&mut heard).await;
    assert!(heard.windows(5).any(|frame| frame == [0, 0, 8, 7, 0]), "no GOAWAY in {heard:?}");
    talking.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_behaves_stays_until_it_is_idle_or_all_stops() {
    for stops in [false, true] {
        let stop = CancellationToken::new();
        let (visitor, serving) = served(stop.clone());
        let asking = async {
            let (sender, connection) = h2::client::handshake(visitor).await.unwrap();
            let connection = tokio::spawn(connection);
            // Before it would count as idle, again and again.
            for _ in 0..5 {
                let request = Request::get("https://mynode.tun.test/").body(()).unwrap();
                let (answer, _) = sender.clone().ready().await.unwrap().send_request(request, true).unwrap();
                assert_eq!(answer.await.unwrap().status(), 200);
                tokio::time::sleep(Duration::from_secs(40)).await;
            }
            if stops {
                stop.cancel();
            }
            connection.await.unwrap()
        };
        // The visitor may be gone before the edge's last word: how that ended does not matter.
        let ((_, took), said) = tokio::join!(serving, asking);
        assert!(said.is_ok(), "{said:?}");
        let expected = if stops { 200..=201 } else { 220..=250 };
        assert!(expected.contains(&took), "{stops}: {took}");
    }
}
