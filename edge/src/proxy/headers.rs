//! Header rules (RFC 9110, section 7.6.1; RFC 7239): what belongs to one connection is taken off, what says where a
//! request came from is taken off and set anew.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use tunnler_protocol::HostName;

const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_URL: HeaderName = HeaderName::from_static("x-forwarded-url");
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

/// Whether a header belongs to the connection it arrived on.
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

/// Whether a header, in any spelling, is one that only the edge may set; `X-Original-URL` and `X-Rewrite-URL` are in some
/// frameworks the path that counts.
pub(super) fn is_claim(name: &str) -> bool {
    const CLAIMS: [&str; 5] =
        ["forwarded", "x-real-ip", "x-original-url", "x-rewrite-url", "x-original-host"];
    let spelt = name.replace('_', "-");
    let forwarding = CLAIMS.contains(&spelt.as_str()) || spelt.starts_with("x-forwarded");
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

/// Says which URL the visitor asked for, whole.
pub(super) fn set_full_url(headers: &mut HeaderMap, host: &HeaderValue, path: &PathAndQuery) {
    let url = format!("https://{}{path}", host.to_str().unwrap_or_default());
    if let Ok(url) = HeaderValue::from_str(&url) {
        headers.insert(X_FORWARDED_URL, url);
    }
}

/// Removes cookies whose `Domain` is the zone or above it: they would reach every other name of the zone.
pub(super) fn strip_shared_cookies(headers: &mut HeaderMap, zone: &HostName) {
    let header::Entry::Occupied(cookies) = headers.entry(header::SET_COOKIE) else { return };
    let all: Vec<HeaderValue> = cookies.remove_entry_mult().1.collect();
    for cookie in all.into_iter().filter(|cookie| !is_shared(cookie, zone)) {
        headers.append(header::SET_COOKIE, cookie);
    }
}

/// Browsers take the last `Domain` attribute and ignore one leading dot (RFC 6265, section 5.2.3).
fn is_shared(cookie: &HeaderValue, zone: &HostName) -> bool {
    let text = String::from_utf8_lossy(cookie.as_bytes());
    text.split(';').skip(1).filter_map(|attribute| attribute.split_once('=')).any(|(name, value)| {
        let domain =
            value.trim().trim_matches('"').trim_start_matches('.').trim_end_matches('.').to_ascii_lowercase();
        let above = zone.as_str().strip_suffix(domain.as_str());
        name.trim().eq_ignore_ascii_case("domain")
            && !domain.is_empty()
            && above.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
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
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
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
    fn cookies_for_the_whole_zone_are_taken_off() {
        let zone: HostName = "tun.example.test".parse().unwrap();
        for (cookie, kept) in [
            ("a=1; Path=/", true),
            ("a=Domain=tun.example.test", true),
            ("a=1; Domain=mynode.tun.example.test", true),
            ("a=1; Domain=app.mynode.tun.example.test", true),
            ("a=1; Domain=un.example.test", true),
            ("a=1; Domain=", true),
            ("a=1; Domain=tun.example.test", false),
            ("a=1; domain=.TUN.example.test.; Secure", false),
            ("a=1;DOMAIN = example.test", false),
            ("a=1; Domain=mynode.tun.example.test; Domain=test", false),
            ("a=1; Domain=\"tun.example.test\"", false),
        ] {
            let mut headers = map(&[("set-cookie", "first=1"), ("set-cookie", cookie), ("x-b", "1")]);
            strip_shared_cookies(&mut headers, &zone);
            assert_eq!(
                headers.get_all(header::SET_COOKIE).iter().count(),
                if kept { 2 } else { 1 },
                "{cookie}"
            );
            assert_eq!(headers[header::SET_COOKIE], "first=1");
        }
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
