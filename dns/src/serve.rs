//! Sockets: UDP workers and a TCP accept loop with caps. Every packet passes header checks and the rate limit before
//! it is parsed, and none can take the server down.

mod doh;
pub mod limit;
pub mod responder;
mod stream;
pub(crate) mod tally;
pub mod tls;
mod udp;

pub use responder::Responder;

use self::stream::Protocol;
use self::tls::{Certificate, CertificateError, CertificateFiles};

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tunnler_protocol::prefix::{self, Prefix};

/// The network that shares one rate limit and one cap with `address`: a /24 or a /56.
pub fn network(address: IpAddr) -> Prefix {
    Prefix::of(address, prefix::NETWORK)
}

/// How many free TCP ports are tried until UDP has the same one free.
const PORT_ATTEMPTS: usize = 16;

/// One address served over UDP and TCP.
#[derive(Debug)]
pub struct Bound {
    address: SocketAddr,
    tcp: TcpListener,
    udp: Vec<std::net::UdpSocket>,
}

/// An address cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", hint(source))]
pub struct BindError {
    address: SocketAddr,
    source: std::io::Error,
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "; another server has that port, stop it or choose another address",
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        std::io::ErrorKind::AddrNotAvailable => "; that address is not this host's",
        _ => "",
    }
}

impl Bound {
    /// Binds `address` for both transports, UDP once per worker. With port 0 both get the same free port.
    pub async fn bind(address: SocketAddr, workers: usize) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        for _ in 0..PORT_ATTEMPTS {
            // TCP first: it does not share its port, so that a second server on it is an error.
            let tcp = stream::listen(address).map_err(failed)?;
            let real = tcp.local_addr().map_err(failed)?;
            match (0..workers.max(1)).map(|_| udp::bind(real)).collect() {
                Ok(udp) => return Ok(Self { address: real, tcp, udp }),
                Err(error) if address.port() != 0 => return Err(failed(error)),
                // Somebody has the UDP port of this number: try another one.
                Err(_) => {}
            }
        }
        Err(failed(std::io::ErrorKind::AddrInUse.into()))
    }

    /// The address with its real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`; the tasks are `tasks`' to wait for.
    pub fn serve(self, responder: &Arc<Responder>, tasks: &TaskTracker, stop: &CancellationToken) {
        let (signing, jobs) = sync_channel(udp::SIGNING_QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        for socket in self.udp {
            let (answering, stop, signing) = (responder.clone(), stop.clone(), signing.clone());
            let socket = Arc::new(socket);
            tasks.spawn_blocking(move || udp::work(&socket, &answering, &signing, &stop));
            let (answering, jobs) = (responder.clone(), jobs.clone());
            tasks.spawn_blocking(move || udp::sign(&jobs, &answering));
        }
        tasks.spawn(stream::accept(self.tcp, Protocol::Tcp, responder.clone(), stop.clone()));
    }
}

/// One address served over streams only: TLS or HTTP.
#[derive(Debug)]
pub struct StreamListener {
    address: SocketAddr,
    listener: TcpListener,
    protocol: Protocol,
}

/// An address for TLS or HTTP cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl StreamListener {
    /// DNS over TLS (RFC 7858) at `address`.
    pub fn dot(address: SocketAddr, files: CertificateFiles) -> Result<Self, StreamError> {
        let certificate = Arc::new(Certificate::load(files, &["dot"])?);
        Self::bind(address, Protocol::Dot(certificate))
    }

    /// DNS over HTTPS (RFC 8484) at `address`, with the routes of `beside` on the same host.
    pub fn doh(address: SocketAddr, files: CertificateFiles, beside: Router) -> Result<Self, StreamError> {
        let certificate = Arc::new(Certificate::load(files, &["h2", "http/1.1"])?);
        Self::bind(address, Protocol::Doh(certificate, beside))
    }

    /// The same without TLS, for whoever has it in front.
    pub fn http(address: SocketAddr, beside: Router) -> Result<Self, StreamError> {
        Self::bind(address, Protocol::Http(beside))
    }

    fn bind(address: SocketAddr, protocol: Protocol) -> Result<Self, StreamError> {
        let failed = |source| BindError { address, source };
        let listener = stream::listen(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { address, listener, protocol })
    }

    /// The address with its real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, following the certificate's files.
    pub fn serve(self, responder: &Arc<Responder>, tasks: &TaskTracker, stop: &CancellationToken) {
        if let Protocol::Dot(certificate) | Protocol::Doh(certificate, _) = &self.protocol {
            tasks.spawn(certificate.clone().follow(stop.clone()));
        }
        tasks.spawn(stream::accept(self.listener, self.protocol, responder.clone(), stop.clone()));
    }
}

#[cfg(test)]
mod tests;
