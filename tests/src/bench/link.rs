//! A long cable: a TCP proxy that hands on every byte after a fixed time. The kernels of small test machines lack netem.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Chunks under way in each direction, of at most 64 KiB: bounds the cable to well above what anybody sends through it.
const UNDER_WAY: usize = 2048;
const CHUNK: usize = 64 * 1024;

/// Carries connections from `listener` to `to`, each byte `delay` later, for ever.
pub async fn carry(listener: TcpListener, to: SocketAddr, delay: Duration) -> Result<()> {
    loop {
        let (near, _) = listener.accept().await?;
        let far = TcpStream::connect(to).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        tokio::spawn(one_way(near_read, far_write, delay));
        tokio::spawn(one_way(far_read, near_write, delay));
    }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
) -> Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Bytes)>(UNDER_WAY);
    let read = tokio::spawn(async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            match from.read_buf(&mut buffer).await {
                Ok(n) if n > 0 => {}
                _ => return,
            }
            if sender.send((Instant::now() + delay, buffer.split().freeze())).await.is_err() {
                return;
            }
        }
    });
    while let Some((due, bytes)) = receiver.recv().await {
        sleep_until(due).await;
        to.write_all(&bytes).await?;
    }
    to.shutdown().await?;
    read.await?;
    Ok(())
}
