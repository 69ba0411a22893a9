//! Slow visitors (what slowhttptest does with -H, -B and -X): many, each holding on with next to nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::adversary::watch::Watch;
use crate::rig::{self, HOST, Rig, text, within};
use crate::{ALONE, MIB, others};

/// Visitors of each kind.
const CROWD: usize = 100;

/// Says a little, then a byte now and then until the edge hangs up; true when it did.
async fn drip(rig: &Rig, head: String, part: &[u8]) -> bool {
    let mut stream = rig.connect(HOST, b"http/1.1").await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if stream.write_all(part).await.is_err() || stream.flush().await.is_err() {
            return true;
        }
    }
    false
}

/// Asks for much and reads a byte now and then.
async fn sip(rig: &Rig) {
    let mut stream = rig.connect(HOST, b"http/1.1").await.unwrap();
    stream.write_all(format!("GET /much HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let _ = tokio::time::timeout(Duration::from_millis(10), stream.read_u8()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_visitors_hold_little_and_others_are_served() {
    let _alone = ALONE.lock().await;
    let rig = rig::start(|request: Request<Incoming>| async move {
        if request.method() == Method::POST {
            let _ = request.into_body().collect().await;
            return Response::new(text("read"));
        }
        if request.uri().path() != "/much" {
            return Response::new(text("hello"));
        }
        let part = Bytes::from(vec![7; 64 << 10]);
        let parts = stream::iter((0..1600).map(move |_| Ok(Frame::data(part.clone()))));
        Response::new(BodyExt::boxed(StreamBody::new(parts)))
    })
    .await;
    let (watch, stop) = (Watch::begin(), AtomicBool::new(false));
    let crowd = async {
        let heads =
            (0..CROWD).map(|_| drip(&rig, format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n"), b"X: y\r\n"));
        let post = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000000\r\n\r\n");
        let bodies = (0..CROWD).map(|_| drip(&rig, post.clone(), b"b"));
        let readers = (0..CROWD).map(|_| sip(&rig));
        within(futures::future::join3(
            futures::future::join_all(heads),
            futures::future::join_all(bodies),
            futures::future::join_all(readers),
        ))
        .await;
        stop.store(true, Ordering::Relaxed);
    };
    let ((), (visits, slowest)) = tokio::join!(crowd, others(&rig, &stop));
    let grown = watch.end();
    let each = grown / (3 * CROWD as u64);
    println!(
        "{CROWD} of each kind: memory +{} KiB, {} KiB each, others {visits} (slowest {slowest:?})",
        grown >> 10,
        each >> 10
    );
    assert!(grown < 128 * MIB, "memory grew by {grown} bytes");
    assert!(visits > 5, "only {visits} other visits");
}
