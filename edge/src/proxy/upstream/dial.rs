//! Connections to one declared address, with TLS or without. What a request says has no influence here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::{Scheme, Uri};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, rustls};

use super::{Target, UpstreamTls};
use crate::tls::provider;

/// Opens connections to one target; the URI of a request has no say in it.
#[derive(Clone)]
pub(super) struct Dial {
    target: Arc<Target>,
    tls: Option<TlsConnector>,
    deadline: Duration,
}

impl Dial {
    pub(super) fn new(target: Target, tls: &UpstreamTls, deadline: Duration) -> Self {
        let tls = (target.scheme == Scheme::HTTPS).then(|| TlsConnector::from(Arc::new(client_config(tls))));
        Self { target: Arc::new(target), tls, deadline }
    }

    async fn connect(self) -> std::io::Result<TokioIo<UpstreamStream>> {
        let connecting = async {
            let tcp = TcpStream::connect(self.target.socket()).await?;
            tcp.set_nodelay(true)?;
            let Some(tls) = self.tls else { return Ok(UpstreamStream(Box::pin(tcp))) };
            let name =
                ServerName::try_from(self.target.socket().0.to_owned()).map_err(std::io::Error::other)?;
            Ok(UpstreamStream(Box::pin(tls.connect(name, tcp).await?)))
        };
        let connected = tokio::time::timeout(self.deadline, connecting).await;
        connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map(TokioIo::new)
    }
}

impl tower::Service<Uri> for Dial {
    type Response = TokioIo<UpstreamStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// A connection to the upstream, with TLS or without.
pub(super) struct UpstreamStream(Pin<Box<dyn Stream>>);

impl UpstreamStream {
    pub(super) fn new(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        Self(Box::pin(io))
    }
}

impl Connection for UpstreamStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.0.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.0.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.0.as_mut().poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

pub(crate) fn client_config(tls: &UpstreamTls) -> ClientConfig {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider speaks TLS 1.2 and 1.3");
    let pin = match tls {
        UpstreamTls::Roots(roots) => {
            return builder.with_root_certificates(roots.clone()).with_no_client_auth();
        }
        UpstreamTls::AnyCertificate => None,
        UpstreamTls::Pinned(digest) => Some(*digest),
    };
    let verifier = Arc::new(LocalVerifier { pin, algorithms });
    builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
}

/// Accepts one pinned leaf, or any; the handshake's signature is checked in both cases.
#[derive(Debug)]
struct LocalVerifier {
    pin: Option<[u8; 32]>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for LocalVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let fits = self.pin.is_none_or(|pin| {
            use sha2::Digest;
            sha2::Sha256::digest(leaf)[..] == pin
        });
        if fits {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("the upstream shows another certificate than the pinned one".into()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
