//! A tunnel that is nothing but its core: one TLS connection, a WebSocket, yamux, and a copy loop for each visitor, with the
//! libraries that sessions use. No authority, no limits, no reset that is told from an end, no signs of life. Beside it one sees
//! what a session adds, and beside it and rathole what this machine allows.

use std::future::{poll_fn, ready};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;

use anyhow::Result;
use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, BufWriter, copy_bidirectional_with_sizes, join};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config, client_async_with_config};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use super::peers::HOST;

/// Of copy buffers and frames.
const CHUNK: usize = 64 * 1024;

/// The end where visitors come in. Waits for its client, then serves whoever comes to `visitors`.
pub async fn server(visitors: TcpListener, control: TcpListener, chain: &Path, key: &Path) -> Result<()> {
    let chain = CertificateDer::pem_file_iter(chain)?.collect::<Result<_, _>>()?;
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    let (tcp, _) = control.accept().await?;
    tcp.set_nodelay(true)?;
    let tls = TlsAcceptor::from(Arc::new(config)).accept(tcp).await?;
    let websocket = accept_async_with_config(tls, Some(settings())).await?;
    let mut connection = yamux::Connection::new(bytes_of(websocket).compat(), streams(), yamux::Mode::Server);
    let (arrive, mut arrived) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let (tcp, _) = visitors.accept().await?;
            tcp.set_nodelay(true)?;
            arrive.send(tcp).await?;
        }
        #[expect(unreachable_code, reason = "names the error's type")]
        anyhow::Ok(())
    });
    poll_fn(|cx| {
        while let Poll::Ready(Some(tcp)) = arrived.poll_recv(cx) {
            if let Poll::Ready(stream) = connection.poll_new_outbound(cx)? {
                tokio::spawn(copy(tcp, stream));
            }
        }
        while let Poll::Ready(next) = connection.poll_next_inbound(cx)? {
            if next.is_none() {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    })
    .await
}

/// The end where the upstream is.
pub async fn client(control: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let tcp = TcpStream::connect(control).await?;
    tcp.set_nodelay(true)?;
    let connector = TlsConnector::from(tunnler_transport::tls::client_config(None).0);
    let tls = connector.connect(HOST.try_into()?, tcp).await?;
    let (websocket, _) = client_async_with_config(format!("ws://{HOST}/"), tls, Some(settings())).await?;
    let mut connection = yamux::Connection::new(bytes_of(websocket).compat(), streams(), yamux::Mode::Client);
    while let Some(stream) = poll_fn(|cx| connection.poll_next_inbound(cx)).await {
        let stream = stream?;
        tokio::spawn(async move {
            let tcp = TcpStream::connect(upstream).await?;
            tcp.set_nodelay(true)?;
            copy(tcp, stream).await
        });
    }
    Ok(())
}

async fn copy(mut tcp: TcpStream, stream: yamux::Stream) -> Result<()> {
    copy_bidirectional_with_sizes(&mut tcp, &mut stream.compat(), CHUNK, CHUNK).await?;
    Ok(())
}

fn settings() -> WebSocketConfig {
    WebSocketConfig::default().write_buffer_size(2 * CHUNK).max_write_buffer_size(4 << 20)
}

fn streams() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_split_send_size(CHUNK);
    config
}

/// The binary messages of a WebSocket as one byte stream.
fn bytes_of<S>(websocket: WebSocketStream<S>) -> impl AsyncRead + AsyncWrite + Unpin
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, stream) = websocket.split();
    let payload = |message| match message {
        Message::Binary(bytes) => ready(Ok(Some(bytes))),
        _ => ready(Ok(None)),
    };
    let reader = StreamReader::new(stream.try_filter_map(payload).map_err(io::Error::other));
    let messages = sink.with(|bytes: Bytes| ready(Ok::<_, Error>(Message::Binary(bytes))));
    let writer = SinkWriter::new(CopyToBytes::new(messages.sink_map_err(io::Error::other)));
    join(reader, BufWriter::with_capacity(CHUNK, writer))
}
