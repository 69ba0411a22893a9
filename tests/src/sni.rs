//! TLS for tools that have none, or name no host in it: what comes in at one address goes out over TLS for one host.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::visitor::Tls;

/// Bytes that wait here in each direction, beside those in the smallest of sockets' buffers: who reads slowly there is
/// slow here.
const BUFFER: usize = 1024;

/// The way in; it ends with this value, and so does all that came through.
#[derive(Debug)]
pub struct Wrapper {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Wrapper {
    /// Listens on a free port of `source`, which the connections to `target` come from, too.
    pub async fn start(source: IpAddr, target: SocketAddr, host: &str, tls: Tls) -> Result<Self> {
        let listener = TcpListener::bind((source, 0)).await?;
        socket2::SockRef::from(&listener).set_send_buffer_size(BUFFER)?;
        let (address, host) = (listener.local_addr()?, host.to_owned());
        let task = tokio::spawn(async move {
            let mut passing = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((inner, _)) = accepted else { return };
                        let (tls, host) = (tls.clone(), host.clone());
                        passing.spawn(async move { pass(inner, source, target, &host, &tls).await });
                    }
                    Some(_) = passing.join_next() => {}
                }
            }
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Wrapper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut inner: TcpStream, source: IpAddr, target: SocketAddr, host: &str, tls: &Tls) -> Result<()> {
    let mut outer = tls.connect_from(source, target, host).await?;
    socket2::SockRef::from(outer.get_ref().0).set_recv_buffer_size(BUFFER)?;
    tokio::io::copy_bidirectional_with_sizes(&mut inner, &mut outer, BUFFER, BUFFER).await?;
    Ok(())
}
