//! HTTP/2 that turns into something else in HTTP/1.1 (RFC 9113, section 8.2 and 10.3).

use super::Expect::{self, AtMostOne, One, Refused};
use super::Wire;
use super::frames::{self, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS};

pub(super) struct Case {
    pub(super) name: &'static str,
    fields: Vec<(String, String)>,
    trailers: Vec<(String, String)>,
    body: Option<String>,
    cut: bool,
    pub(super) expect: Expect,
}

/// Sends one case's request and waits for what becomes of it. `{p}` in its values is `prefix`.
pub(super) async fn talk<S: Wire>(mut wire: S, case: &Case, prefix: &str) {
    let filled = |fields: &[(String, String)]| -> Vec<(String, String)> {
        fields.iter().map(|(name, value)| (name.clone(), value.replace("{p}", prefix))).collect()
    };
    let block = frames::block(&filled(&case.fields));
    let end = if case.body.is_none() && case.trailers.is_empty() { END_STREAM } else { 0 };
    let mut bytes = frames::preface();
    if case.cut {
        let (one, two) = block.split_at(block.len() / 2);
        bytes.extend(frames::frame(HEADERS, end, 1, one));
        bytes.extend(frames::frame(CONTINUATION, 0, 1, &[]));
        bytes.extend(frames::frame(CONTINUATION, END_HEADERS, 1, two));
    } else {
        bytes.extend(frames::frame(HEADERS, END_HEADERS | end, 1, &block));
    }
    if let Some(body) = &case.body {
        let end = if case.trailers.is_empty() { END_STREAM } else { 0 };
        bytes.extend(frames::frame(DATA, end, 1, body.replace("{p}", prefix).as_bytes()));
    }
    if !case.trailers.is_empty() {
        let block = frames::block(&filled(&case.trailers));
        bytes.extend(frames::frame(HEADERS, END_HEADERS | END_STREAM, 1, &block));
    }
    let _ = frames::exchange(&mut wire, &bytes, 1).await;
}

pub(super) fn cases(host: &str) -> Vec<Case> {
    let pairs = |fields: &[(&str, &str)]| -> Vec<(String, String)> {
        fields.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    };
    let request = |method: &str, path: &str, authority: &str| {
        pairs(&[(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)])
    };
    let first = || request("POST", "{p}first", host);
    let smuggled = format!("GET {{p}}smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut cases = Vec::new();
    let mut case = |name, expect, fields: Vec<(String, String)>, body: Option<&str>| {
        let body = body.map(str::to_owned);
        cases.push(Case { name, fields, trailers: Vec::new(), body, cut: false, expect });
    };

    // Fields that only HTTP/1.1 has, or that become more than one line there.
    for (name, field) in [
        ("transfer-encoding", ("transfer-encoding", "chunked")),
        ("connection", ("connection", "close")),
        ("keep-alive", ("keep-alive", "5")),
        ("proxy-connection", ("proxy-connection", "close")),
        ("upgrade", ("upgrade", "websocket")),
        ("te", ("te", "gzip")),
        ("CRLF in a value", ("x", "a\r\ntransfer-encoding: chunked")),
        ("LF in a value", ("x", "a\nx: b")),
        ("CR in a value", ("x", "a\rb")),
        ("NUL in a value", ("x", "a\0b")),
        ("CRLF in a name", ("x: y\r\nz", "a")),
        ("a colon in a name", ("transfer-encoding: chunked", "a")),
        ("a space in a name", ("content-length ", "0")),
        ("capitals in a name", ("Content-Length", "0")),
        ("an empty name", ("", "x")),
        ("an unknown pseudo-header", (":evil", "x")),
        ("a status in a request", (":status", "200")),
        ("a second path", (":path", "{p}smuggled")),
        ("a second method", (":method", "GET")),
        ("a second authority", (":authority", "other.tun.test")),
        ("another host", ("host", "other.tun.test")),
    ] {
        let mut fields = first();
        fields.push((field.0.into(), field.1.into()));
        case(name, Refused, fields, Some(&format!("0\r\n\r\n{smuggled}")));
    }
    // Pseudo-headers that become a request line.
    let line = format!("{{p}}first HTTP/1.1\r\nHost: {host}\r\n\r\nGET {{p}}smuggled");
    for (name, method, path, authority) in [
        ("a request line in the path", "GET", line.as_str(), host),
        ("a space in the path", "GET", "{p}first x", host),
        ("no path", "GET", "", host),
        ("a path without a slash", "GET", "smuggled", host),
        ("an asterisk", "OPTIONS", "*", host),
        ("a request line in the method", "GET {p}smuggled HTTP/1.1\r\nx: ", "{p}first", host),
        ("a space in the method", "GET x", "{p}first", host),
        ("TRACE", "TRACE", "{p}first", host),
        ("another authority", "GET", "{p}first", "other.tun.test"),
        ("localhost", "GET", "{p}first", "localhost"),
        ("an address", "GET", "{p}first", "127.0.0.1:9999"),
        ("user information", "GET", "{p}first", "x@{h}"),
        ("CRLF in the authority", "GET", "{p}first", "{h}\r\nx: y"),
        ("a path in the authority", "GET", "{p}first", "{h}/x"),
        ("no authority", "GET", "{p}first", ""),
    ] {
        case(name, Refused, request(method, path, &authority.replace("{h}", host)), None);
    }
    case("CONNECT", Refused, pairs(&[(":method", "CONNECT"), (":authority", host)]), None);
    let mut other = request("CONNECT", "{p}first", host);
    other.insert(1, (":protocol".into(), "connect-udp".into()));
    case("a tunnel for something else", Refused, other, None);
    let mut late = first();
    late.insert(0, ("x".into(), "y".into()));
    case("a pseudo-header after others", Refused, late, None);

    // Lengths that are not those of the data.
    for (name, length) in
        [("a length too short", "0"), ("a length too long", "9999"), ("a signed length", "+5")]
    {
        let mut fields = first();
        fields.push(("content-length".into(), length.into()));
        case(name, AtMostOne, fields, Some(&smuggled));
    }
    let mut two = first();
    two.extend(pairs(&[("content-length", "5"), ("content-length", "0")]));
    case("two lengths", AtMostOne, two, Some("hello"));

    // What is fine.
    case("a body", One, first(), Some("hello"));
    case("capitals and a dot", One, request("GET", "{p}first", &format!("{}.", host.to_uppercase())), None);
    case(
        "another scheme",
        One,
        pairs(&[(":method", "GET"), (":scheme", "http"), (":authority", host), (":path", "{p}first")]),
        None,
    );
    let mut same = request("GET", "{p}first", host);
    same.push(("host".into(), host.into()));
    case("the host twice", One, same, None);
    let only = pairs(&[(":method", "GET"), (":scheme", "https"), (":path", "{p}first"), ("host", host)]);
    case("only a host", One, only, None);
    cases.push(Case {
        name: "a head in parts",
        fields: request("GET", "{p}first", host),
        trailers: Vec::new(),
        body: None,
        cut: true,
        expect: One,
    });
    for (name, trailer, expect) in [
        ("a length as a trailer", ("content-length", "44"), One),
        ("a pseudo-header as a trailer", (":path", "{p}smuggled"), AtMostOne),
        ("a host as a trailer", ("host", "other.tun.test"), One),
        ("a connection as a trailer", ("transfer-encoding", "chunked"), AtMostOne),
    ] {
        let trailers = pairs(&[trailer]);
        cases.push(Case { name, fields: first(), trailers, body: Some("hello".into()), cut: false, expect });
    }
    cases
}
