//! Where a local service listens, as people write it.

use std::fmt;
use std::str::FromStr;

use http::uri::{Scheme, Uri};

use crate::tls::Protocol;

/// Where a local service listens: `8080`, `host:port`, or an `http`, `https` or `h2c` (HTTP/2 without TLS, what gRPC
/// servers speak) URL without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(super) scheme: Scheme,
    pub(super) host: String,
    pub(super) port: u16,
}

/// A text that is not a [`Target`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a port, host:port or http(s)://host[:port] or h2c://host:port URL")]
pub struct TargetError;

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let is_port = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let url = if is_port {
            format!("http://127.0.0.1:{text}")
        } else if text.contains("://") {
            text.to_owned()
        } else if text.contains(':') {
            format!("http://{text}")
        } else {
            return Err(TargetError);
        };
        let uri: Uri = url.parse().map_err(|_| TargetError)?;
        let scheme = uri.scheme().cloned().ok_or(TargetError)?;
        let default_port = match scheme.as_str() {
            "http" | "h2c" => 80,
            "https" => 443,
            _ => return Err(TargetError),
        };
        let authority = uri.authority().ok_or(TargetError)?;
        let has_port = authority.as_str().rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        let port = match (authority.port_u16(), has_port) {
            (Some(port), _) => port,
            (None, false) => default_port,
            (None, true) => return Err(TargetError),
        };
        let plain = authority.as_str().contains('@') || authority.host().is_empty() || port == 0;
        if plain || uri.path_and_query().is_some_and(|path| path != "/") {
            return Err(TargetError);
        }
        Ok(Self { scheme, host: authority.host().to_owned(), port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

impl Target {
    /// The other end of connections that somebody else makes; the name is only seen in logs.
    pub(super) fn other_end(protocol: Protocol) -> Self {
        let scheme = if protocol == Protocol::Http2 { "h2c" } else { "http" };
        format!("{scheme}://session").parse().expect("a URL")
    }

    pub(super) fn speaks_http2(&self) -> bool {
        self.scheme.as_str() == "h2c"
    }

    pub(super) fn socket(&self) -> (&str, u16) {
        (self.host.trim_start_matches('[').trim_end_matches(']'), self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (text, means) in [
            ("8080", "http://127.0.0.1:8080"),
            ("localhost:3000", "http://localhost:3000"),
            ("https://127.0.0.1:9998", "https://127.0.0.1:9998"),
            ("http://nas.lan/", "http://nas.lan:80"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("h2c://localhost:50051", "h2c://localhost:50051"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), means, "{text}");
        }
        for bad in
            ["", "0", "99999", "nas", "ftp://x", "http://u@x", "http://x/path", "http://x:", ":80", "a b:1"]
        {
            assert_eq!(bad.parse::<Target>(), Err(TargetError), "{bad}");
        }
    }
}
