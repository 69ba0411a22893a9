//! Who may use a service, how often, and with how much.

use std::num::NonZeroU32;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tunnler_edge::Site;
use tunnler_edge::proxy::{
    Access, Backend, Credentials, PathRule, Preflight, Proof, Provider, Rate, Rates, Rules, Webhook,
};

use crate::rig::{self, Body, HOST, Record, Rig, hello, text, until, within};

async fn guarded(rules: Rules) -> Rig {
    let seen = Record::default();
    let upstream = rig::upstream(hello, seen.clone()).await;
    rig::serving(Site::from(upstream).rules(rules), seen).await
}

fn access(access: Access) -> Rules {
    Rules { access, ..Rules::default() }
}

fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("https://{HOST}{path}")).header("host", HOST)
}

/// Sends one request over each protocol; both answers must have the status.
async fn both(
    rig: &Rig,
    builder: impl Fn() -> http::request::Builder,
    body: &[u8],
    status: u16,
) -> Response<Incoming> {
    let body = Full::new(Bytes::copy_from_slice(body));
    let old = within(rig.http1().await.send_request(builder().body(body.clone()).unwrap())).await.unwrap();
    let new = within(rig.http2().await.send_request(builder().body(body).unwrap())).await.unwrap();
    assert_eq!((old.status().as_u16(), new.status().as_u16()), (status, status));
    new
}

#[tokio::test]
async fn a_service_asks_for_what_its_publisher_wants() {
    let credentials = Credentials::default().logins("alice:secret").unwrap().tokens("t0ken").unwrap();
    let proof = Access::default().proof(Proof::Credentials(credentials)).preflight(Preflight::Passed);
    let rig = guarded(access(proof)).await;
    let get = |shown: &str| {
        let shown = shown.to_owned();
        move || request(Method::GET, "/").header(header::AUTHORIZATION, &shown)
    };
    for bad in [format!("Basic {}", STANDARD.encode("alice:wrong")), "Bearer no".into(), "".into()] {
        let refused = both(&rig, get(&bad), b"", 401).await;
        let offers = refused.headers().get_all(header::WWW_AUTHENTICATE).iter().count();
        assert_eq!(offers, 2, "both ways are offered");
    }
    let preflight = || {
        request(Method::OPTIONS, "/")
            .header(header::ORIGIN, "https://app.test")
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "PUT")
    };
    assert!(rig.lines().is_empty());
    both(&rig, preflight, b"", 200).await;
    both(&rig, || request(Method::OPTIONS, "/"), b"", 401).await;
    for good in [format!("Basic {}", STANDARD.encode("alice:secret")), "Bearer t0ken".into()] {
        both(&rig, get(&good), b"", 200).await;
    }
    let seen = rig.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 6);
    assert!(seen.iter().all(|seen| !seen.headers.contains_key(header::AUTHORIZATION)), "it was for the edge");

    let elsewhere = Access::default().networks(vec!["192.0.2.0/24".parse().unwrap()], Vec::new());
    let rig = guarded(access(elsewhere)).await;
    both(&rig, || request(Method::GET, "/"), b"", 403).await;
    assert!(rig.lines().is_empty());
}

#[tokio::test]
async fn a_refused_body_is_never_asked_for() {
    let credentials = Credentials::default().tokens("t0ken").unwrap();
    let rig = guarded(access(Access::default().proof(Proof::Credentials(credentials)))).await;
    let head =
        format!("PUT / HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 100000000\r\n");
    let answer = rig.raw(format!("{head}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let answer = rig.raw(format!("{head}Authorization: Bearer t0ken\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 100") || answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn only_signed_messages_pass_and_they_pass_whole() {
    let seen = Record::default();
    let echo = |request: Request<Incoming>| async {
        Response::new(text(request.into_body().collect().await.unwrap().to_bytes()))
    };
    let upstream = rig::upstream(echo, seen.clone()).await;
    let hooks = Proof::Webhook(Webhook::new(Provider::GitHub, "a secret of ours").unwrap());
    let closed = Proof::Credentials(Credentials::default().tokens("t0ken").unwrap());
    let site = Site::from(upstream.clone()).rules(access(Access::default().proof(closed))).guarded(
        PathRule::Under("/hooks".into()),
        Access::default().proof(hooks),
        Backend::Upstream(upstream),
    );
    let rig = rig::serving(site, seen).await;
    let message = vec![b'm'; 300_000];
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"a secret of ours");
    let signature = format!("sha256={}", rig::hex(hmac::sign(&key, &message).as_ref()));
    let signed = |path: &'static str| {
        let signature = signature.clone();
        move || request(Method::POST, path).header("x-hub-signature-256", &signature)
    };
    let answer = both(&rig, signed("/hooks/push"), &message, 200).await;
    assert_eq!(within(answer.into_body().collect()).await.unwrap().to_bytes(), message);
    assert_eq!(rig.lines(), ["POST /hooks/push"; 2]);
    both(&rig, signed("/hooks/push"), &message[1..], 401).await;
    both(&rig, || request(Method::POST, "/hooks/push"), &message, 401).await;
    // The service's own rule holds for every other path, and no spelling of this one leads around the signature.
    both(&rig, signed("/other"), &message, 401).await;
    both(&rig, signed("/%68ooks/push"), &message, 400).await;
    both(&rig, signed("/x/../hooks/push"), &message, 400).await;
    both(&rig, signed("/hooks/push"), &vec![b'm'; 5 << 20], 413).await;
    assert_eq!(rig.lines().len(), 2);
}

#[tokio::test]
async fn rates_and_sizes_are_limited() {
    let rate = Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::new(3).unwrap() };
    let rates = Some(Arc::new(Rates::new(Some(rate), None)));
    let rig = guarded(Rules { rates, ..Rules::default() }).await;
    let mut sender = rig.http2().await;
    let mut limited = 0;
    for _ in 0..6 {
        let request = request(Method::GET, "/").header(header::ACCEPT, "application/json");
        let answer = within(sender.send_request(request.body(rig::empty()).unwrap())).await.unwrap();
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            limited += 1;
            let wait: u64 = answer.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
            assert!((1..=2).contains(&wait), "{wait}");
            let body = within(answer.into_body().collect()).await.unwrap().to_bytes();
            assert!(body.starts_with(b"{"), "{body:?}");
        }
    }
    assert!((1..=3).contains(&limited), "{limited}");

    let seen = Record::default();
    let read = |request: Request<Incoming>| async {
        let read = request.into_body().collect().await;
        Response::new(text(if read.is_ok() { "whole" } else { "cut" })) as Response<Body>
    };
    let upstream = rig::upstream(read, seen.clone()).await;
    let rules = Rules { max_body: Some(1000), ..Rules::default() };
    let rig = rig::serving(Site::from(upstream).rules(rules), seen).await;
    let post = || request(Method::POST, "/");
    both(&rig, post, &[0; 1000], 200).await;
    both(&rig, post, &[0; 1001], 413).await;
    assert_eq!(rig.lines().len(), 2, "a length that is too long is refused before anything is asked");
    // Without a length the upstream gets a body that breaks off, never one that ends.
    let chunks = format!("{:x}\r\n{}\r\n", 600, "x".repeat(600));
    let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let answer = rig.raw(format!("{head}{chunks}{chunks}0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("connection: close"), "{answer}");
    until(|| rig.lines().len() == 3).await;
}
