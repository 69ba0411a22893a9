//! Headers that claim what only the edge may say, or speak of the visitor's connection (SECURITY 19).

use super::frames::{self, END_HEADERS, END_STREAM, HEADERS};
use super::recorder::Recorded;
use super::{Recorder, Wire, http1};

/// Every value that must not get through.
const LIE: &str = "6.6.6.6";

/// Claims in many spellings.
const CLAIMS: [(&str, &str); 12] = [
    ("forwarded", "for=6.6.6.6"),
    ("x-forwarded-for", "6.6.6.6"),
    ("x-forwarded-host", "6.6.6.6"),
    ("x-forwarded-proto", "6.6.6.6"),
    ("x-forwarded-prefix", "/6.6.6.6"),
    ("x-forwarded-server", "6.6.6.6"),
    ("x-real-ip", "6.6.6.6"),
    ("x-original-url", "/6.6.6.6"),
    ("x-rewrite-url", "/6.6.6.6"),
    ("x_forwarded_for", "6.6.6.6"),
    ("x_real_ip", "6.6.6.6"),
    ("proxy", "http://6.6.6.6"),
];

/// What HTTP/1.1 says of a connection; HTTP/2 has no place for it.
const OF_CONNECTION: &str = "Connection: x-named, keep-alive, Upgrade\r\nX-Named: 6.6.6.6\r\nKeep-Alive: 6.6.6.6\r\n\
    Proxy-Connection: 6.6.6.6\r\nTE: gzip\r\nUpgrade: h2c\r\n";

/// What the upstream may not see a visitor's word of.
const GONE: [&str; 6] = ["keep-alive", "proxy-connection", "te", "upgrade", "x-named", "proxy"];

/// Says all that in both protocols; panics if any of it is passed on, or if the truth is not told.
pub(super) async fn tell<S: Wire>(old: S, mut new: S, host: &str, recorder: &Recorder) {
    let claims: String = CLAIMS.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let text = format!("GET /lies/1 HTTP/1.1\r\nHost: {host}\r\nX-Kept: yes\r\n{claims}{OF_CONNECTION}\r\n");
    http1::talk(old, text.as_bytes()).await;
    let mut fields =
        vec![(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", "/lies/2")];
    fields.push(("x-kept", "yes"));
    fields.extend(CLAIMS);
    let mut bytes = frames::preface();
    bytes.extend(frames::frame(HEADERS, END_HEADERS | END_STREAM, 1, &frames::block(&fields)));
    let _ = frames::exchange(&mut new, &bytes, 1).await;
    let mut seen: Vec<Recorded> =
        recorder.requests().into_iter().filter(|request| request.target.starts_with("/lies/")).collect();
    seen.sort_by(|one, other| one.target.cmp(&other.target));
    let targets: Vec<&str> = seen.iter().map(|request| request.target.as_str()).collect();
    assert_eq!(targets, ["/lies/1", "/lies/2"]);
    for request in &seen {
        judge(request, host);
    }
}

fn judge(request: &Recorded, host: &str) {
    let lies: Vec<_> = request.headers.iter().filter(|(_, value)| value.contains(LIE)).collect();
    assert!(lies.is_empty(), "{}: {lies:?}", request.target);
    for name in GONE {
        assert!(request.values(name).is_empty(), "{}: {name}", request.target);
    }
    for (name, value) in [
        ("x-kept", "yes"),
        ("host", host),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", host),
        ("forwarded", &format!("for=127.0.0.1;host=\"{host}\";proto=https")),
    ] {
        assert_eq!(request.values(name), [value], "{}: {name}", request.target);
    }
}
