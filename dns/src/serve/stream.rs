//! Streams: TCP (RFC 7766), TLS (RFC 7858) and HTTP share one accept loop with deadlines, and caps per network and in
//! total. On TCP and TLS one query is answered at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tunnler_protocol::Prefix;

use super::limit::Slots;
use super::tls::Certificate;
use super::{Responder, doh, network};

/// Connections at once, and of one network.
const MOST: usize = 1024;
const MOST_PER_PREFIX: usize = 64;
/// From one query to the next, and to read or write one message.
const IDLE: Duration = Duration::from_secs(10);
/// A connection's whole life.
const LIFE: Duration = Duration::from_secs(120);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// A query is short; who announces more is not asking one.
const MAX_QUERY: usize = 4096;

/// What is spoken on a stream.
#[derive(Clone, Debug)]
pub(super) enum Protocol {
    /// DNS over TCP.
    Tcp,
    /// DNS over TLS.
    Dot(Arc<Certificate>),
    /// DNS over HTTPS, with more routes on the same host.
    Doh(Arc<Certificate>, Router),
    /// The same without TLS.
    Http(Router),
}

/// Binds `address` for streams. IPv6 only means IPv6: the other family has an address of its own.
pub(super) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until `stop`; open connections end with it.
pub(super) async fn accept(
    listener: TcpListener,
    protocol: Protocol,
    responder: Arc<Responder>,
    stop: CancellationToken,
) {
    let slots = Slots::new(MOST, MOST_PER_PREFIX);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let prefix = network(peer.ip());
                    let Some(slot) = slots.take(prefix) else {
                        metrics::counter!("tunnler_dns_tcp_refused_total").increment(1);
                        continue;
                    };
                    let (protocol, responder) = (protocol.clone(), responder.clone());
                    connections.spawn(async move {
                        let _slot = slot;
                        let _ = timeout(LIFE, speak(protocol, stream, responder, peer)).await;
                    });
                }
                // Out of descriptors, most likely: wait for some to come back.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
}

async fn speak(
    protocol: Protocol,
    stream: TcpStream,
    responder: Arc<Responder>,
    peer: SocketAddr,
) -> std::io::Result<()> {
    let prefix = network(peer.ip());
    let _ = stream.set_nodelay(true);
    match protocol {
        Protocol::Tcp => converse(stream, &responder, prefix).await,
        Protocol::Dot(certificate) => {
            let stream = timeout(IDLE, certificate.acceptor().accept(stream)).await??;
            converse(stream, &responder, prefix).await
        }
        Protocol::Doh(certificate, beside) => {
            let stream = timeout(IDLE, certificate.acceptor().accept(stream)).await??;
            doh::converse(stream, responder, peer, beside).await;
            Ok(())
        }
        Protocol::Http(beside) => {
            doh::converse(stream, responder, peer, beside).await;
            Ok(())
        }
    }
}

/// Answers queries until the other end is done, too slow, or not speaking DNS.
async fn converse<S>(mut stream: S, responder: &Responder, prefix: Prefix) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = vec![0; 512];
    loop {
        let length = usize::from(timeout(IDLE, stream.read_u16()).await??);
        if length > MAX_QUERY {
            return Ok(());
        }
        buffer.resize(length, 0);
        timeout(IDLE, stream.read_exact(&mut buffer)).await??;
        let Some(answer) = responder.stream(&buffer, prefix) else { return Ok(()) };
        let mut framed = Vec::with_capacity(answer.len() + 2);
        framed.extend_from_slice(&u16::try_from(answer.len()).unwrap_or(0).to_be_bytes());
        framed.extend_from_slice(&answer);
        timeout(IDLE, async {
            stream.write_all(&framed).await?;
            stream.flush().await
        })
        .await??;
    }
}
