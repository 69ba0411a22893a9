//! Certificates and the choice among them: each is served for the hosts it names and for no other.
//!
//! Never writes files and never talks to a CA.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tunnler_protocol::UnixSeconds;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate chain with its private key, checked to belong together.
#[derive(Clone, Debug)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
    not_before: UnixSeconds,
    not_after: UnixSeconds,
}

/// Why PEM texts are not a usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not PEM, or without a certificate or key.
    #[error("not a PEM certificate chain and key: {0}")]
    Pem(rustls::pki_types::pem::Error),
    /// The leaf is not a readable X.509 certificate.
    #[error("unreadable certificate: {0}")]
    X509(String),
    /// The key is unusable or belongs to another certificate.
    #[error("certificate and key do not fit: {0}")]
    Key(#[from] rustls::Error),
}

impl Certificate {
    /// Reads a chain (leaf first) and its key.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(CertificateError::Pem)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(CertificateError::Pem)?;
        let leaf = chain.first().ok_or(CertificateError::X509("no certificate".into()))?;
        let (names, not_before, not_after) = describe(leaf)?;
        let key = CertifiedKey::new(chain, any_supported_type(&key)?);
        key.keys_match()?;
        Ok(Self { key: Arc::new(key), names, not_before, not_after })
    }

    /// DNS names of the leaf (subjectAltName), lower case; a wildcard as `*.host`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether the leaf names `host` itself or covers it with a wildcard.
    pub fn covers(&self, host: &str) -> bool {
        let wildcard = wildcard_for(host);
        self.names.iter().any(|name| name == host || wildcard.as_ref() == Some(name))
    }

    /// Start of validity.
    pub fn not_before(&self) -> UnixSeconds {
        self.not_before
    }

    /// End of validity.
    pub fn not_after(&self) -> UnixSeconds {
        self.not_after
    }

    /// The leaf in DER.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.key.cert[0]
    }
}

fn describe(leaf: &[u8]) -> Result<(Vec<String>, UnixSeconds, UnixSeconds), CertificateError> {
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|e| CertificateError::X509(e.to_string()))?;
    let alternative = leaf.subject_alternative_name().map_err(|e| CertificateError::X509(e.to_string()))?;
    let names = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let seconds = |time: i64| UnixSeconds(u64::try_from(time).unwrap_or(0));
    let validity = leaf.validity();
    Ok((names.collect(), seconds(validity.not_before.timestamp()), seconds(validity.not_after.timestamp())))
}

/// The end of validity of a leaf in DER, if it names `host` or covers it with a wildcard.
pub fn covered_until(leaf: &[u8], host: &str) -> Result<Option<UnixSeconds>, CertificateError> {
    let (names, _, until) = describe(leaf)?;
    let wildcard = wildcard_for(host);
    let covers = names.iter().any(|name| name == host || wildcard.as_ref() == Some(name));
    Ok(covers.then_some(until))
}

fn wildcard_for(host: &str) -> Option<String> {
    host.split_once('.').map(|(_, parent)| format!("*.{parent}"))
}

/// The certificates of all hosts served here. Cheap to read from every handshake, swapped whole on change.
#[derive(Debug, Default)]
pub struct Certificates {
    by_name: ArcSwap<HashMap<String, Certificate>>,
}

impl Certificates {
    /// Serves `certificate` for the names in it from now on.
    pub fn install(&self, certificate: &Certificate) {
        self.by_name.rcu(|map| {
            let mut map = HashMap::clone(map);
            for name in &certificate.names {
                map.insert(name.clone(), certificate.clone());
            }
            map
        });
    }

    /// Stops serving the certificates of `host` and of its wildcard.
    pub fn withdraw(&self, host: &str) {
        self.by_name.rcu(|map| {
            let mut map = HashMap::clone(map);
            map.remove(host);
            map.remove(&format!("*.{host}"));
            map
        });
    }

    /// The certificate for `host` (lower case): its own, else its parent's wildcard.
    pub fn find(&self, host: &str) -> Option<Certificate> {
        let map = self.by_name.load();
        map.get(host).or_else(|| map.get(&wildcard_for(host)?)).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name()?.trim_end_matches('.').to_ascii_lowercase();
        self.find(&host).map(|certificate| certificate.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let issued = rcgen::generate_simple_self_signed(names).unwrap();
        (issued.cert.pem(), issued.signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_is_found_for_its_own_names_only() {
        let (chain, key) = issue(&["mynode.tun.test", "*.mynode.tun.test"]);
        let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        assert!(certificate.covers("api.mynode.tun.test") && !certificate.covers("a.b.mynode.tun.test"));
        let certificates = Certificates::default();
        certificates.install(&certificate);
        assert!(certificates.find("mynode.tun.test").is_some());
        assert!(certificates.find("api.mynode.tun.test").is_some());
        for other in ["other.tun.test", "tun.test", "a.b.mynode.tun.test", "mynode.tun.test.evil", ""] {
            assert!(certificates.find(other).is_none(), "{other}");
        }
        certificates.withdraw("mynode.tun.test");
        assert!(certificates.find("api.mynode.tun.test").is_none());
    }

    #[test]
    fn a_foreign_key_is_refused() {
        let (chain, _) = issue(&["mynode.tun.test"]);
        let (_, key) = issue(&["mynode.tun.test"]);
        assert!(matches!(
            Certificate::from_pem(chain.as_bytes(), key.as_bytes()),
            Err(CertificateError::Key(_))
        ));
        assert!(Certificate::from_pem(b"junk", key.as_bytes()).is_err());
    }
}
