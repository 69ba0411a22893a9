//! The projection on disk: what every endpoint may be down for. One file, written whole beside the old one and renamed
//! over it; a file that is damaged or of another network is set aside, never trusted and never deleted.
//!
//! Format: magic line; length and SHA-256 of the header; the header as JSON, with lengths and digests of the two parts
//! behind it. The first is the [directory], decoded at once and served; the second the [agreements](agreement) that the
//! reader goes on from, which take ten times as long. Integers are big-endian.

mod agreement;
mod bytes;
mod directory;

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tunnler_protocol::directory::Directory;
use tunnler_protocol::network::Network;
use tunnler_protocol::time::LedgerTime;

use self::bytes::{Cursor, invalid};
use crate::chain::FollowedNames;
use crate::error::ChainError;
use crate::reader::{Complete, Kept};

const FILE: &str = "chain.projection";
const MAGIC: &[u8; 27] = b"tunnler chain projection 3\n";
/// More than any part of a projection: a million names of 4 KiB would not be ones of ours.
const MAX_LEN: u64 = 4 << 30;
/// More than any header.
const MAX_HEADER: u32 = 16 << 10;

/// The file of one network in one state directory.
#[derive(Clone, Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    identity: Identity,
}

/// A file whose directory has been read.
#[derive(Debug)]
pub(crate) struct Opened {
    /// What is served at once.
    pub(crate) directory: Directory,
    /// What the reader goes on from.
    pub(crate) rest: Rest,
}

/// The part of a file that has not been read yet.
#[derive(Debug)]
pub(crate) struct Rest {
    file: fs::File,
    header: Header,
}

/// What a file must be of to be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    passphrase: String,
    registry: String,
    namespace: String,
    all_names: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Header {
    identity: Identity,
    /// Ledger of the directory.
    served: LedgerTime,
    directory: Part,
    /// Ledger of the agreements.
    ledger: LedgerTime,
    revisions: [u64; 2],
    complete: u32,
    entries: usize,
    agreements: Part,
}

/// A stretch of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Part {
    length: u64,
    digest: [u8; 32],
}

impl StateFile {
    /// The file in `directory`, which is made if it is not there.
    pub(crate) fn in_directory(
        directory: &Path,
        network: &Network,
        names: FollowedNames,
    ) -> Result<Self, ChainError> {
        fs::create_dir_all(directory)
            .map_err(|source| ChainError::State { path: directory.to_owned(), source })?;
        let identity = Identity {
            passphrase: network.passphrase.clone(),
            registry: network.registry.clone(),
            namespace: network.namespace.clone(),
            all_names: names == FollowedNames::All,
        };
        Ok(Self { path: directory.join(FILE), identity })
    }

    /// What was kept; `None` when there is nothing usable. What is not usable is renamed to `….bad`.
    pub(crate) fn open(&self) -> Result<Option<Opened>, ChainError> {
        match self.read() {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(problem) => self.set_aside(&problem).map(|()| None),
        }
    }

    /// Renames the file, so that it is in nobody's way and can be looked at.
    pub(crate) fn set_aside(&self, problem: &io::Error) -> Result<(), ChainError> {
        let aside = self.path.with_extension("projection.bad");
        tracing::warn!(path = %self.path.display(), %problem, "kept projection not used and set aside");
        fs::rename(&self.path, &aside).map_err(|source| ChainError::State { path: self.path.clone(), source })
    }

    /// Writes `kept` and the `directory` made of it, atomically: after a crash there is the old file or the new one.
    pub(crate) fn save(&self, kept: &Kept, directory: &Directory) -> Result<(), ChainError> {
        self.write(kept, directory).map_err(|source| ChainError::State { path: self.path.clone(), source })
    }

    fn read(&self) -> io::Result<Opened> {
        let mut file = fs::File::open(&self.path)?;
        let mut start = [0; MAGIC.len() + 4 + 32];
        file.read_exact(&mut start)?;
        let mut start = Cursor(start.strip_prefix(MAGIC).ok_or_else(|| invalid("of another version"))?);
        let length = start.number()?;
        if length > MAX_HEADER {
            return Err(invalid("its header is too long"));
        }
        let header = Part { length: length.into(), digest: start.array()? }.read(&mut file)?;
        let header: Header = serde_json::from_slice(&header)?;
        if header.identity != self.identity {
            return Err(invalid("of another network or another set of names"));
        }
        let bytes = header.directory.bytes(&mut file)?;
        // Both at once, as this is what a start waits for. Nothing comes of what is decoded unless the digest is right.
        let (decoded, checked) = std::thread::scope(|scope| {
            let check = scope.spawn(|| header.directory.check(&bytes));
            (directory::decode(&bytes, header.served), check.join())
        });
        checked.map_err(|_| invalid("its checksum could not be taken"))??;
        let directory = decoded?;
        Ok(Opened { directory, rest: Rest { file, header } })
    }

    fn write(&self, kept: &Kept, directory: &Directory) -> io::Result<()> {
        let served = directory::encode(directory)?;
        let mut agreements = Vec::new();
        kept.agreements.iter().for_each(|agreement| agreement::encode(agreement, &mut agreements));
        let header = Header {
            identity: self.identity.clone(),
            served: directory.ledger,
            directory: Part::of(&served),
            ledger: kept.ledger,
            revisions: kept.complete.revisions,
            complete: kept.complete.ledger,
            entries: kept.agreements.len(),
            agreements: Part::of(&agreements),
        };
        let header = serde_json::to_vec(&header)?;
        let length = u32::try_from(header.len()).map_err(invalid)?;
        let new = self.path.with_extension("projection.new");
        let mut file = fs::File::create(&new)?;
        file.write_all(MAGIC)?;
        file.write_all(&length.to_be_bytes())?;
        file.write_all(&Sha256::digest(&header))?;
        for part in [&header, &served, &agreements] {
            file.write_all(part)?;
        }
        file.sync_all()?;
        fs::rename(&new, &self.path)
    }
}

impl Rest {
    /// Reads the agreements.
    pub(crate) fn read(mut self) -> io::Result<Kept> {
        let bytes = self.header.agreements.read(&mut self.file)?;
        let mut bytes = Cursor(&bytes);
        let agreements =
            (0..self.header.entries).map(|_| agreement::decode(&mut bytes)).collect::<io::Result<_>>()?;
        let complete = Complete { revisions: self.header.revisions, ledger: self.header.complete };
        Ok(Kept { ledger: self.header.ledger, complete, agreements })
    }
}

impl Part {
    fn of(bytes: &[u8]) -> Self {
        Self { length: bytes.len() as u64, digest: Sha256::digest(bytes).into() }
    }

    fn read(&self, file: &mut fs::File) -> io::Result<Vec<u8>> {
        let bytes = self.bytes(file)?;
        self.check(&bytes).map(|()| bytes)
    }

    /// The bytes as they are.
    fn bytes(&self, file: &mut fs::File) -> io::Result<Vec<u8>> {
        if self.length > MAX_LEN {
            return Err(invalid("a part of it is too long"));
        }
        let room = self.length.min(file.metadata()?.len());
        let mut bytes = Vec::with_capacity(usize::try_from(room).map_err(invalid)?);
        file.take(self.length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != self.length {
            return Err(invalid("cut off"));
        }
        Ok(bytes)
    }

    fn check(&self, bytes: &[u8]) -> io::Result<()> {
        match Sha256::digest(bytes)[..] == self.digest {
            true => Ok(()),
            false => Err(invalid("damaged: its checksum does not match")),
        }
    }
}

#[cfg(test)]
mod tests;
