//! Bodies of any length, whole or broken off.

use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::rig::{self, HOST, empty, hex, text, until, within};

#[tokio::test]
async fn large_bodies_stream_both_ways_over_both_protocols() {
    const SIZE: usize = 50 << 20;
    let rig = rig::start(|request: Request<Incoming>| async move {
        let mut digest = Sha256::new();
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.unwrap().into_data() {
                digest.update(&data);
            }
        }
        let chunk = Bytes::from(vec![7; 64 << 10]);
        let chunks =
            futures::stream::iter((0..SIZE / chunk.len()).map(move |_| Ok(Frame::data(chunk.clone()))));
        let mut response = Response::new(BodyExt::boxed(StreamBody::new(chunks)));
        let digest = HeaderValue::from_str(&hex(&digest.finalize())).unwrap();
        response.headers_mut().insert("x-digest", digest);
        response
    })
    .await;
    let sent = vec![3; SIZE];
    let expected = (hex(&Sha256::digest(&sent)), hex(&Sha256::digest(vec![7; SIZE])));
    let request = |body: Vec<u8>| {
        Request::post(format!("https://{HOST}/"))
            .header("host", HOST)
            .body(Full::new(Bytes::from(body)))
            .unwrap()
    };
    let mut http1 = rig.http1().await;
    let mut http2 = rig.http2().await;
    for answer in [
        within(http1.send_request(request(sent.clone()))).await,
        within(http2.send_request(request(sent))).await,
    ] {
        let answer = answer.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["x-digest"], expected.0);
        let body = within(answer.into_body().collect()).await.unwrap().to_bytes();
        assert_eq!(hex(&Sha256::digest(&body)), expected.1);
    }
}

#[tokio::test]
async fn an_aborted_answer_is_an_aborted_answer() {
    // An upstream that promises more than it sends, with a length and in chunks, and one that is reset.
    for head in ["Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = upstream.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = upstream.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ =
                    stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n5\r\nhello\r\n").as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        let rig = rig::before(&address.to_string(), rig::Record::default()).await;
        let mut http1 = rig.http1().await;
        let request = || Request::get(format!("https://{HOST}/")).header("host", HOST).body(empty()).unwrap();
        let answer = within(http1.send_request(request())).await.unwrap();
        assert!(within(answer.into_body().collect()).await.is_err(), "h1, {head}");
        let mut http2 = rig.http2().await;
        let answer = within(http2.send_request(request())).await.unwrap();
        assert!(within(answer.into_body().collect()).await.is_err(), "h2, {head}");
    }
}

#[tokio::test]
async fn an_aborted_upload_is_an_aborted_upload() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let rig = rig::start(move |request: Request<Incoming>| {
        let tell = tell.clone();
        async move {
            let _ = tell.send(request.into_body().collect().await.is_err());
            Response::new(text("read"))
        }
    })
    .await;
    for head in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let mut stream = rig.connect(HOST, b"http/1.1").await.unwrap();
        let request = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\n{head}\r\n\r\n5\r\nhello\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        until(|| rig.lines().len() == 1).await;
        drop(stream);
        assert!(within(told.recv()).await.unwrap(), "the upstream saw a clean end, {head}");
        rig.seen.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn trailers_pass_to_and_from_an_http2_upstream() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("h2c://{}", upstream.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = upstream.accept().await {
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                assert_eq!(request.uri().authority().unwrap(), HOST);
                assert_eq!(request.headers()[header::TE], "trailers");
                let whole = request.into_body().collect().await.unwrap();
                let status = whole.trailers().unwrap()["x-checksum"].clone();
                let trailers = [(http::HeaderName::from_static("grpc-status"), status)].into_iter().collect();
                let frames =
                    [Ok::<_, std::io::Error>(Frame::data(whole.to_bytes())), Ok(Frame::trailers(trailers))];
                Ok::<_, std::convert::Infallible>(Response::new(StreamBody::new(futures::stream::iter(
                    frames,
                ))))
            });
            let executor = hyper_util::rt::TokioExecutor::new();
            let server = hyper::server::conn::http2::Builder::new(executor);
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    let rig = rig::before(&target, rig::Record::default()).await;
    let mut http2 = rig.http2().await;
    let trailers = [(http::HeaderName::from_static("x-checksum"), HeaderValue::from_static("0"))];
    let frames = [
        Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"call"))),
        Ok(Frame::trailers(trailers.into_iter().collect())),
    ];
    let request = Request::post(format!("https://{HOST}/pkg.Service/Call")).header(header::TE, "trailers");
    let request = request.body(StreamBody::new(futures::stream::iter(frames))).unwrap();
    let answer = within(http2.send_request(request)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let whole = within(answer.into_body().collect()).await.unwrap();
    assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(whole.to_bytes(), "call");
}

#[tokio::test]
async fn events_arrive_as_they_are_written_and_stopping_lets_answers_finish() {
    let (send, receive) = tokio::sync::mpsc::channel::<&'static str>(4);
    let receive = std::sync::Arc::new(tokio::sync::Mutex::new(receive));
    let rig = rig::start(move |_| {
        let receive = receive.clone();
        async move {
            let stream = futures::stream::unfold(receive, |receive| async move {
                let event = receive.lock().await.recv().await?;
                Some((Ok(Frame::data(Bytes::from_static(event.as_bytes()))), receive))
            });
            Response::new(BodyExt::boxed(StreamBody::new(Box::pin(stream).fuse())))
        }
    })
    .await;
    let mut sender = rig.http1().await;
    let request = Request::get("/events").header("host", HOST).body(empty()).unwrap();
    let mut answer = within(sender.send_request(request)).await.unwrap().into_body();
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        let written = Instant::now();
        send.send(event).await.unwrap();
        let frame = within(answer.frame()).await.unwrap().unwrap();
        println!("an event arrived {:?} after it was written", written.elapsed());
        assert_eq!(frame.into_data().unwrap(), event);
    }
    rig.stop.cancel();
    send.send("data: 3\n\n").await.unwrap();
    assert_eq!(within(answer.frame()).await.unwrap().unwrap().into_data().unwrap(), "data: 3\n\n");
    drop(send);
    assert!(within(answer.frame()).await.is_none(), "a clean end");
}
