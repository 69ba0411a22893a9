//! The TLS end of a visitor: handshake under a deadline, one certificate per host, nothing without SNI.
//!
//! Never falls back to a default certificate: a host that is not served here gets an alert.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, rustls};
use tunnler_protocol::HostName;

use crate::certificate::Certificates;

/// How long a visitor may take for the whole handshake.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

const VERSIONS: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

/// Ends TLS for the hosts of one [`Certificates`].
#[derive(Clone)]
pub struct TlsEnd {
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for TlsEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsEnd").finish_non_exhaustive()
    }
}

/// A visitor whose TLS ends here.
#[derive(Debug)]
pub struct TlsVisitor<S> {
    /// The bytes inside.
    pub stream: TlsStream<S>,
    /// The host the visitor named, and for which it was shown a certificate.
    pub host: HostName,
    /// What it speaks (ALPN).
    pub protocol: Protocol,
}

/// The application protocol a visitor chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, also when the visitor chose none.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Why a visitor's handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Not done within [`HANDSHAKE_DEADLINE`].
    #[error("the visitor did not finish its TLS handshake in time")]
    Deadline,
    /// The TLS library or the connection gave up.
    #[error("TLS handshake: {0}")]
    Tls(#[from] std::io::Error),
    /// A host name that cannot be served.
    #[error("the visitor named no usable host")]
    NoHost,
}

impl TlsEnd {
    /// Offers HTTP/2 and HTTP/1.1 over TLS 1.3 and 1.2 with the certificates of `certificates`.
    ///
    /// # Panics
    /// If the process's rustls provider lacks TLS 1.3 or 1.2.
    pub fn new(certificates: Arc<Certificates>) -> Self {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .expect("the provider speaks TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Tickets instead of a cache: resumption costs no memory per visitor.
        match aws_lc_rs::Ticketer::new() {
            Ok(ticketer) => config.ticketer = ticketer,
            Err(error) => tracing::warn!(%error, "no TLS session tickets"),
        }
        Self { acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    /// Performs the handshake with one visitor.
    pub async fn accept<S>(&self, stream: S) -> Result<TlsVisitor<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = tokio::time::timeout(HANDSHAKE_DEADLINE, self.acceptor.accept(stream));
        let stream = handshake.await.map_err(|_| HandshakeError::Deadline)??;
        let (_, connection) = stream.get_ref();
        let host =
            connection.server_name().and_then(|name| name.parse().ok()).ok_or(HandshakeError::NoHost)?;
        let protocol =
            if connection.alpn_protocol() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
        Ok(TlsVisitor { stream, host, protocol })
    }
}

/// The provider that this process installed, or aws-lc-rs.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()))
}
