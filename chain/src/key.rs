//! Secret keys from where programs may take them: a private file (`--key FILE`) or `TUNNLER_SECRET_KEY`, never an
//! argument. Nothing here prints a secret.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tunnler_protocol::address::{KeyError, SecretKey};

/// The environment variable that may hold a secret key.
pub const VARIABLE: &str = "TUNNLER_SECRET_KEY";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Neither a file nor the variable was given.
    #[error("no key: pass --key FILE or set TUNNLER_SECRET_KEY (`tunnler key new FILE` makes one)")]
    Missing,
    /// The file cannot be read or written.
    #[error("key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others could read the file.
    #[error("key file {path} can be read by others (mode {mode:o}); run: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file does not hold one secret key.
    #[error("key file {path}: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it is not.
        source: KeyError,
    },
    /// The variable does not hold a secret key.
    #[error("TUNNLER_SECRET_KEY: {0}")]
    Variable(KeyError),
}

/// Reads the key of `file`, or of the environment when there is none.
pub fn load(file: Option<&Path>) -> Result<SecretKey, KeyFileError> {
    match file {
        Some(path) => load_file(path),
        None => match std::env::var(VARIABLE) {
            Ok(text) => text.trim().parse().map_err(KeyFileError::Variable),
            Err(_) => Err(KeyFileError::Missing),
        },
    }
}

/// Writes `key` to a new file with mode 0600; an existing file is never touched.
pub fn create(path: &Path, key: &SecretKey) -> Result<(), KeyFileError> {
    let io = |source| KeyFileError::Io { path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    writeln!(file, "{}", *key.to_strkey()).and_then(|()| file.sync_all()).map_err(io)
}

fn load_file(path: &Path) -> Result<SecretKey, KeyFileError> {
    let io = |source| KeyFileError::Io { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(io)?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    let malformed = || KeyFileError::Malformed { path: path.to_owned(), source: KeyError::NotASecret };
    if metadata.len() > 1024 {
        return Err(malformed());
    }
    let text = zeroize::Zeroizing::new(fs::read_to_string(path).map_err(io)?);
    text.trim().parse().map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_file_is_private_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let key = SecretKey::from_seed(&[1; 32]);
        create(&path, &key).unwrap();
        assert_eq!(load(Some(&path)).unwrap().address(), key.address());
        assert!(matches!(create(&path, &key), Err(KeyFileError::Io { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load(Some(&path)), Err(KeyFileError::Exposed { mode: 0o644, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "SECRETLOOKING").unwrap();
        let error = load(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("not a Stellar secret key") && !error.contains("SECRETLOOKING"), "{error}");
    }
}
