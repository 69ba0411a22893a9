//! Files that must survive a power cut and stay private: keys, accounts, orders, certificates.
//!
//! Every write is a new file with mode 0600, synced and renamed over the old one, and the directory synced after it.
//! Never deletes what it cannot read: a corrupt file is set aside under another name.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A directory of small private files.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

/// A file operation that failed, and on which file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct StoreError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl Store {
    /// Opens a directory, creating it (mode 0700) and its parents where needed.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let directory = directory.into();
        let created = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        created.map_err(|source| StoreError { path: directory.clone(), source })?;
        Ok(Self { directory })
    }

    /// Opens a directory inside this one.
    pub fn inner(&self, name: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open(self.directory.join(name))
    }

    /// Where a file of this store lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The file's bytes, or `None` when there is no such file.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match fs::read(self.path(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError { path: self.path(name), source }),
        }
    }

    /// Replaces the file as a whole: readers see the old bytes or the new ones, also after a crash.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(name);
        let temporary = self.path(&format!(".{name}.new"));
        let replaced = (|| {
            let mut file = private(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.directory)?.sync_all()
        })();
        replaced.map_err(|source| StoreError { path, source })
    }

    /// Replaces the file as a whole without waiting for the disk: for what is made anew after a crash.
    pub fn write_unsynced(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = self.path(&format!(".{name}.new"));
        let replaced = private(&temporary)
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| fs::rename(&temporary, self.path(name)));
        replaced.map_err(|source| StoreError { path: self.path(name), source })
    }

    /// Removes the file if it is there.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError { path: self.path(name), source: error })
            }
            _ => Ok(()),
        }
    }

    /// Moves a file that makes no sense out of the way, to `NAME.corrupt`, and says so in the log.
    pub fn set_aside(&self, name: &str, why: &dyn std::fmt::Display) -> Result<(), StoreError> {
        let aside = self.path(&format!("{name}.corrupt"));
        tracing::warn!(file = %self.path(name).display(), kept_as = %aside.display(), %why, "file set aside");
        fs::rename(self.path(name), aside).map_err(|source| StoreError { path: self.path(name), source })
    }
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_private_replaced_whole_and_set_aside_when_corrupt() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("a/b")).unwrap();
        assert_eq!(store.read("key").unwrap(), None);
        store.write("key", b"one").unwrap();
        store.write("key", b"two").unwrap();
        assert_eq!(store.read("key").unwrap().unwrap(), b"two");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&store.path("key")), 0o600);
        assert_eq!(mode(store.path("key").parent().unwrap()), 0o700);
        store.set_aside("key", &"test").unwrap();
        assert_eq!(store.read("key").unwrap(), None);
        assert_eq!(store.read("key.corrupt").unwrap().unwrap(), b"two");
        store.remove("key").unwrap();
    }
}
