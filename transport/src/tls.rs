//! TLS of the control path: TLS 1.3 only, ALPN `http/1.1`, no tickets, and the exporter that binds signatures to one
//! connection (RFC 9266).

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, ring, verify_tls12_signature,
    verify_tls13_signature,
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

/// Installs what all TLS of this process is made with: aws-lc-rs, but with the ciphers of ring where those are faster.
/// Every `main` calls it; two providers are compiled in, so that rustls panics without a choice.
pub fn install_provider() {
    // An error means that one is installed already.
    let _ = provider(ring_is_faster()).install_default();
}

fn provider(ciphers_of_ring: bool) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    if ciphers_of_ring {
        provider.cipher_suites = ring::default_provider().cipher_suites;
    }
    provider
}

/// Whether the processor encrypts several AES blocks with one instruction, but not with AVX-512, which aws-lc-rs needs to
/// do so (AMD Zen 3, most Intel of desktops and laptops since 2021): there ring's AES-GCM is 1.8 times as fast.
fn ring_is_faster() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("vaes")
        && is_x86_feature_detected!("vpclmulqdq")
        && !is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

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

#[cfg(test)]
mod tests {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::version::TLS12;
    use rustls::{CipherSuite, NamedGroup, SupportedProtocolVersion};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// What a handshake agreed on; the exporters of both ends are the same.
    async fn shake_hands(
        version: &'static SupportedProtocolVersion,
        client: CryptoProvider,
        server: CryptoProvider,
    ) -> (Option<CipherSuite>, Option<NamedGroup>) {
        let key = rcgen::generate_simple_self_signed(["relay.example".to_owned()]).unwrap();
        let private = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(key.cert.der().clone()).unwrap();
        let server =
            ServerConfig::builder_with_provider(Arc::new(server)).with_protocol_versions(&[version]).unwrap();
        let server =
            server.with_no_client_auth().with_single_cert(vec![key.cert.der().clone()], private).unwrap();
        let client =
            ClientConfig::builder_with_provider(Arc::new(client)).with_protocol_versions(&[version]).unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let (near, far) = duplex(64 * 1024);
        let (near, far) = tokio::join!(
            TlsConnector::from(Arc::new(client)).connect("relay.example".try_into().unwrap(), near),
            TlsAcceptor::from(Arc::new(server)).accept(far),
        );
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        let body = vec![7; 40_000];
        let mut received = vec![0; body.len()];
        let both = tokio::join!(
            async { near.write_all(&body).await.and(near.flush().await) },
            far.read_exact(&mut received)
        );
        assert!(both.0.is_ok() && both.1.is_ok() && received == body);
        let (near, far) = (near.get_ref().1, far.get_ref().1);
        assert_eq!(exporter(near).unwrap(), exporter(far).unwrap());
        let suite = near.negotiated_cipher_suite().map(|suite| suite.suite());
        (suite, near.negotiated_key_exchange_group().map(|group| group.name()))
    }

    #[tokio::test]
    async fn wherever_the_ciphers_come_from_ends_agree_and_keys_are_post_quantum() {
        for (client, server) in [(false, false), (false, true), (true, false), (true, true)] {
            let (suite, group) = shake_hands(&TLS13, provider(client), provider(server)).await;
            assert_eq!(suite, Some(CipherSuite::TLS13_AES_256_GCM_SHA384), "{client} {server}");
            assert_eq!(group, Some(NamedGroup::X25519MLKEM768), "{client} {server}");
            // Old visitors.
            let (suite, group) = shake_hands(&TLS12, provider(client), provider(server)).await;
            assert_eq!(
                suite,
                Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
                "{client} {server}"
            );
            assert_eq!(group, Some(NamedGroup::X25519), "{client} {server}");
        }
    }
}
