//! What a visitor's request must look like before anything is done with it (RFC 9110, section 7.2; RFC 9112,
//! sections 3.2 and 6.3).
//!
//! One place decides which host and which path a request is for, so that no later step can decide otherwise.

use h2::ext::Protocol;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{Method, Request, Version};

use super::body::{Inbound, Source};
use super::hints::Hints;
use super::refusal::Refusal;
use super::{Visitor, headers};

/// A request that is understood: one host, which is the visitor's, one path, one framing. Its headers say nothing any
/// more of the connection that it came on, and the truth about where it came from.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) parts: Parts,
    pub(super) body: Source,
    /// Host and port as the upstream shall see them: lower case, without a trailing dot.
    pub(super) host: HeaderValue,
    pub(super) path: PathAndQuery,
    pub(super) wish: Wish,
    /// Whether the visitor takes trailers.
    pub(super) trailers: bool,
    /// Most bytes of the body that are passed on.
    pub(super) most: u64,
    /// Takes interim answers.
    pub(super) hints: Hints,
}

/// What shall become of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing but an answer.
    Answer,
    /// A WebSocket, by upgrade of an HTTP/1.1 connection (RFC 6455, section 4.1).
    Upgrade,
    /// A WebSocket in an HTTP/2 stream (RFC 8441, section 4).
    Tunnel,
}

impl Checked {
    pub(super) fn new(request: Request<Inbound>, hints: Hints, visitor: &Visitor) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let wish = Wish::of(&parts)?;
        if parts.headers.contains_key(header::CONTENT_LENGTH)
            && parts.headers.contains_key(header::TRANSFER_ENCODING)
        {
            return Err(Refusal::Malformed("both Content-Length and Transfer-Encoding"));
        }
        if parts.headers.get_all(header::TRANSFER_ENCODING).iter().any(|value| !is_chunked(value)) {
            return Err(Refusal::Malformed("a Transfer-Encoding other than chunked"));
        }
        let (name, host) = requested_host(&parts)?;
        if name != visitor.host.as_str() {
            return Err(Refusal::Misdirected);
        }
        let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        if !path.as_str().starts_with('/') {
            return Err(Refusal::Malformed("a target that is not a path"));
        }
        let trailers = headers::lists(&parts.headers, &header::TE, "trailers");
        headers::strip_hop_by_hop(&mut parts.headers);
        headers::strip_claims(&mut parts.headers);
        headers::join_cookies(&mut parts.headers);
        // The edge itself answers `100-continue` once the upstream takes the body.
        parts.headers.remove(header::EXPECT);
        headers::set_forwarding(&mut parts.headers, visitor.address, &host);
        Ok(Self { parts, body: Source::Streamed(body), host, path, wish, trailers, most: u64::MAX, hints })
    }

    /// The same request with another body.
    pub(super) fn head(&self, body: Source) -> Self {
        Self {
            parts: self.parts.clone(),
            body,
            host: self.host.clone(),
            path: self.path.clone(),
            hints: self.hints.clone(),
            ..*self
        }
    }

    pub(super) fn path(&self) -> &str {
        self.path.path()
    }

    pub(super) fn method(&self) -> &Method {
        &self.parts.method
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The length that the visitor announced, if any.
    pub(super) fn announced(&self) -> Option<u64> {
        self.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }
}

impl Wish {
    fn of(parts: &Parts) -> Result<Self, Refusal> {
        match (&parts.method, parts.extensions.get::<Protocol>()) {
            (&Method::CONNECT, Some(protocol)) if protocol.as_str() == "websocket" => Ok(Self::Tunnel),
            (&Method::CONNECT | &Method::TRACE, _) => Err(Refusal::Method),
            (&Method::GET, _) if is_upgrade(parts) => Ok(Self::Upgrade),
            _ => Ok(Self::Answer),
        }
    }
}

fn is_upgrade(parts: &Parts) -> bool {
    parts.version == Version::HTTP_11
        && headers::lists(&parts.headers, &header::CONNECTION, "upgrade")
        && names_websocket(&parts.headers)
}

/// Whether `Upgrade` names WebSocket and nothing else.
pub(super) fn names_websocket(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::UPGRADE).iter();
    let websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    values.next().is_some_and(websocket) && values.next().is_none()
}

fn is_chunked(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"chunked")
}

/// The one host a request names, alone and with its port.
fn requested_host(parts: &Parts) -> Result<(String, HeaderValue), Refusal> {
    let mut fields = parts.headers.get_all(header::HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Refusal::Malformed("more than one Host"));
    }
    let field = match field {
        Some(value) => Some(value.to_str().map_err(|_| Refusal::Malformed("an unreadable Host"))?),
        None => None,
    };
    let target = parts.uri.authority().map(Authority::as_str);
    let named: Vec<(String, Option<u16>)> =
        [field, target].into_iter().flatten().map(normalise).collect::<Result<_, _>>()?;
    let mut named = named.into_iter();
    let (name, port) = named.next().ok_or(Refusal::Malformed("no Host"))?;
    if named.any(|(other, _)| other != name) {
        return Err(Refusal::Malformed("Host and target name different hosts"));
    }
    let text = port.map_or_else(|| name.clone(), |port| format!("{name}:{port}"));
    let value = HeaderValue::from_str(&text).map_err(|_| Refusal::Malformed("an unreadable Host"))?;
    Ok((name, value))
}

/// Lower case, no trailing dot; a port is a number, and user information is nothing a visitor has to send.
fn normalise(authority: &str) -> Result<(String, Option<u16>), Refusal> {
    if authority.contains('@') {
        return Err(Refusal::Malformed("user information in the host"));
    }
    let (name, port) = match authority.split_once(':') {
        None => (authority, None),
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (name, Some(port.parse().map_err(|_| Refusal::Malformed("an impossible port"))?))
        }
        Some(_) => return Err(Refusal::Malformed("an impossible port")),
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    if name.is_empty() || !name.bytes().all(is_name_byte) {
        return Err(Refusal::Malformed("an impossible host name"));
    }
    Ok((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_normalised_and_oddities_refused() {
        let ok = |text: &str| normalise(text).unwrap();
        assert_eq!(ok("MyNode.Tun.Test."), ("mynode.tun.test".into(), None));
        assert_eq!(ok("a.test:8443"), ("a.test".into(), Some(8443)));
        for bad in ["", ".", "user@a.test", "a.test:", "a.test:x", "a.test:99999", "a b", "a/b", "[::1]:443"]
        {
            assert!(matches!(normalise(bad), Err(Refusal::Malformed(_))), "{bad}");
        }
    }
}
