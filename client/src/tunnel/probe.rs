//! Looks at relays from outside a session: how far one is, and whether visitors who reach it reach this client.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tunnler_edge::certificate::covered_until;
use tunnler_protocol::agent::Visit;
use tunnler_protocol::{HostName, UnixSeconds};

const MEASURE_DEADLINE: Duration = Duration::from_secs(2);
const VISIT_DEADLINE: Duration = Duration::from_secs(10);

/// The time a TCP handshake with the first address that answers takes.
pub(crate) async fn round_trip(addresses: Vec<SocketAddr>) -> Option<Duration> {
    for address in addresses {
        let begun = Instant::now();
        if let Ok(Ok(_)) = tokio::time::timeout(MEASURE_DEADLINE, TcpStream::connect(address)).await {
            return Some(begun.elapsed());
        }
    }
    None
}

/// Visits `host` at a relay's ingress like any visitor; `leaf` is the own certificate, which must answer.
pub(super) async fn visit(ingress: Vec<SocketAddr>, host: &HostName, leaf: CertificateDer<'static>) -> Visit {
    for address in ingress {
        let shown = tokio::time::timeout(VISIT_DEADLINE, shown_leaf(address, host)).await;
        if matches!(shown, Ok(Ok(Some(found))) if found == leaf) {
            return Visit::Arrived;
        }
    }
    Visit::Swallowed
}

/// What a relay shows to visitors of a host whose TLS it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// A certificate for the host, valid until then.
    Certificate(UnixSeconds),
    /// It answers, but not with a certificate for this host.
    Refusal,
    /// It does not answer.
    Silence,
}

/// Visits `host`, whose TLS the relay at `ingress` ends. Who issued the certificate is for visitors to judge.
pub(super) async fn look(ingress: &[SocketAddr], host: &HostName) -> Shown {
    let mut seen = Shown::Silence;
    for address in ingress {
        match tokio::time::timeout(VISIT_DEADLINE, shown_leaf(*address, host)).await {
            Ok(Ok(Some(leaf))) => match covered_until(&leaf, host.as_str()) {
                Ok(Some(until)) => return Shown::Certificate(until),
                Ok(None) | Err(_) => seen = Shown::Refusal,
            },
            Ok(Err(error)) if is_alert(&error) => seen = Shown::Refusal,
            Ok(Ok(None) | Err(_)) | Err(_) => {}
        }
    }
    seen
}

fn is_alert(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::AlertReceived(_)))
}

async fn shown_leaf(
    address: SocketAddr,
    host: &HostName,
) -> std::io::Result<Option<CertificateDer<'static>>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let seen =
        Arc::new(Seen { leaf: Mutex::default(), algorithms: provider.signature_verification_algorithms });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(seen.clone())
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_string()).map_err(std::io::Error::other)?;
    let tcp = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    Ok(seen.leaf.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take())
}

/// Keeps the leaf for comparison instead of judging it; that its holder answered is checked by the handshake.
#[derive(Debug)]
struct Seen {
    leaf: Mutex<Option<CertificateDer<'static>>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut seen = self.leaf.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *seen = Some(leaf.clone().into_owned());
        Ok(ServerCertVerified::assertion())
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
