//! Certificates that the operator brings as files: used as they are, read again when they change, never written.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use tunnler_edge::certificate::CertificateError;
use tunnler_edge::{Certificate, Certificates};

use crate::clock;

/// Where one of them lies.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// PEM chain, leaf first.
    pub chain: PathBuf,
    /// PEM key.
    pub key: PathBuf,
}

/// Those that are in use.
#[derive(Debug, Default)]
pub struct Supplied(Vec<One>);

#[derive(Debug)]
struct One {
    files: CertificateFiles,
    certificate: Certificate,
    modified: Option<SystemTime>,
}

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SuppliedError {
    /// One cannot be read.
    #[error("certificate {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// They are not a certificate and its key.
    #[error("certificate {}: {source}", path.display())]
    Unusable {
        /// The chain.
        path: PathBuf,
        /// Why.
        source: CertificateError,
    },
}

impl Supplied {
    /// Reads all files.
    pub fn read(files: Vec<CertificateFiles>) -> Result<Self, SuppliedError> {
        files.into_iter().map(One::read).collect::<Result<_, _>>().map(Self)
    }

    /// Puts them to use.
    pub fn install(&self, certificates: &Certificates) {
        for one in &self.0 {
            certificates.install(&one.certificate);
        }
    }

    /// Whether one of them serves `host` now, so that none has to be ordered.
    pub fn covers(&self, host: &str) -> bool {
        let now = clock::seconds();
        self.0.iter().any(|one| one.certificate.covers(host) && one.certificate.not_after() > now)
    }

    /// Reads again what changed on disk. What cannot be used is left alone, and the old one stays.
    pub fn refresh(&mut self, certificates: &Certificates) {
        for one in &mut self.0 {
            if one.files.modified() == one.modified {
                continue;
            }
            match One::read(one.files.clone()) {
                Ok(new) => {
                    tracing::info!(chain = %new.files.chain.display(), "a supplied certificate was read again");
                    certificates.install(&new.certificate);
                    *one = new;
                }
                Err(error) => {
                    // Told once per change.
                    one.modified = one.files.modified();
                    tracing::warn!(%error, "the old certificate stays in use");
                }
            }
        }
    }
}

impl One {
    fn read(files: CertificateFiles) -> Result<Self, SuppliedError> {
        // Before the files: a change while they are read is seen the next time.
        let modified = files.modified();
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| SuppliedError::Read { path: path.clone(), source })
        };
        let (chain, key) = (read(&files.chain)?, read(&files.key)?);
        let unusable = |source| SuppliedError::Unusable { path: files.chain.clone(), source };
        let certificate = Certificate::from_pem(&chain, &key).map_err(unusable)?;
        Ok(Self { files, certificate, modified })
    }
}

impl CertificateFiles {
    /// The same, where relative paths begin at `base`.
    #[must_use]
    pub fn below(self, base: &Path) -> Self {
        Self { chain: base.join(self.chain), key: base.join(self.key) }
    }

    /// When the younger of the two changed.
    fn modified(&self) -> Option<SystemTime> {
        let of = |path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        of(&self.chain).max(of(&self.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_used_until_better_ones_lie_there() {
        let dir = tempfile::tempdir().unwrap();
        let files = CertificateFiles { chain: dir.path().join("chain.pem"), key: dir.path().join("key.pem") };
        let mut turn = SystemTime::now();
        let mut write = |chain: &str, key: &str| {
            turn += std::time::Duration::from_secs(1);
            for (path, text) in [(&files.chain, chain), (&files.key, key)] {
                std::fs::write(path, text).unwrap();
                std::fs::File::options().write(true).open(path).unwrap().set_modified(turn).unwrap();
            }
        };
        let issue = || {
            let issued = rcgen::generate_simple_self_signed(["*.tun.test".to_owned()]).unwrap();
            (issued.cert.pem(), issued.signing_key.serialize_pem())
        };
        assert!(matches!(Supplied::read(vec![files.clone()]), Err(SuppliedError::Read { .. })));
        let (first, second) = (issue(), issue());
        write(&first.0, &second.1);
        assert!(matches!(Supplied::read(vec![files.clone()]), Err(SuppliedError::Unusable { .. })));
        write(&first.0, &first.1);
        let (certificates, mut supplied) =
            (Certificates::default(), Supplied::read(vec![files.clone()]).unwrap());
        supplied.install(&certificates);
        assert!(supplied.covers("mynode.tun.test") && !supplied.covers("web.mynode.tun.test"));
        let leaf =
            |certificates: &Certificates| certificates.find("mynode.tun.test").unwrap().leaf().to_vec();
        let before = leaf(&certificates);
        write("junk", &second.1);
        supplied.refresh(&certificates);
        assert_eq!(leaf(&certificates), before);
        write(&second.0, &second.1);
        supplied.refresh(&certificates);
        assert_ne!(leaf(&certificates), before);
    }
}
