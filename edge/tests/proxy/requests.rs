//! Which requests are taken, and what is left of their headers.

use http::{HeaderValue, Request, Response, StatusCode, header};
use tokio::net::TcpListener;

use crate::rig::{self, HOST, empty, hello, text, within};

#[tokio::test]
async fn forwarding_headers_are_replaced_and_host_is_kept() {
    let rig = rig::start(hello).await;
    let answer = rig
        .raw(
            b"GET /a//b%2F?q=1 HTTP/1.1\r\nHost: MyNode.tun.test.:8443\r\nX-Forwarded-For: 6.6.6.6\r\n\
              Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nConnection: close, x-gone\r\n\
              X-Gone: 1\r\nKeep-Alive: 5\r\nProxy: http://evil\r\nX-Kept: yes\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    let seen = rig.seen.lock().unwrap()[0].clone();
    assert_eq!(seen.line, "GET /a//b%2F?q=1");
    assert_eq!(seen.headers[header::HOST], "mynode.tun.test:8443");
    assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(seen.headers["x-forwarded-proto"], "https");
    assert_eq!(seen.headers["x-forwarded-host"], "mynode.tun.test:8443");
    assert_eq!(seen.headers["forwarded"], "for=127.0.0.1;host=\"mynode.tun.test:8443\";proto=https");
    assert_eq!(seen.headers["x-kept"], "yes");
    for gone in ["x_forwarded_for", "x-gone", "keep-alive", "proxy"] {
        assert!(!seen.headers.contains_key(gone), "{gone}");
    }
}

#[tokio::test]
async fn the_host_must_be_the_one_of_the_connection() {
    let rig = rig::start(hello).await;
    let cases: [(&str, u16); 12] = [
        ("GET / HTTP/1.1\r\nHost: other.tun.test\r\n\r\n", 421),
        ("GET http://other.tun.test/ HTTP/1.1\r\nHost: other.tun.test\r\n\r\n", 421),
        ("GET http://mynode.tun.test/x HTTP/1.1\r\nHost: mynode.tun.test\r\n\r\n", 200),
        ("GET http://other.tun.test/ HTTP/1.1\r\nHost: mynode.tun.test\r\n\r\n", 400),
        ("GET http://u@mynode.tun.test/ HTTP/1.1\r\nHost: mynode.tun.test\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: u@mynode.tun.test\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: mynode.tun.test\r\nHost: mynode.tun.test\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: mynode.tun.test:x\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: mynode.tun.test\r\n\r\n", 400),
        ("CONNECT mynode.tun.test:443 HTTP/1.1\r\nHost: mynode.tun.test:443\r\n\r\n", 405),
        ("TRACE / HTTP/1.1\r\nHost: mynode.tun.test\r\n\r\n", 405),
    ];
    for (request, status) in cases {
        let answer = rig.raw(request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {answer}");
    }
    assert_eq!(rig.lines(), ["GET /x"]);
    // Another host gets no handshake at all.
    assert!(rig.connect("other.tun.test", b"http/1.1").await.is_err());
}

#[tokio::test]
async fn repeated_headers_and_errors_for_people_and_programs() {
    let rig = rig::start(|_| async {
        let mut response = Response::new(text("cookies"));
        for cookie in ["a=1; Path=/", "b=2; Path=/"] {
            response.headers_mut().append(header::SET_COOKIE, HeaderValue::from_static(cookie));
        }
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("x-internal"));
        response.headers_mut().insert("x-internal", HeaderValue::from_static("1"));
        response
    })
    .await;
    let mut sender = rig.http1().await;
    let request = Request::get("/").header("host", HOST).body(empty()).unwrap();
    let answer = within(sender.send_request(request)).await.unwrap();
    assert_eq!(answer.headers().get_all(header::SET_COOKIE).iter().count(), 2);
    assert!(!answer.headers().contains_key("x-internal"));

    // A port where nobody listens.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let dead = rig::before(&free.to_string(), rig::Record::default()).await;
    let answer =
        dead.raw(b"GET / HTTP/1.1\r\nHost: mynode.tun.test\r\nAccept: application/json\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"status\":503"), "{answer}");
    let answer = dead.raw(b"GET / HTTP/1.1\r\nHost: mynode.tun.test\r\nAccept: text/html\r\n\r\n").await;
    assert!(answer.contains("<h1>503"), "{answer}");
}

#[tokio::test]
async fn http2_requests_are_held_to_the_same_rules() {
    let rig = rig::start(hello).await;
    let mut http2 = rig.http2().await;
    let request = |uri: &str| Request::get(uri).body(empty()).unwrap();
    let answer = within(http2.send_request(request("https://mynode.tun.test/ok"))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let answer = within(http2.send_request(request("https://other.tun.test/"))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST);
    let mut both = request("https://mynode.tun.test/");
    both.headers_mut().insert(header::HOST, HeaderValue::from_static("other.tun.test"));
    assert_eq!(within(http2.send_request(both)).await.unwrap().status(), StatusCode::BAD_REQUEST);
    let mut cookies = request("https://mynode.tun.test/cookies");
    for cookie in ["a=1", "b=2"] {
        cookies.headers_mut().append(header::COOKIE, HeaderValue::from_static(cookie));
    }
    within(http2.send_request(cookies)).await.unwrap();
    let seen = rig.seen.lock().unwrap().clone();
    assert_eq!(seen.iter().map(|seen| seen.line.as_str()).collect::<Vec<_>>(), ["GET /ok", "GET /cookies"]);
    assert_eq!(seen[1].headers[header::COOKIE], "a=1; b=2");
    assert_eq!(seen[0].headers[header::HOST], HOST);
}

#[tokio::test]
async fn heads_have_a_limit_in_size() {
    let rig = rig::start(hello).await;
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX: {}\r\n\r\n", "x".repeat(100 << 10));
    let answer = rig.raw(request.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(rig.lines().is_empty());
}
