//! Reads a visitor's ClientHello without answering it, whatever its segmentation (RFC 8446, section 5.1).

use std::io::{self, IoSlice, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tunnler_protocol::HostName;

/// Most bytes a visitor may send before its ClientHello is complete.
const MOST: usize = 64 * 1024;

/// A ClientHello, with every byte that was read to get it.
#[derive(Debug)]
pub struct Hello {
    /// What was read, to be passed on unchanged.
    pub raw: Vec<u8>,
    /// The host it names, if that is one.
    pub host: Option<HostName>,
}

/// Why there is no ClientHello.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// The connection failed or ended.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Not TLS, or nothing a TLS server could make sense of.
    #[error("not a TLS ClientHello")]
    NotTls,
    /// Longer than 64 KiB.
    #[error("ClientHello longer than 64 KiB")]
    TooLong,
}

/// Reads until the ClientHello is complete. The caller sets the deadline.
pub async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Hello, HelloError> {
    let mut acceptor = Acceptor::default();
    let mut raw = Vec::with_capacity(2048);
    loop {
        let before = raw.len();
        if before >= MOST {
            return Err(HelloError::TooLong);
        }
        if io.read_buf(&mut raw).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let mut new = &raw[before..];
        while !new.is_empty() {
            acceptor.read_tls(&mut new as &mut dyn Read).map_err(|_| HelloError::TooLong)?;
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    let host = accepted.client_hello().server_name().and_then(|name| name.parse().ok());
                    return Ok(Hello { raw, host });
                }
                Ok(None) => {}
                Err(_) => return Err(HelloError::NotTls),
            }
        }
    }
}

/// A connection from which some bytes were read already: gives them again first.
#[derive(Debug)]
pub struct Replayed<T = TcpStream> {
    raw: Vec<u8>,
    given: usize,
    io: T,
}

impl<T> Replayed<T> {
    /// `raw` comes before what `io` still brings.
    pub fn new(raw: Vec<u8>, io: T) -> Self {
        Self { raw, given: 0, io }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Replayed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.raw[self.given..];
        if rest.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..n]);
        self.given += n;
        if self.given == self.raw.len() {
            (self.raw, self.given) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Replayed<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::io::AsyncWriteExt;

    fn client_hello(host: &str) -> Vec<u8> {
        tunnler_transport::tls::install_provider();
        let (config, _) = tunnler_transport::tls::client_config(None);
        let mut config = Arc::unwrap_or_clone(config);
        // Long enough for several records and segments.
        config.alpn_protocols = (0..40).map(|n| format!("protocol-{n:0100}").into_bytes()).collect();
        let name = host.to_owned().try_into().unwrap();
        let mut connection = rustls::ClientConnection::new(config.into(), name).unwrap();
        let mut bytes = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// The same handshake message in records of `len` bytes (RFC 8446, section 5.1 allows it).
    fn in_records(hello: &[u8], len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in hello[5..].chunks(len) {
            bytes.extend_from_slice(&[22, 3, 1]);
            bytes.extend_from_slice(&(part.len() as u16).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }

    async fn read_in_segments(bytes: Vec<u8>, segment: usize) -> Result<Hello, HelloError> {
        let (mut ours, mut theirs) = tokio::io::duplex(segment);
        let write = async move {
            for part in bytes.chunks(segment) {
                if theirs.write_all(part).await.is_err() {
                    break;
                }
            }
        };
        let read = async move { read(&mut ours).await };
        tokio::time::timeout(std::time::Duration::from_secs(10), async { tokio::join!(read, write).0 })
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn any_segmentation_gives_the_same_hello() {
        let whole = client_hello("mynode.tun.test");
        for (bytes, segment) in
            [(whole.clone(), 1), (whole.clone(), 700), (whole.clone(), 1 << 20), (in_records(&whole, 90), 33)]
        {
            let hello = read_in_segments(bytes.clone(), segment).await.unwrap();
            assert_eq!(hello.host, Some("mynode.tun.test".parse().unwrap()));
            assert_eq!(hello.raw, bytes[..hello.raw.len()]);
        }
    }

    #[tokio::test]
    async fn what_is_written_in_pieces_goes_out_at_once() {
        let (ours, mut theirs) = tokio::io::duplex(100);
        let mut replayed = Replayed::new(b"read".to_vec(), ours);
        let pieces = [IoSlice::new(b"two "), IoSlice::new(b"records")];
        assert!(replayed.is_write_vectored());
        assert_eq!(replayed.write_vectored(&pieces).await.unwrap(), 11);
        let mut all = [0; 11];
        theirs.read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"two records");
    }

    #[tokio::test]
    async fn case_and_trailing_dot_do_not_matter_and_an_address_is_no_host() {
        assert_eq!(
            read_in_segments(client_hello("MyNode.TUN.test"), 100).await.unwrap().host,
            Some("mynode.tun.test".parse().unwrap())
        );
        assert_eq!(read_in_segments(client_hello("127.0.0.1"), 100).await.unwrap().host, None);
    }

    #[tokio::test]
    async fn what_is_not_tls_or_never_ends_is_refused() {
        let plain = b"GET / HTTP/1.1\r\nHost: mynode.tun.test\r\n\r\n".to_vec();
        assert!(matches!(read_in_segments(plain, 10).await, Err(HelloError::NotTls)));
        // A handshake message that announces 16 MiB.
        let mut endless = vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
        endless.resize(5 + 0x4000, 0);
        let endless = endless.repeat(8);
        assert!(read_in_segments(endless, 4096).await.is_err());
        let half = client_hello("mynode.tun.test")[..50].to_vec();
        assert!(matches!(read_in_segments(half, 10).await, Err(HelloError::Io(_))));
    }

    #[tokio::test]
    async fn mutilated_hellos_are_refused_or_read_but_never_panic() {
        use rand::{Rng, SeedableRng};
        let whole = client_hello("mynode.tun.test");
        for seed in 0..500 {
            let mut random = rand::rngs::StdRng::seed_from_u64(seed);
            let mut bytes = whole.clone();
            for _ in 0..random.random_range(1..8) {
                let at = random.random_range(0..bytes.len());
                bytes[at] = random.random();
            }
            bytes.truncate(random.random_range(1..=bytes.len()));
            if let Ok(hello) = read_in_segments(bytes.clone(), 4096).await {
                assert_eq!(hello.raw, bytes[..hello.raw.len()]);
            }
        }
    }
}
