//! TLS of the control path: TLS 1.3 only, ALPN `http/1.1`, no tickets, and the exporter that binds signatures to one
//! connection (RFC 9266).

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ResolvesServerCert;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ConnectionCommon, DigitallySignedStruct, RootCertStore, ServerConfig, SideData,
    SignatureScheme,
};
use tunnler_protocol::challenge::{EXPORTER_LABEL, Exporter};

/// The one application protocol of `/connect` and the feed.
pub const ALPN: &[u8] = b"http/1.1";

/// The channel binding of an established connection.
///
/// # Errors
/// While the handshake is not complete.
pub fn exporter<S: SideData>(connection: &ConnectionCommon<S>) -> Result<Exporter, rustls::Error> {
    connection.export_keying_material([0; 32], EXPORTER_LABEL, None).map(Exporter)
}

/// What a relay serves its own host with.
///
/// # Panics
/// Without a process-wide rustls provider, or with one that lacks TLS 1.3.
pub fn server_config(certificates: Arc<dyn ResolvesServerCert>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_protocol_versions(&[&TLS13])
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config
}

/// What a client (or feed reader) connects to a relay with. Any certificate is accepted: the relay's signature over
/// the exporter authenticates it. [`CertificateVerdict`] tells afterwards what WebPKI thinks of it.
///
/// # Panics
/// Without a process-wide rustls provider, or with one that lacks TLS 1.3.
pub fn client_config(roots: Option<Arc<RootCertStore>>) -> (Arc<ClientConfig>, CertificateVerdict) {
    let provider = CryptoProvider::get_default().expect("main installs a provider").clone();
    let verdict = CertificateVerdict::default();
    let webpki = roots
        .and_then(|roots| WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build().ok());
    let verifier = AnyCertificate {
        algorithms: provider.signature_verification_algorithms,
        webpki,
        verdict: verdict.clone(),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    (Arc::new(config), verdict)
}

/// What WebPKI thought of a relay's certificate: only ever a reason to warn.
#[derive(Clone, Debug, Default)]
pub struct CertificateVerdict(Arc<OnceLock<String>>);

impl CertificateVerdict {
    /// Why the certificate would not be trusted by a browser, if it would not.
    pub fn problem(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

#[derive(Debug)]
struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
    webpki: Option<Arc<WebPkiServerVerifier>>,
    verdict: CertificateVerdict,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(webpki) = &self.webpki
            && let Err(error) =
                webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            let _ = self.verdict.0.set(error.to_string());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
