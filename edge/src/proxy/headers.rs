//! Header rules (RFC 9110, section 7.6.1; RFC 7239): what belongs to one connection is taken off, what says where a
//! request came from is taken off and set anew.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes every header that speaks about the connection it arrived on, with those that `Connection` names.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| token.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Removes what a visitor may not say: where the request came from, and headers that many frameworks read as another
/// one (`_` for `-`) or as an environment variable (`Proxy`).
pub(super) fn strip_claims(headers: &mut HeaderMap) {
    let claimed: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name.as_str())).cloned().collect();
    for name in claimed {
        headers.remove(name);
    }
}

fn is_claim(name: &str) -> bool {
    let spelt = name.replace('_', "-");
    let forwarding = spelt == "forwarded" || spelt == "x-real-ip" || spelt.starts_with("x-forwarded");
    let disguised = spelt != name
        && (matches!(spelt.as_str(), "host" | "content-length" | "expect")
            || HOP_BY_HOP.iter().any(|hop| hop.as_str() == spelt));
    forwarding || disguised || name == "proxy"
}

/// Says where the request came from; `host` is the host and port that the visitor asked for.
pub(super) fn set_forwarding(headers: &mut HeaderMap, visitor: SocketAddr, host: &HeaderValue) {
    let address = visitor.ip().to_canonical();
    let node = match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("\"[{v6}]\""),
    };
    let host_text = host.to_str().unwrap_or_default();
    let forwarded = format!("for={node};host=\"{host_text}\";proto=https");
    let plain = HeaderValue::from_str(&address.to_string()).expect("an address is visible ASCII");
    headers.insert(header::FORWARDED, HeaderValue::from_str(&forwarded).expect("checked parts"));
    headers.insert(X_FORWARDED_FOR, plain.clone());
    headers.insert(X_REAL_IP, plain);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    headers.insert(X_FORWARDED_HOST, host.clone());
}

/// HTTP/2 may split `Cookie` into several fields; HTTP/1.1 wants one (RFC 9113, section 8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(b"; ".as_slice()))
    {
        headers.insert(header::COOKIE, joined);
    }
}

/// Whether a comma-separated header lists `token`, in any case.
pub(super) fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn connection_headers_and_what_they_name_are_removed() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("keep-alive", "5"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-secret", "1"),
            ("x-kept", "1"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
    }

    #[test]
    fn claims_are_replaced_in_every_spelling() {
        let mut headers = map(&[
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x_forwarded_for", "1.2.3.4"),
            ("x-forwarded-prefix", "/admin"),
            ("x-real-ip", "1.2.3.4"),
            ("content_length", "9"),
            ("transfer_encoding", "chunked"),
            ("proxy", "http://evil"),
            ("my_header", "kept"),
        ]);
        strip_claims(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["my_header"]);
        let host = HeaderValue::from_static("a.tun.test:8443");
        set_forwarding(&mut headers, "[2001:db8::1]:7".parse().unwrap(), &host);
        assert_eq!(headers[header::FORWARDED], "for=\"[2001:db8::1]\";host=\"a.tun.test:8443\";proto=https");
        assert_eq!(headers[X_FORWARDED_FOR], "2001:db8::1");
        assert_eq!(headers[X_FORWARDED_HOST], "a.tun.test:8443");
    }

    #[test]
    fn split_cookies_are_joined() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1"));
        headers.append(header::COOKIE, HeaderValue::from_static("b=2"));
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }
}
