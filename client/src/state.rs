//! The state directory: one process at a time, its instance id, and the presence sequence that never goes back.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tunnler_edge::Store;
use tunnler_edge::store::StoreError;
use tunnler_protocol::UnixMillis;
use tunnler_protocol::instance::InstanceId;
use tunnler_protocol::presence::MAX_AHEAD;

const LOCK: &str = "lock";
const INSTANCE: &str = "instance";
const SEQUENCE: &str = "seq";

/// An open state directory. Nobody else can open it while this value lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    store: Store,
    identity: Mutex<Identity>,
    _lock: File,
}

#[derive(Debug)]
struct Identity {
    instance: InstanceId,
    sequence: UnixMillis,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process holds it.
    #[error("another tunnler uses the state directory {}; stop it, or pass another --state", .0.display())]
    InUse(PathBuf),
    /// A file cannot be read or written.
    #[error("state directory: {0}; check that it is writable")]
    Store(#[from] StoreError),
    /// The lock file.
    #[error("state directory {}: {source}; check that it is writable", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StateDir {
    /// Opens and locks the directory, creating it and an instance id where needed.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let store = Store::open(path)?;
        let lock = lock_file(path).map_err(|source| StateError::Io { path: path.to_owned(), source })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(StateError::Io { path: path.to_owned(), source }),
        }
        let instance = match read(&store, INSTANCE)? {
            Some(instance) => instance,
            None => draw_instance(&store)?,
        };
        let sequence = UnixMillis(read(&store, SEQUENCE)?.unwrap_or(0));
        let identity = Mutex::new(Identity { instance, sequence });
        Ok(Self { path: path.to_owned(), store, identity, _lock: lock })
    }

    /// Whether a process holds the directory now.
    pub fn is_held(path: &Path) -> bool {
        let Ok(lock) = OpenOptions::new().read(true).open(path.join(LOCK)) else { return false };
        matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A store for private files in it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Which running copy of the client this directory belongs to.
    pub fn instance(&self) -> InstanceId {
        self.identity().instance
    }

    /// Another instance, for a client that was told that somebody else uses the present one.
    pub fn new_instance(&self) -> Result<InstanceId, StateError> {
        let mut identity = self.identity();
        identity.instance = draw_instance(&self.store)?;
        Ok(identity.instance)
    }

    /// A sequence number for one presence: later than every earlier one, and on disk before it is returned.
    pub fn next_sequence(&self, now: UnixMillis) -> Result<UnixMillis, StateError> {
        let mut identity = self.identity();
        let next = now.max(UnixMillis(identity.sequence.0 + 1));
        self.store.write(SEQUENCE, next.0.to_string().as_bytes())?;
        identity.sequence = next;
        Ok(next)
    }

    /// Raises the floor of [`StateDir::next_sequence`]: a relay says that it knows a presence with this number. One so
    /// far ahead of the clock that nobody would take it is not believed: it would silence this client for good.
    pub fn raise_sequence(&self, known: UnixMillis, now: UnixMillis) {
        if known > now.plus(MAX_AHEAD) {
            return;
        }
        let mut identity = self.identity();
        identity.sequence = identity.sequence.max(known);
    }

    fn identity(&self) -> std::sync::MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join(LOCK))
}

/// A small value kept as text; one that makes no sense is set aside.
fn read<T: std::str::FromStr<Err: std::fmt::Display>>(
    store: &Store,
    name: &str,
) -> Result<Option<T>, StateError> {
    let Some(bytes) = store.read(name)? else { return Ok(None) };
    match String::from_utf8_lossy(&bytes).trim().parse() {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            store.set_aside(name, &error)?;
            Ok(None)
        }
    }
}

fn draw_instance(store: &Store) -> Result<InstanceId, StateError> {
    let instance = InstanceId(rand::random());
    store.write(INSTANCE, instance.to_string().as_bytes())?;
    Ok(instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_keeps_one_instance_and_a_rising_sequence() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let state = StateDir::open(&path).unwrap();
        assert!(matches!(StateDir::open(&path), Err(StateError::InUse(_))));
        assert!(StateDir::is_held(&path));
        let instance = state.instance();
        assert_eq!(state.next_sequence(UnixMillis(1000)).unwrap(), UnixMillis(1000));
        assert_eq!(state.next_sequence(UnixMillis(1000)).unwrap(), UnixMillis(1001));
        state.raise_sequence(UnixMillis(5000), UnixMillis(1000));
        for lie in [UnixMillis(70_000), UnixMillis(u64::MAX)] {
            state.raise_sequence(lie, UnixMillis(1000));
        }
        assert_eq!(state.next_sequence(UnixMillis(10)).unwrap(), UnixMillis(5001));
        drop(state);
        assert!(!StateDir::is_held(&path));
        let state = StateDir::open(&path).unwrap();
        assert_eq!(state.instance(), instance);
        // A clock that went back does not take the sequence with it.
        assert_eq!(state.next_sequence(UnixMillis(10)).unwrap(), UnixMillis(5002));
        assert_ne!(state.new_instance().unwrap(), instance);
        std::fs::write(path.join("seq"), "junk").unwrap();
        drop(state);
        StateDir::open(&path).unwrap();
        assert!(path.join("seq.corrupt").exists());
    }
}
