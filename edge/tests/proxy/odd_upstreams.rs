//! Upstreams that answer early, in parts, twice, or not in HTTP at all.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::rig::{self, HOST, Record, Rig, get, within};

/// An upstream that answers whatever it is asked with these bytes; then it waits, or closes.
async fn saying(answer: &'static [u8], closes: bool) -> Rig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut heard = [0; 4096];
                while stream.read(&mut heard).await.is_ok_and(|n| n > 0) {
                    if stream.write_all(answer).await.is_err() || closes {
                        return;
                    }
                }
            });
        }
    });
    rig::before(&target, Record::default()).await
}

async fn body(rig: &Rig) -> (StatusCode, Option<Bytes>) {
    let answer = within(rig.http1().await.send_request(get("/"))).await.unwrap();
    (answer.status(), within(answer.into_body().collect()).await.ok().map(|body| body.to_bytes()))
}

#[tokio::test]
async fn interim_answers_do_not_disturb_the_final_one() {
    let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </early.css>\r\n\r\n\
        HTTP/1.1 200 OK\r\nLink: </late.css>\r\nContent-Length: 5\r\n\r\nhello";
    let rig = saying(answer, false).await;
    for _ in 0..3 {
        let answer = within(rig.http2().await.send_request(get("/"))).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()[header::LINK], "</late.css>");
        assert_eq!(within(answer.into_body().collect()).await.unwrap().to_bytes(), "hello");
    }
}

#[tokio::test]
async fn what_is_no_answer_becomes_one_that_says_so() {
    for (answer, closes) in [
        (&b"SSH-2.0-OpenSSH_9.9\r\n"[..], false),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", false),
        (b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello", false),
        (b"HTTP/1.1 200 OK\r\nX y: z\r\nContent-Length: 5\r\n\r\nhello", false),
        (b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 5\r\n\r\nhello", false),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", false),
        (b"HTTP/1.1 200", true),
        (b"", true),
    ] {
        let rig = saying(answer, closes).await;
        let (status, _) = body(&rig).await;
        assert_eq!(status, StatusCode::BAD_GATEWAY, "{}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_reaches_nobody() {
    // Two answers to each request: the second must never be taken for the answer to somebody else's.
    let twice = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let rig = saying(twice, false).await;
    for _ in 0..20 {
        let (status, body) = body(&rig).await;
        assert!(status == StatusCode::BAD_GATEWAY || body.as_deref() == Some(b"hello"), "{status} {body:?}");
    }
    // A body longer than its length.
    let long = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more";
    let rig = saying(long, false).await;
    for _ in 0..20 {
        let (status, body) = body(&rig).await;
        assert!(status == StatusCode::BAD_GATEWAY || body.as_deref() == Some(b"hello"), "{status} {body:?}");
    }
}

#[tokio::test]
async fn an_answer_may_come_before_the_body_is_there() {
    let early = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig";
    let rig = saying(early, false).await;
    let parts = futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Some((Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(&[0; 1024]))), ()))
    });
    let request = Request::post(format!("https://{HOST}/")).body(StreamBody::new(Box::pin(parts))).unwrap();
    let answer = within(rig.http2().await.send_request(request)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(within(answer.into_body().collect()).await.unwrap().to_bytes(), "big");
}

#[tokio::test]
async fn an_answer_to_head_has_a_length_and_no_body() {
    let rig = rig::start(|_| async {
        let mut answer = http::Response::new(rig::text(""));
        answer.headers_mut().insert(header::CONTENT_LENGTH, header::HeaderValue::from_static("12345"));
        answer
    })
    .await;
    let head = || Request::head(format!("https://{HOST}/")).header("host", HOST).body(rig::empty()).unwrap();
    for answer in [
        within(rig.http1().await.send_request(head())).await.unwrap(),
        within(rig.http2().await.send_request(head())).await.unwrap(),
    ] {
        assert_eq!(
            (answer.status(), &answer.headers()[header::CONTENT_LENGTH]),
            (StatusCode::OK, &"12345".parse().unwrap())
        );
        assert!(within(answer.into_body().collect()).await.unwrap().to_bytes().is_empty());
    }
}
