//! TLS for DNS: the operator's certificate files, read again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(60);

/// The files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("TLS certificate {}: {problem}", path.display())]
pub struct CertificateError {
    path: PathBuf,
    problem: String,
}

/// Where the certificate chain and its key are, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Certificate chain, leaf first.
    pub chain: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// A certificate in use, for one application protocol.
#[derive(Debug)]
pub struct Certificate {
    files: CertificateFiles,
    alpn: Vec<Vec<u8>>,
    config: ArcSwap<ServerConfig>,
}

impl Certificate {
    /// Reads the files. `alpn` lists the protocols spoken, preferred first.
    pub fn load(files: CertificateFiles, alpn: &[&str]) -> Result<Self, CertificateError> {
        let alpn: Vec<Vec<u8>> = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let config = ArcSwap::new(read(&files, &alpn)?);
        Ok(Self { files, alpn, config })
    }

    /// An acceptor with the newest certificate.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// Follows the files until `stop`; what cannot be read leaves the last certificate standing.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut seen = changed_at(&self.files.chain);
        let mut tick = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let now = changed_at(&self.files.chain);
            if now == seen {
                continue;
            }
            match read(&self.files, &self.alpn) {
                Ok(config) => {
                    seen = now;
                    self.config.store(config);
                }
                Err(error) => tracing::error!(%error, "the former certificate goes on"),
            }
        }
    }
}

fn read(files: &CertificateFiles, alpn: &[Vec<u8>]) -> Result<Arc<ServerConfig>, CertificateError> {
    let failed = |path: &Path, problem: &dyn std::fmt::Display| CertificateError {
        path: path.to_owned(),
        problem: problem.to_string(),
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.chain)
        .and_then(Iterator::collect)
        .map_err(|error| failed(&files.chain, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| failed(&files.key, &error))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| failed(&files.chain, &error))?;
    config.alpn_protocols = alpn.to_vec();
    Ok(Arc::new(config))
}

fn changed_at(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
