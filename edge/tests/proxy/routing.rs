//! Which upstream gets a request, what it may take, and what is done to headers on the way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs};
use tunnler_edge::Site;
use tunnler_edge::proxy::{
    Backend, Checks, Edits, FullUrl, HostHeader, PathRule, Pool, Rules, Timeouts, Upstream, UpstreamTls,
};

use crate::rig::{self, HOST, Record, get, hello, local, text, until, within};

/// The target of an upstream that nobody runs.
async fn dead() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

#[tokio::test]
async fn equal_upstreams_take_turns_and_dead_ones_cost_no_request() {
    let (one, two) = (Record::default(), Record::default());
    let echo = |request: Request<Incoming>| async {
        Response::new(text(request.into_body().collect().await.unwrap().to_bytes()))
    };
    let members = vec![
        local(&dead().await),
        rig::upstream(echo, one.clone()).await,
        local(&dead().await),
        rig::upstream(echo, two.clone()).await,
    ];
    let site = Site::new(Backend::Pool(Pool::new(members, None)));
    let rig = rig::serving(site, Record::default()).await;
    let mut sender = rig.http2().await;
    for number in 0..40 {
        let body = Bytes::from(format!("message {number}"));
        let request = Request::post(format!("https://{HOST}/")).body(Full::new(body.clone())).unwrap();
        let answer = within(sender.send_request(request)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(
            within(answer.into_body().collect()).await.unwrap().to_bytes(),
            body,
            "untouched by the detour"
        );
    }
    let (one, two) = (one.lock().unwrap().len(), two.lock().unwrap().len());
    assert!(one + two == 40 && one.abs_diff(two) <= 4, "{one} and {two}");

    let none = Pool::new(vec![local(&dead().await), local(&dead().await)], None);
    let rig = rig::serving(Site::new(Backend::Pool(none)), Record::default()).await;
    let answer = rig.raw_until_answered(&format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[tokio::test]
async fn an_upstream_that_fails_its_checks_is_left_out_until_it_passes_them() {
    let well = Arc::new(AtomicBool::new(true));
    let served = Arc::new(Mutex::new([0; 2]));
    let member = |number: usize, well: Arc<AtomicBool>| {
        let served = served.clone();
        rig::upstream(
            move |request: Request<Incoming>| {
                let (check, well) = (request.uri().path() == "/health", well.load(Ordering::SeqCst));
                if !check {
                    served.lock().unwrap()[number] += 1;
                }
                let status = if check && !well { 500 } else { 200 };
                std::future::ready(Response::builder().status(status).body(text("")).unwrap())
            },
            Record::default(),
        )
    };
    let members = vec![member(0, Arc::new(AtomicBool::new(true))).await, member(1, well.clone()).await];
    let checks = Checks { path: "/health".parse().unwrap(), every: Duration::from_millis(20) };
    let rig =
        rig::serving(Site::new(Backend::Pool(Pool::new(members, Some(checks)))), Record::default()).await;
    let mut sender = rig.http2().await;
    let mut share = async || {
        *served.lock().unwrap() = [0; 2];
        for _ in 0..10 {
            assert_eq!(within(sender.send_request(get("/"))).await.unwrap().status(), StatusCode::OK);
        }
        *served.lock().unwrap()
    };
    assert_eq!(share().await, [5, 5]);
    well.store(false, Ordering::SeqCst);
    within(async { while share().await != [10, 0] {} }).await;
    well.store(true, Ordering::SeqCst);
    within(async { while share().await != [5, 5] {} }).await;
}

#[tokio::test]
async fn paths_lead_to_their_upstreams() {
    let named = |name: &'static str| {
        rig::upstream(move |_| async move { Response::new(text(name)) }, Record::default())
    };
    let site = Site::from(named("rest").await)
        .route(PathRule::Under("/api/v2".into()), Backend::Upstream(named("two").await))
        .route(PathRule::Under("/api".into()), Backend::Upstream(named("one").await))
        .route(PathRule::Exact("/robots.txt".into()), Backend::Upstream(named("robots").await));
    let rig = rig::serving(site, Record::default()).await;
    let mut sender = rig.http1().await;
    for (path, name) in [
        ("/", "rest"),
        ("/api", "one"),
        ("/api/v1/x?y=/api/v2", "one"),
        ("/api/v2", "two"),
        ("/api/v2/a%20b", "two"),
        ("/api/v20", "one"),
        ("/apis", "rest"),
        ("/robots.txt", "robots"),
        ("/robots.txt/", "rest"),
    ] {
        let answer = within(sender.send_request(get(path))).await.unwrap();
        assert_eq!(within(answer.into_body().collect()).await.unwrap().to_bytes(), name, "{path}");
    }
}

#[tokio::test]
async fn headers_are_changed_as_the_publisher_says() {
    const X: HeaderName = HeaderName::from_static("x-secret-for-upstream");
    let value = HeaderValue::from_static;
    let seen = Record::default();
    let answer = |_| async {
        let answer = Response::builder().header(header::SERVER, "nginx/1.2.3").header("x-b", "1");
        let answer =
            answer.header(header::SET_COOKIE, "a=1; Domain=tun.test").header(header::SET_COOKIE, "b=1");
        answer.body(text("")).unwrap()
    };
    let upstream = rig::upstream(answer, seen.clone()).await;
    let rules = Rules {
        request: Edits::default().set(X, value("yes")).unwrap().remove(header::REFERER).unwrap(),
        response: Edits::default()
            .remove(header::SERVER)
            .unwrap()
            .add("x-b".parse().unwrap(), value("2"))
            .unwrap(),
        hsts: Some(Duration::from_secs(3600)),
        full_url: FullUrl::Said,
        ..Rules::default()
    };
    let rig =
        rig::serving(Site::from(upstream).rules(rules).in_zone("tun.test".parse().unwrap()), seen).await;
    // A visitor that names the publisher's header as one of its connection does not get rid of it.
    let request = format!(
        "GET /a?b=c HTTP/1.1\r\nHost: {HOST}\r\nReferer: https://x.test/\r\nX-Secret-For-Upstream: no\r\n\
         X-Forwarded-Url: https://evil.test/\r\nConnection: x-secret-for-upstream\r\n\r\n"
    );
    let answer = rig.raw_until_answered(&request).await.to_ascii_lowercase();
    for line in ["strict-transport-security: max-age=3600", "x-b: 1", "x-b: 2", "set-cookie: b=1"] {
        assert!(answer.contains(&format!("{line}\r\n")), "{line}: {answer}");
    }
    assert!(!answer.contains("nginx") && !answer.contains("set-cookie: a=1"), "{answer}");
    let seen = rig.seen.lock().unwrap()[0].headers.clone();
    assert_eq!(seen.get_all(X).iter().collect::<Vec<_>>(), ["yes"]);
    assert_eq!(seen["x-forwarded-url"], format!("https://{HOST}/a?b=c"));
    assert!(!seen.contains_key(header::REFERER));
}

#[tokio::test]
async fn host_can_be_set() {
    let seen = Record::default();
    let target = rig::upstream(hello, seen.clone()).await.target().clone();
    let host = HostHeader::Set("app.internal:8080".parse().unwrap());
    let site = Site::from(Upstream::new(target, &UpstreamTls::AnyCertificate, host));
    let rig = rig::serving(site, seen).await;
    within(rig.http2().await.send_request(get("/"))).await.unwrap();
    let seen = rig.seen.lock().unwrap()[0].headers.clone();
    assert_eq!(seen[header::HOST], "app.internal:8080");
    assert_eq!(seen["x-forwarded-host"], HOST);
}

fn with(target: &str, tls: &UpstreamTls, timeouts: Timeouts) -> Site {
    Upstream::with_timeouts(target.parse().unwrap(), tls, HostHeader::Keep, timeouts).into()
}

/// The status and body with which `site` answers a GET.
async fn outcome(site: Site) -> (u16, String) {
    let rig = rig::serving(site, Record::default()).await;
    let answer = within(rig.http1().await.send_request(get("/"))).await.unwrap();
    let status = answer.status().as_u16();
    let body = within(answer.into_body().collect()).await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn a_tls_upstream_is_known_by_root_pin_or_not_at_all() {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let der = issued.cert.der().clone();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![der.clone()], key.into())
        .unwrap();
    let (listener, acceptor) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TlsAcceptor::from(Arc::new(config)));
    let target = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper::service::service_fn(|request: Request<Incoming>| async {
                    Ok::<_, std::convert::Infallible>(hello(request).await)
                });
                let io = hyper_util::rt::TokioIo::new(stream);
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            });
        }
    });
    let mut roots = RootCertStore::empty();
    roots.add(der.clone()).unwrap();
    let pin: [u8; 32] = Sha256::digest(&der).into();
    let usual = Timeouts::default;
    for tls in [UpstreamTls::Roots(Arc::new(roots)), UpstreamTls::Pinned(pin), UpstreamTls::AnyCertificate] {
        assert_eq!(outcome(with(&target, &tls, usual())).await, (200, "hello".into()), "{tls:?}");
    }
    for tls in [UpstreamTls::Roots(Arc::new(RootCertStore::empty())), UpstreamTls::Pinned([7; 32])] {
        let (status, body) = outcome(with(&target, &tls, usual())).await;
        assert!(status == 502 && body.contains("certificate"), "{tls:?}: {status} {body}");
    }
    // TLS to a server that speaks none.
    let plain = rig::upstream(hello, Record::default()).await;
    let target = plain.target().to_string().replace("http:", "https:");
    assert_eq!(outcome(with(&target, &UpstreamTls::AnyCertificate, usual())).await.0, 502);
}

#[tokio::test]
async fn every_wait_has_its_limit() {
    let short = Duration::from_millis(250);
    // Connections are made by the system, but nobody ever says anything.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let none = UpstreamTls::AnyCertificate;
    let connect = Timeouts { connect: short, ..Timeouts::default() };
    let (status, body) = outcome(with(&format!("https://{address}"), &none, connect)).await;
    assert!(status == 504 && body.contains("reached in time"), "{status} {body}");
    let answer = Timeouts { answer: short, ..Timeouts::default() };
    let (status, body) = outcome(with(&address.to_string(), &none, answer.clone())).await;
    assert!(status == 504 && body.contains("answer in time"), "{status} {body}");

    // A long upload is no slow answer; a silent one is the visitor's fault.
    let read = |request: Request<Incoming>| async {
        let length = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
        Response::new(text(length.to_string()))
    };
    let target = rig::upstream(read, Record::default()).await.target().to_string();
    let upload = |pause: Duration| {
        let parts = futures::stream::unfold(0, move |n| async move {
            tokio::time::sleep(pause).await;
            (n < 6).then(|| (Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"part"))), n + 1))
        });
        let body = StreamBody::new(Box::pin(parts));
        Request::post(format!("https://{HOST}/")).header("host", HOST).body(body).unwrap()
    };
    let answer = Timeouts { answer: Duration::from_millis(1000), ..Timeouts::default() };
    let rig = rig::serving(with(&target, &none, answer), Record::default()).await;
    let answer = within(rig.http2().await.send_request(upload(Duration::from_millis(250)))).await.unwrap();
    assert_eq!(within(answer.into_body().collect()).await.unwrap().to_bytes(), "24");
    let silence = Timeouts { upload_silence: short, ..Timeouts::default() };
    let rig = rig::serving(with(&target, &none, silence), Record::default()).await;
    let answer = within(rig.http2().await.send_request(upload(Duration::from_secs(5)))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);

    // An answer may fall silent for as long as it likes, unless the publisher says otherwise; then it is broken off.
    let events = |_| async {
        let once = futures::stream::once(async { Ok(Frame::data(Bytes::from_static(b"event"))) });
        Response::new(BodyExt::boxed(StreamBody::new(futures::StreamExt::chain(
            once,
            futures::stream::pending(),
        ))))
    };
    let target = rig::upstream(events, Record::default()).await.target().to_string();
    let cut = Timeouts { answer_silence: Some(short), ..Timeouts::default() };
    let rig = rig::serving(with(&target, &none, cut), Record::default()).await;
    let answer = within(rig.http1().await.send_request(get("/"))).await.unwrap();
    assert!(within(answer.into_body().collect()).await.is_err(), "broken off, not ended");
}

#[tokio::test]
async fn connections_to_an_upstream_are_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let accepted = Arc::new(Mutex::new(0));
    let counted = accepted.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            *counted.lock().unwrap() += 1;
            let service = hyper::service::service_fn(|request: Request<Incoming>| async {
                Ok::<_, std::convert::Infallible>(hello(request).await)
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    let rig = rig::before(&target, Record::default()).await;
    for _ in 0..10 {
        let answer = within(rig.http1().await.send_request(get("/"))).await.unwrap();
        within(answer.into_body().collect()).await.unwrap();
    }
    until(|| *accepted.lock().unwrap() > 0).await;
    let accepted = *accepted.lock().unwrap();
    assert!(accepted < 5, "{accepted} connections for ten visitors in a row");
}
