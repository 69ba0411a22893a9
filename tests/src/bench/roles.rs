//! Processes of a measurement that are not somebody's product: the server of big bodies, and the client's TLS end and
//! proxy without a tunnel.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tunnler_edge::proxy::{self, Backend, HostHeader, Upstream, UpstreamTls};
use tunnler_edge::tls::TlsEnd;
use tunnler_edge::{Certificate, Certificates, Site, Visitor};

use super::visits::BULK;

/// Serves `GET` with a body of [`BULK`] bytes and swallows the body of `PUT`, for ever.
pub async fn bodies(listener: TcpListener) -> Result<()> {
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        tokio::spawn(async move { serve_bodies(tcp).await });
    }
}

async fn serve_bodies(mut tcp: TcpStream) -> Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let zeros = vec![0; 256 * 1024];
    loop {
        let mut head = Vec::with_capacity(4096);
        let end = loop {
            if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if tcp.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        };
        let text = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
        if text.starts_with("get") {
            tcp.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {BULK}\r\n\r\n").as_bytes()).await?;
            for _ in 0..BULK / zeros.len() {
                tcp.write_all(&zeros).await?;
            }
            continue;
        }
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("a body without length")?.trim().parse()?;
        let mut left = length - (head.len() - end);
        while left > 0 {
            let n = tcp.read(&mut buffer).await?;
            ensure!(n > 0, "the body broke off");
            left -= n;
        }
        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
    }
}

/// The client's TLS end and proxy behind a plain listener: what it costs without a tunnel.
pub async fn edge(listener: TcpListener, chain: &Path, key: &Path, upstream: &str) -> Result<()> {
    let certificates = Arc::new(Certificates::default());
    certificates.install(&Certificate::from_pem(&std::fs::read(chain)?, &std::fs::read(key)?)?);
    let end = TlsEnd::new(certificates);
    let upstream = Upstream::new(upstream.parse()?, &UpstreamTls::AnyCertificate, HostHeader::Keep);
    let site = Arc::new(Site::new(Backend::Upstream(upstream)));
    loop {
        let (tcp, address) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let (end, site) = (end.clone(), site.clone());
        tokio::spawn(async move {
            let visitor = end.accept(tcp).await?;
            let seen = Visitor { address, host: visitor.host, protocol: visitor.protocol };
            proxy::serve(visitor.stream, seen, site, CancellationToken::new()).await?;
            anyhow::Ok(())
        });
    }
}
