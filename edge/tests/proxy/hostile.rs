//! The edge against an adversary: smuggling, and the private side of a server of which one document is public.

use http::HeaderValue;
use http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use tunnler_edge::Site;
use tunnler_edge::proxy::{Backend, Document, PathRule};

use crate::adversary::{self, Recorder, frames};
use crate::rig::{self, HOST, Record, within};

const TOML: &str = "/.well-known/stellar.toml";

#[tokio::test]
async fn smuggled_requests_never_reach_the_upstream() {
    let recorder = Recorder::start("ok").await;
    let rig = rig::before(&recorder.address.to_string(), Record::default()).await;
    adversary::smuggle(|alpn| rig.connect(HOST, alpn), HOST, &recorder).await;
}

#[tokio::test]
async fn lies_in_headers_never_reach_the_upstream() {
    let recorder = Recorder::start("ok").await;
    let rig = rig::before(&recorder.address.to_string(), Record::default()).await;
    adversary::lie(|alpn| rig.connect(HOST, alpn), HOST, &recorder).await;
}

/// A server of which only one document is public, beside one that is all public.
async fn half_private() -> (Recorder, Recorder, rig::Rig) {
    let (public, private) = (Recorder::start("public").await, Recorder::start("private").await);
    let document = Document::new(rig::local(&private.address.to_string()), TOML.parse().unwrap())
        .header(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let site = Site::new(Backend::Upstream(rig::local(&public.address.to_string())))
        .route(PathRule::Exact(TOML.into()), Backend::Document(document));
    let rig = rig::serving(site, Record::default()).await;
    (public, private, rig)
}

#[tokio::test]
async fn nothing_but_one_document_of_a_private_server_is_reachable() {
    let (public, private, rig) = half_private().await;
    let paths = [
        "/admin",
        "/Admin",
        "/%61dmin",
        "//admin",
        "/.well-known/stellar.toml/",
        "/.well-known/stellar.toml/admin",
        "/.well-known/stellar.toml/../../admin",
        "/.well-known/stellar.toml/..%2f..%2fadmin",
        "/.well-known/stellar.toml%2f..%2f..%2fadmin",
        "/.well-known/../admin",
        "//.well-known/stellar.toml",
        "/./.well-known/stellar.toml",
        "/.well-known/stellar%2etoml",
        "/.well-known%2fstellar.toml",
        "/.well-known\\stellar.toml",
        "/.well-known/stellar.toml%00",
        "/.well-known/stellar.toml%23",
        "/.well-known/stellar.toml%3f/admin",
        "/.well-known/stellar.toml;/admin",
        "/.well-known/stellar.toml;jsessionid=1",
        "/.WELL-KNOWN/STELLAR.TOML",
        "/update_gateway",
        "/authorize",
        "/api_upload",
    ];
    let extra = [
        "",
        "X-Forwarded-Host: localhost\r\n",
        "X-Forwarded-Host: 127.0.0.1:9999\r\nForwarded: host=localhost\r\n",
        "X-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\n",
        "X-Http-Method-Override: POST\r\n",
        "Connection: X-Forwarded-Host, Host\r\n",
        "Cookie: session=1\r\nAuthorization: Bearer x\r\n",
    ];
    // The document itself, with everything a request can carry; then all that is not it.
    for target in [TOML.to_owned(), format!("{TOML}?path=/admin"), format!("http://{HOST}{TOML}")] {
        for extra in extra {
            let answer = rig
                .raw_until_answered(&format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n{extra}\r\n"))
                .await;
            assert!(
                answer.ends_with("private") && answer.contains("access-control-allow-origin: *"),
                "{answer}"
            );
        }
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"] {
        let request = format!("{method} {TOML} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n");
        let answer = rig.raw_until_answered(&request).await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{method}: {answer}");
    }
    for path in paths {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{}\r\n", extra[3]);
        let answer = rig.raw_until_answered(&request).await;
        assert!(answer.ends_with("public") || answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
        let mut wire = rig.connect(HOST, b"h2").await.unwrap();
        let mut bytes = frames::preface();
        let head = frames::get(HOST, path);
        bytes.extend(frames::frame(frames::HEADERS, frames::END_HEADERS | frames::END_STREAM, 1, &head));
        let _ = within(frames::exchange(&mut wire, &bytes, 1)).await;
    }
    for host in ["localhost", "localhost:9999", "127.0.0.1", "127.0.0.1:9999", "[::1]", "local.pintheon.com"]
    {
        for target in ["/admin", TOML] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let answer = rig.raw_until_answered(&request).await;
            assert!(answer.starts_with("HTTP/1.1 4"), "{host}: {answer}");
        }
    }
    assert!(public.odd().is_empty() && private.odd().is_empty());
    for request in private.requests() {
        assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", TOML));
        assert_eq!(
            request.values("host"),
            [HOST],
            "the public Host is kept: the server's own guard looks at it"
        );
        assert_eq!(request.values("x-forwarded-host"), [HOST]);
        for name in ["cookie", "authorization", "x-original-url", "x-rewrite-url", "x-http-method-override"] {
            assert!(request.values(name).is_empty(), "{name}");
        }
    }
    assert!(public.requests().iter().all(|request| request.values("host") == [HOST]));
}
