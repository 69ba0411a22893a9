//! Two hundred megabytes each way.

use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame, Incoming};

use crate::adversary::watch::Watch;
use crate::rig::{self, HOST, get, text};
use crate::{ALONE, MIB};

const SIZE: u64 = 200 * MIB;
const PART: u64 = 64 << 10;

fn parts(size: u64) -> impl Body<Data = Bytes, Error = std::io::Error> + Send + Sync + Unpin {
    let part = Bytes::from(vec![7; PART as usize]);
    StreamBody::new(stream::iter((0..size / PART).map(move |_| Ok(Frame::data(part.clone())))))
}

async fn count(mut body: Incoming) -> u64 {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.unwrap().into_data().map_or(0, |data| data.len() as u64);
    }
    bytes
}

/// Both directions at the pace of a busy machine.
async fn transfer(rig: &rig::Rig, size: u64) {
    tokio::time::timeout(Duration::from_secs(120), both_ways(rig, size)).await.expect("done in time");
}

async fn both_ways(rig: &rig::Rig, size: u64) {
    let upload = Request::post(format!("https://{HOST}/{size}")).header("host", HOST);
    let answer = rig.http1().await.send_request(upload.body(parts(size)).unwrap()).await.unwrap();
    let told = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(told, size.to_string());
    let mut http2 = rig.http2().await;
    let answer = http2.send_request(get(&format!("/{size}"))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(count(answer.into_body()).await, size);
}

#[tokio::test]
async fn two_hundred_megabytes_pass_both_ways_in_little_memory() {
    let _alone = ALONE.lock().await;
    let rig = rig::start(|request: Request<Incoming>| async move {
        if request.method() == http::Method::POST {
            return Response::new(text(count(request.into_body()).await.to_string()));
        }
        let size = request.uri().path().trim_start_matches('/').parse().unwrap_or(0);
        Response::new(BodyExt::boxed(parts(size)))
    })
    .await;
    // What a first connection needs once is not growth.
    transfer(&rig, 4 * MIB).await;
    let (watch, begun) = (Watch::begin(), std::time::Instant::now());
    transfer(&rig, SIZE).await;
    let grown = watch.end();
    println!("200 MiB each way in {:?}, memory grew by {} KiB", begun.elapsed(), grown >> 10);
    assert!(grown < 16 * MIB, "memory grew by {grown} bytes");
}
