//! Interim answers: 103 Early Hints and 102 reach visitors over HTTP/2 before the answer, and nobody else.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tunnler_edge::Site;

use crate::rig::{self, HOST, Record, Rig, within};

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// An upstream for one request, which says what it is told to.
async fn told() -> (String, mpsc::Sender<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let (say, mut words) = mpsc::channel::<String>(8);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        while let Some(words) = words.recv().await {
            if stream.write_all(words.as_bytes()).await.is_err() {
                return;
            }
        }
    });
    (target, say)
}

/// An edge before an upstream that says all this at once.
async fn saying(words: &str) -> Rig {
    let (target, say) = told().await;
    say.send(words.to_owned()).await.unwrap();
    tokio::spawn(async move { say.closed().await });
    rig::before(&target, Record::default()).await
}

type Interim = (StatusCode, HeaderMap);

/// What one visitor is told.
struct Visit {
    answering: h2::client::ResponseFuture,
    _sender: h2::client::SendRequest<Bytes>,
    _connection: AbortOnDropHandle<()>,
}

impl Visit {
    async fn begin(rig: &Rig) -> Self {
        let stream = rig.connect(HOST, b"h2").await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = connection.await;
        }));
        let request = Request::get(format!("https://{HOST}/")).body(()).unwrap();
        let mut sender = sender.ready().await.unwrap();
        let (answering, _) = sender.send_request(request, true).unwrap();
        Self { answering, _sender: sender, _connection: connection }
    }

    /// The next interim answer, or `None` when the final one is there.
    async fn interim(&mut self) -> Option<Interim> {
        let interim = within(poll_fn(|cx| self.answering.poll_informational(cx))).await?.unwrap();
        Some((interim.status(), interim.headers().clone()))
    }

    async fn all(&mut self) -> Vec<Interim> {
        let mut all = Vec::new();
        while let Some(interim) = self.interim().await {
            all.push(interim);
        }
        all
    }

    async fn answer(&mut self) -> (StatusCode, Result<Bytes, h2::Error>) {
        let answer = within(poll_fn(|cx| Pin::new(&mut self.answering).poll(cx))).await.unwrap();
        let (status, mut body) = (answer.status(), answer.into_body());
        let mut whole = Vec::new();
        loop {
            match within(poll_fn(|cx| body.poll_data(cx))).await {
                Some(Ok(part)) => whole.extend_from_slice(&part),
                Some(Err(error)) => return (status, Err(error)),
                None => return (status, Ok(whole.into())),
            }
        }
    }
}

#[tokio::test]
async fn hints_arrive_while_the_answer_is_still_being_made() {
    let (target, say) = told().await;
    let rig = rig::before(&target, Record::default()).await;
    let mut visit = Visit::begin(&rig).await;
    let first = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\
                 Link: </b.js>; rel=preload\r\nConnection: x-private\r\nX-Private: 1\r\n\r\n";
    say.send(first.into()).await.unwrap();
    let (status, headers) = visit.interim().await.unwrap();
    assert_eq!(status, StatusCode::EARLY_HINTS);
    let links: Vec<_> = headers.get_all(header::LINK).iter().collect();
    assert_eq!(links, ["</a.css>; rel=preload", "</b.js>; rel=preload"]);
    assert_eq!(headers.keys().count(), 1, "{headers:?}");
    // The answer is made only now.
    let rest = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </c.css>\r\n\r\n";
    say.send(format!("{rest}{ANSWER}")).await.unwrap();
    let told: Vec<StatusCode> = visit.all().await.into_iter().map(|(status, _)| status).collect();
    assert_eq!(told, [StatusCode::PROCESSING, StatusCode::EARLY_HINTS]);
    let (status, body) = visit.answer().await;
    assert_eq!((status, &body.unwrap()[..]), (StatusCode::OK, &b"hello"[..]));
}

#[tokio::test]
async fn an_upstream_over_http2_gives_hints_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("h2c://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    for i in 0..1000 {
                        let hint = Response::builder().status(103).header("link", format!("</{i}>"));
                        respond.send_informational(hint.body(()).unwrap()).unwrap();
                    }
                    let mut body = respond.send_response(Response::new(()), false).unwrap();
                    body.send_data(Bytes::from_static(b"hello"), true).unwrap();
                }
            });
        }
    });
    let rig = rig::before(&target, Record::default()).await;
    for _ in 0..2 {
        let mut visit = Visit::begin(&rig).await;
        let told = visit.all().await;
        assert_eq!(told.len(), 8);
        for (i, (status, headers)) in told.into_iter().enumerate() {
            assert_eq!(status, StatusCode::EARLY_HINTS);
            assert_eq!(headers[header::LINK], format!("</{i}>"));
        }
        assert_eq!(visit.answer().await.1.unwrap(), "hello");
    }
}

#[tokio::test]
async fn of_thousands_of_hints_eight_pass() {
    let flood =
        "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style\r\n\r\n".repeat(20_000);
    let rig = saying(&(flood + ANSWER)).await;
    let mut visit = Visit::begin(&rig).await;
    assert_eq!(visit.all().await.len(), 8);
    assert_eq!(visit.answer().await.1.unwrap(), "hello");
}

#[tokio::test]
async fn a_large_hint_is_dropped_and_one_larger_than_any_head_is_no_answer() {
    let hint = |size: usize| format!("HTTP/1.1 103 Early Hints\r\nLink: <{}>\r\n\r\n", "x".repeat(size));
    let rig = saying(&(hint(60 << 10) + &hint(3) + ANSWER)).await;
    let mut visit = Visit::begin(&rig).await;
    let told = visit.all().await;
    assert_eq!((told.len(), &told[0].1[header::LINK]), (1, &HeaderValue::from_static("<xxx>")));
    assert_eq!(visit.answer().await.1.unwrap(), "hello");

    let rig = saying(&(hint(1 << 20) + ANSWER)).await;
    let mut visit = Visit::begin(&rig).await;
    assert!(visit.all().await.is_empty());
    assert_eq!(visit.answer().await.0, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn the_rules_for_answers_hold_for_hints() {
    let (target, say) = told().await;
    let site = Site::from(rig::local(&target)).in_zone("tun.test".parse().unwrap());
    let rig = rig::serving(site, Record::default()).await;
    let hint = "HTTP/1.1 103 Early Hints\r\nSet-Cookie: a=1; Domain=tun.test\r\nSet-Cookie: b=2\r\n\
                Transfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n";
    say.send(format!("{hint}{ANSWER}")).await.unwrap();
    let mut visit = Visit::begin(&rig).await;
    let told = visit.all().await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1.iter().collect::<Vec<_>>(), [(&header::SET_COOKIE, &"b=2".parse().unwrap())]);
    assert_eq!(visit.answer().await.1.unwrap(), "hello");
}

#[tokio::test]
async fn visitors_over_http1_get_the_answer_only() {
    let rig = saying(&format!("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n{ANSWER}")).await;
    let answer = rig.raw_until_answered(&format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("a.css"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_reset_and_never_ended() {
    let (target, say) = told().await;
    let rig = rig::before(&target, Record::default()).await;
    let mut visit = Visit::begin(&rig).await;
    say.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".into()).await.unwrap();
    drop(say);
    let (status, body) = visit.answer().await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body.unwrap_err().reason(), Some(h2::Reason::INTERNAL_ERROR));
}

#[tokio::test]
async fn a_request_taken_back_is_taken_back_from_the_upstream() {
    for scheme in ["http", "h2c"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("{scheme}://{}", listener.local_addr().unwrap());
        let rig = rig::before(&target, Record::default()).await;
        let visit = Visit::begin(&rig).await;
        let (mut stream, _) = within(listener.accept()).await.unwrap();
        let taken_back = async {
            if scheme == "http" {
                let mut heard = Vec::new();
                let _ = stream.read_to_end(&mut heard).await;
                return;
            }
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            poll_fn(|cx| match respond.poll_reset(cx) {
                Poll::Ready(reason) => Poll::Ready(reason.map(drop)),
                Poll::Pending => connection.poll_closed(cx).map(|_| Ok(())),
            })
            .await
            .unwrap();
        };
        // By RST_STREAM: the connection stays.
        let Visit { answering, _sender, _connection } = visit;
        drop(answering);
        within(taken_back).await;
    }
}
