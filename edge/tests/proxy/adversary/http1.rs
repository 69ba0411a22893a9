//! HTTP/1.1 that two servers may read differently (RFC 9112, sections 2.2, 5 and 6).

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Expect::{self, Answered, AtMostOne, One, Refused};
use super::Wire;

/// How long the TLS end may be silent after an answer until it is done.
const QUIET: Duration = Duration::from_millis(750);

pub(super) struct Case {
    pub(super) name: &'static str,
    /// With `{n}` for what tells this case's requests from all others.
    pub(super) text: String,
    pub(super) expect: Expect,
}

/// Sends bytes and reads answers until the other side closes or has nothing more to say; returns their statuses.
pub(super) async fn talk<S: Wire>(mut wire: S, bytes: &[u8]) -> Vec<u16> {
    let _ = wire.write_all(bytes).await;
    let _ = wire.flush().await;
    let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        // The first answer may take its time on a busy machine.
        let patience = if answer.is_empty() { super::DEADLINE } else { QUIET };
        match tokio::time::timeout(patience, wire.read(&mut chunk)).await {
            Ok(Ok(n)) if n > 0 => answer.extend_from_slice(&chunk[..n]),
            _ => break,
        }
    }
    let text = String::from_utf8_lossy(&answer);
    text.split("HTTP/1.1 ")
        .skip(1)
        .filter_map(|rest| rest.get(..3)?.parse().ok())
        .filter(|s| *s != 100)
        .collect()
}

pub(super) fn cases(host: &str) -> Vec<Case> {
    let start = format!("POST /{{n}}/first HTTP/1.1\r\nHost: {host}\r\n");
    let smuggled = format!("GET /{{n}}/smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n");
    // `{n}` is longer or shorter than what stands for it: lengths that must be right are of fixed texts.
    let mut cases = Vec::new();
    let mut case = |name, expect, text: String| cases.push(Case { name, text, expect });

    // Lengths.
    for (name, lengths) in [
        ("two lengths", "Content-Length: 0\r\nContent-Length: 44"),
        ("a list of lengths", "Content-Length: 0, 44"),
        ("a list of equal lengths", "Content-Length: 5, 5"),
        ("a signed length", "Content-Length: +44"),
        ("a negative length", "Content-Length: -1"),
        ("a hexadecimal length", "Content-Length: 0x2c"),
        ("a length with a space", "Content-Length: 4 4"),
        ("no number for a length", "Content-Length: "),
        ("a length beyond all numbers", "Content-Length: 18446744073709551660"),
        ("space before the colon", "Content-Length : 44"),
        ("tab before the colon", "Content-Length\t: 44"),
        ("obs-fold of a length", "Content-Length:\r\n 44"),
        ("NUL in a value", "X: a\0b\r\nContent-Length: 44"),
        ("CR in a value", "X: a\rContent-Length: 0\r\nContent-Length: 44"),
        ("a line without a colon", "Content-Length\r\nContent-Length: 44"),
        ("an empty name", ": x\r\nContent-Length: 44"),
        ("a name that is no token", "Content(Length): 0\r\nContent-Length: 44"),
        ("a folded first header", " X: y\r\nContent-Length: 44"),
        // Encodings.
        ("TE identity", "Transfer-Encoding: identity\r\nContent-Length: 44"),
        ("TE xchunked", "Transfer-Encoding: xchunked\r\nContent-Length: 44"),
        ("TE chunked, identity", "Transfer-Encoding: chunked, identity"),
        ("TE identity, chunked", "Transfer-Encoding: identity, chunked"),
        ("TE chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        ("TE chunked, chunked", "Transfer-Encoding: chunked, chunked"),
        ("TE chunked;q", "Transfer-Encoding: chunked;q=0"),
        ("TE quoted", "Transfer-Encoding: \"chunked\""),
        ("TE folded", "Transfer-Encoding:\r\n chunked\r\nContent-Length: 44"),
        ("TE vertical tab", "Transfer-Encoding: \x0bchunked\r\nContent-Length: 44"),
        ("TE gzip", "Transfer-Encoding: gzip, chunked"),
    ] {
        case(name, Refused, format!("{start}{lengths}\r\n\r\n0\r\n\r\n{smuggled}"));
    }

    // Chunks.
    let chunked = format!("{start}Transfer-Encoding: chunked\r\n\r\n");
    for (name, body) in [
        ("a signed chunk size", "+0\r\n\r\n"),
        ("a chunk size with 0x", "0x0\r\n\r\n"),
        ("a chunk size beyond all numbers", "fffffffffffffffff\r\n"),
        ("no chunk size", "\r\n\r\n"),
        ("a chunk longer than its size", "1\r\nZZ\r\n0\r\n\r\n"),
        ("a chunk extension with LF", "0;a\nb\r\n\r\n"),
        ("a chunk size with LF", "0\nX\r\n\r\n"),
        ("LF after a chunk", "1\r\nZ\n0\r\n\r\n"),
    ] {
        case(name, AtMostOne, format!("{chunked}{body}{smuggled}"));
    }
    case("chunk extensions", One, format!("{chunked}5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n"));
    case(
        "trailers about the message",
        One,
        format!(
            "{chunked}5\r\nhello\r\n0\r\nContent-Length: 44\r\nHost: evil\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
        ),
    );

    // Both framings: one side's first request is all that there is, or both sides see two.
    case(
        "CL.TE",
        Answered,
        format!("{start}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
    );
    case(
        "TE.CL",
        Answered,
        format!("{start}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{smuggled}"),
    );
    case(
        "TE tab",
        Answered,
        format!("{start}Transfer-Encoding:\tchunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n{smuggled}"),
    );
    case("TE in capitals", Answered, format!("{start}TRANSFER-ENCODING: CHUNKED\r\n\r\n0\r\n\r\n{smuggled}"));
    case("a pipeline", Answered, format!("{start}Content-Length: 5\r\n\r\nhello{smuggled}"));
    case(
        "underscores",
        Answered,
        format!("{start}Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello{smuggled}"),
    );
    case("equal lengths", One, format!("{start}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"));
    case(
        "Connection names the length",
        One,
        format!("{start}Connection: Content-Length\r\nContent-Length: 5\r\n\r\nhello"),
    );
    case(
        "Connection names Host",
        One,
        format!("{start}Connection: Host, X-Forwarded-For\r\nContent-Length: 5\r\n\r\nhello"),
    );
    case(
        "a body of a GET",
        One,
        format!("GET /{{n}}/first HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello"),
    );
    case("an expectation", One, format!("{start}Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"));
    case(
        "an upgrade to HTTP/2",
        One,
        format!(
            "GET /{{n}}/first HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"
        ),
    );
    case("bare LF", One, format!("GET /{{n}}/first HTTP/1.1\nHost: {host}\n\n"));
    case("empty lines first", One, format!("\r\n\r\nGET /{{n}}/first HTTP/1.1\r\nHost: {host}\r\n\r\n"));

    // Versions, request lines, hosts.
    let get = |target: &str, rest: &str| format!("GET {target} HTTP/1.1\r\n{rest}\r\n\r\n");
    let host_line = format!("Host: {host}");
    for (name, text) in [
        (
            "HTTP/1.0 chunked",
            format!(
                "POST /{{n}}/first HTTP/1.0\r\n{host_line}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
            ),
        ),
        ("HTTP/2.0", format!("GET /{{n}}/first HTTP/2.0\r\n{host_line}\r\n\r\n")),
        ("HTTP/1.2", format!("GET /{{n}}/first HTTP/1.2\r\n{host_line}\r\n\r\n")),
        ("HTTP/0.9", "GET /{n}/first\r\n\r\n".to_owned()),
        ("a space in the target", get("/{n}/first x", &host_line)),
        ("a tab in the request line", format!("GET\t/{{n}}/first\tHTTP/1.1\r\n{host_line}\r\n\r\n")),
        ("NUL in the target", get("/{n}/\0first", &host_line)),
        ("a target without a slash", get("{n}/first", &host_line)),
        ("another host", get("/{n}/first", "Host: other.tun.test")),
        ("another host in the target", get("http://other.tun.test/{n}/first", &host_line)),
        ("two hosts", get("/{n}/first", &format!("{host_line}\r\nHost: other.tun.test"))),
        ("the host twice", get("/{n}/first", &format!("{host_line}\r\n{host_line}"))),
        ("a list of hosts", get("/{n}/first", &format!("{host_line}, other.tun.test"))),
        ("a host with user information", get("/{n}/first", &format!("Host: x@{host}"))),
        ("a host with a path", get("/{n}/first", &format!("{host_line}/x"))),
        ("a host with a space", get("/{n}/first", &format!("{host_line} x"))),
        ("localhost", get("/{n}/first", "Host: localhost")),
        ("an address", get("/{n}/first", "Host: 127.0.0.1:9999")),
        ("no host", "GET /{n}/first HTTP/1.1\r\n\r\n".to_owned()),
        ("CONNECT", format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n{smuggled}")),
        ("TRACE", format!("TRACE /{{n}}/first HTTP/1.1\r\n{host_line}\r\n\r\n{smuggled}")),
    ] {
        case(name, Refused, text);
    }
    for (name, text) in [
        ("the absolute form", get(&format!("http://{host}/{{n}}/first"), &host_line)),
        ("capitals and a dot", get("/{n}/first", &format!("Host: {}.", host.to_uppercase()))),
        ("a port", get("/{n}/first", &format!("{host_line}:8443"))),
    ] {
        case(name, One, text);
    }
    cases
}
