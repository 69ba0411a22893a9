//! Raw TCP services: a visitor's bytes go to one declared local address and back, unchanged.
//!
//! Nothing that a visitor or relay says chooses the address.

use std::io;
use std::str::FromStr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tunnler_transport::{Abort, IncomingStream, SpliceContext, SpliceEnd, splice};

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Where a TCP service listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpUpstream {
    host: String,
    port: u16,
    announce: Announce,
}

/// What the upstream is told of a visitor before its first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Announce {
    /// Nothing.
    #[default]
    Nothing,
    /// Its address as the relay claims it, in a PROXY protocol v2 header.
    ProxyV2,
}

/// A text that is not a [`TcpUpstream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not PORT or HOST:PORT")]
pub struct TcpUpstreamError;

impl FromStr for TcpUpstream {
    type Err = TcpUpstreamError;

    fn from_str(text: &str) -> Result<Self, TcpUpstreamError> {
        let (host, port) = text.rsplit_once(':').unwrap_or(("127.0.0.1", text));
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let strange = |byte: u8| byte.is_ascii_whitespace() || b"/@[]?#".contains(&byte);
        let host = bare.unwrap_or(host);
        let is_v6 = host.contains(':');
        if host.is_empty() || host.bytes().any(strange) || is_v6 != bare.is_some() {
            return Err(TcpUpstreamError);
        }
        match port.parse::<u16>() {
            Ok(number) if number > 0 && number.to_string() == port => {
                Ok(Self { host: host.to_owned(), port: number, announce: Announce::Nothing })
            }
            _ => Err(TcpUpstreamError),
        }
    }
}

impl TcpUpstream {
    /// Tells the upstream who visits.
    pub fn announcing(mut self, announce: Announce) -> Self {
        self.announce = announce;
        self
    }

    /// Serves one visitor until either side ends. An upstream that does not answer resets the visitor.
    pub(super) async fn serve(&self, visitor: IncomingStream, context: &SpliceContext) -> io::Result<()> {
        let upstream = match self.connect(&visitor).await {
            Ok(upstream) => upstream,
            Err(error) => {
                visitor.io.abort();
                return Err(error);
            }
        };
        match splice(upstream, visitor.io, context).await.end {
            SpliceEnd::Finished => Ok(()),
            SpliceEnd::Cut(error) => Err(error),
            SpliceEnd::Stalled => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn connect(&self, visitor: &IncomingStream) -> io::Result<TcpStream> {
        let connecting = async {
            let mut upstream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            upstream.set_nodelay(true)?;
            if self.announce == Announce::ProxyV2 {
                upstream.write_all(&visitor.header.announcement()).await?;
            }
            Ok(upstream)
        };
        let connected = tokio::time::timeout(CONNECT_DEADLINE, connecting).await;
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_read() {
        for (text, host, port) in [
            ("22", "127.0.0.1", 22),
            ("localhost:5432", "localhost", 5432),
            ("[::1]:22", "::1", 22),
            ("10.0.0.7:9418", "10.0.0.7", 9418),
        ] {
            let read: TcpUpstream = text.parse().unwrap();
            assert_eq!((read.host.as_str(), read.port), (host, port), "{text}");
        }
        for bad in
            ["", "0", ":22", "ssh", "::1:22", "[::1]", "a b:1", "http://x:1", "x:70000", "x:+1", "x:01"]
        {
            assert_eq!(bad.parse::<TcpUpstream>(), Err(TcpUpstreamError), "{bad}");
        }
    }
}
