//! Files of the state directory: the lock, names with a ledger in them, and files that appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{StoreError, at};

const UNFINISHED: &str = "unfinished";

/// Locks a directory for this process.
pub(super) fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| at(&path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse { path: directory.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(at(&path, source)),
    }
}

/// Files named `PREFIX<ledger>SUFFIX`, lowest ledger first.
pub(super) fn list(directory: &Path, prefix: &str, suffix: &str) -> Result<Vec<(PathBuf, u32)>, StoreError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|source| at(directory, source))? {
        let entry = entry.map_err(|source| at(directory, source))?;
        let name = entry.file_name();
        let ledger = name
            .to_str()
            .and_then(|name| name.strip_prefix(prefix))
            .and_then(|name| name.strip_suffix(suffix))
            .and_then(|digits| digits.parse().ok());
        if let Some(ledger) = ledger {
            found.push((entry.path(), ledger));
        }
    }
    found.sort_by_key(|(_, ledger)| *ledger);
    Ok(found)
}

/// Writes a file under another name, syncs it, and gives it its name.
pub(super) fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), StoreError> {
    let unfinished = path.with_extension(UNFINISHED);
    let written = File::create(&unfinished).and_then(|file| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.flush()?;
        file.get_ref().sync_all()
    });
    written.and_then(|()| std::fs::rename(&unfinished, path)).map_err(|source| at(path, source))?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Removes what a crash left half written.
pub(super) fn remove_unfinished(directory: &Path) -> Result<(), StoreError> {
    for entry in std::fs::read_dir(directory).map_err(|source| at(directory, source))? {
        let path = entry.map_err(|source| at(directory, source))?.path();
        if path.extension().is_some_and(|extension| extension == UNFINISHED) {
            std::fs::remove_file(&path).map_err(|source| at(&path, source))?;
        }
    }
    Ok(())
}

/// Makes names in a directory as lasting as the files.
pub(super) fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(|source| at(directory, source))
}
