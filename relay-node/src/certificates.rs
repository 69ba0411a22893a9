//! Certificates of the relay's own host: a CA's when there is one, else one that the relay signs itself (clients know
//! the relay by its key, not by its certificate).

pub mod account;
pub mod keeper;
pub mod visible;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tunnler_protocol::{HostName, UnixSeconds};

use crate::own_host::ACME_ALPN;

/// What the own host is served with.
#[derive(Clone)]
pub struct Certificates(Arc<Resolver>);

struct Resolver {
    /// Where certificates of a CA and its challenges come from.
    acme: Option<Arc<dyn ResolvesServerCert>>,
    self_signed: Arc<CertifiedKey>,
    /// When the CA's certificate became valid; 0 while there is none.
    issued: AtomicU64,
}

/// Why the own host cannot have certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It could not be made.
    #[error("cannot make a self-signed certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Its key cannot be used.
    #[error("cannot use a self-signed certificate: {0}")]
    Use(#[from] rustls::Error),
    /// The root of the CA's directory cannot be used.
    #[error("{}: {problem}; it is `acme.root` of the network descriptor", path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Certificates {
    /// Only a self-signed one.
    pub fn self_signed(host: &HostName) -> Result<Self, CertificateError> {
        Self::new(host, None)
    }

    /// Those of `acme` as soon as it has one.
    pub fn with_acme(host: &HostName, acme: Arc<dyn ResolvesServerCert>) -> Result<Self, CertificateError> {
        Self::new(host, Some(acme))
    }

    fn new(host: &HostName, acme: Option<Arc<dyn ResolvesServerCert>>) -> Result<Self, CertificateError> {
        let made = rcgen::generate_simple_self_signed([host.to_string()])?;
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key.into())?;
        let self_signed = Arc::new(CertifiedKey::new(vec![made.cert.der().clone()], key));
        Ok(Self(Arc::new(Resolver { acme, self_signed, issued: 0.into() })))
    }

    /// Notes that the CA's certificate, valid from `since` on, is in place.
    pub fn set_issued(&self, since: UnixSeconds) {
        self.0.issued.store(since.0.max(1), Ordering::Relaxed);
    }

    /// Whether a CA's certificate is in place.
    pub fn has_certificate(&self) -> bool {
        self.issued().is_some()
    }

    /// Since when the CA's certificate is valid.
    pub fn issued(&self) -> Option<UnixSeconds> {
        Some(self.0.issued.load(Ordering::Relaxed)).filter(|since| *since > 0).map(UnixSeconds)
    }

    /// For the TLS configuration.
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        self.0.clone()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let validation = client_hello.alpn().is_some_and(|mut offered| offered.any(|alpn| alpn == ACME_ALPN));
        let issued = self.acme.as_ref().and_then(|acme| acme.resolve(client_hello));
        // A validation is answered by the CA's challenge or not at all.
        issued.or_else(|| (!validation).then(|| self.self_signed.clone()))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("acme", &self.acme.is_some()).finish_non_exhaustive()
    }
}
