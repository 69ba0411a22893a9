//! The state directory: a log of closed ledgers, and now and then a snapshot of the state.
//!
//! ```text
//! lock                       held while a process uses the directory
//! ledgers-0000000001.log     frames of LedgerCloseMeta, from that ledger on
//! state-0000000001.snapshot  frames of entries after that ledger
//! ```
//! A frame is a length, the first 8 bytes of the SHA-256 of its payload, and the payload. A ledger is written and
//! synced before anyone hears of it. A torn last frame is what a crash left of a ledger that nobody heard of: it is
//! cut off. Anything else that does not add up is an error, never guessed around.

mod files;
mod frame;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use stellar_xdr::{Hash, LedgerCloseMeta, LedgerEntry, LedgerHeaderHistoryEntry};

use super::close;
use super::history::{ClosedLedger, History};
use super::state::State;
use crate::codec;

/// Ledgers between two snapshots: what a start replays at most.
const LEDGERS_PER_SNAPSHOT: u32 = 10_000;

/// Bytes of log between two snapshots.
const BYTES_PER_SNAPSHOT: u64 = 64 * 1024 * 1024;

/// What can go wrong with a state directory.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or a file in it cannot be used.
    #[error("{path}: {cause}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// Another process uses the directory.
    #[error("{path} is in use by another tunnler-localnet: stop it, or choose another --state directory")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A file does not hold what was written to it.
    #[error("{path} is damaged ({what}): remove the state directory to start a new network")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What does not add up.
        what: String,
    },
    /// The directory belongs to a network with another passphrase.
    #[error("{path} holds another network: start with its passphrase, or choose another --state directory")]
    OtherNetwork {
        /// The directory.
        path: PathBuf,
    },
}

/// An open state directory.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
    log: Option<Log>,
    _lock: File,
}

#[derive(Debug)]
struct Log {
    file: File,
    path: PathBuf,
    ledgers: u32,
    bytes: u64,
}

/// What a directory held.
pub(crate) struct Restored {
    pub state: State,
    pub last: LedgerHeaderHistoryEntry,
    pub history: History,
}

impl Store {
    /// Opens (or makes) a directory and locks it.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(directory).map_err(|source| at(directory, source))?;
        let lock = files::lock(directory)?;
        Ok(Self { directory: directory.to_owned(), log: None, _lock: lock })
    }

    /// Reads what the directory holds; `None`: nothing yet.
    pub(crate) fn load(&mut self, network_id: &Hash, retention: u32) -> Result<Option<Restored>, StoreError> {
        files::remove_unfinished(&self.directory)?;
        let Some((snapshot_path, _)) = files::list(&self.directory, "state-", ".snapshot")?.pop() else {
            return Ok(None);
        };
        let (mut state, mut last) = self.read_snapshot(&snapshot_path, network_id)?;
        let snapshot_ledger = last.header.ledger_seq;
        let mut history: Option<History> = None;
        let logs = files::list(&self.directory, "ledgers-", ".log")?;
        for (position, (path, _)) in logs.iter().enumerate() {
            let is_last = position + 1 == logs.len();
            let (frames, end) = frame::read_all(path)?;
            if !end.complete {
                if !is_last {
                    return Err(damaged(path, "it ends in the middle of a ledger, and newer ledgers exist"));
                }
                frame::cut(path, end.valid_bytes)?;
            }
            let mut ledgers = 0;
            for payload in frames {
                let meta: LedgerCloseMeta =
                    codec::decode(&payload).map_err(|error| damaged(path, error.to_string()))?;
                let closed =
                    ClosedLedger::new(meta).ok_or_else(|| damaged(path, "a ledger of an unknown form"))?;
                check_chain(&closed, history.as_ref(), &last, snapshot_ledger)
                    .map_err(|what| damaged(path, what))?;
                if closed.sequence() > last.header.ledger_seq {
                    close::follow(&mut state, &closed.decoded());
                    last = closed.header.clone();
                }
                match &mut history {
                    Some(history) => history.push(closed),
                    None => history = Some(History::starting_with(closed, retention)),
                }
                ledgers += 1;
            }
            if is_last {
                self.log = Some(Log::append_to(path, ledgers, end.valid_bytes)?);
            }
        }
        let history = history.filter(|history| history.latest().sequence() == last.header.ledger_seq);
        match history {
            Some(history) => Ok(Some(Restored { state, last, history })),
            // A crash between the first snapshot and the first ledger of a new network.
            None if snapshot_ledger == crate::genesis::FIRST_LEDGER => Ok(None),
            None => Err(damaged(&snapshot_path, "the ledgers that lead to it are missing")),
        }
    }

    /// Writes a closed ledger. It is on disk only after a [`sync`](Self::sync) or a snapshot.
    pub(crate) fn append(&mut self, ledger: &ClosedLedger) -> Result<(), StoreError> {
        if self.log.is_none() {
            let path = self.directory.join(format!("ledgers-{:010}.log", ledger.sequence()));
            self.log = Some(Log::create(&path)?);
            files::sync_directory(&self.directory)?;
        }
        let log = self.log.as_mut().expect("just opened");
        let frame = frame::encode(&ledger.meta);
        log.file.write_all(&frame).map_err(|source| at(&log.path, source))?;
        log.ledgers += 1;
        log.bytes += frame.len() as u64;
        Ok(())
    }

    /// Returns when everything written is on disk.
    pub(crate) fn sync(&mut self) -> Result<(), StoreError> {
        match &self.log {
            Some(log) => log.file.sync_data().map_err(|source| at(&log.path, source)),
            None => Ok(()),
        }
    }

    /// Whether enough was logged for a new snapshot.
    pub(crate) fn wants_snapshot(&self) -> bool {
        self.log
            .as_ref()
            .is_some_and(|log| log.ledgers >= LEDGERS_PER_SNAPSHOT || log.bytes >= BYTES_PER_SNAPSHOT)
    }

    /// Writes the state after a ledger; the next ledger begins a new log.
    pub(crate) fn snapshot(
        &mut self,
        network_id: &Hash,
        last: &LedgerHeaderHistoryEntry,
        state: &State,
    ) -> Result<(), StoreError> {
        // The ledgers that lead here come first: a snapshot without them would be one of an unknown network.
        self.sync()?;
        let path = self.directory.join(format!("state-{:010}.snapshot", last.header.ledger_seq));
        let mut count = 0_u64;
        files::write_whole(&path, |file| {
            file.write_all(&frame::encode(&network_id.0))?;
            file.write_all(&frame::encode(&codec::encode(last)))?;
            let live = state.live_entries().map(|entry| (LIVE, entry));
            let archived = state.archived_entries().map(|entry| (ARCHIVED, entry));
            for (kind, entry) in live.chain(archived) {
                let mut payload = vec![kind];
                payload.extend_from_slice(&codec::encode(entry));
                file.write_all(&frame::encode(&payload))?;
                count += 1;
            }
            let mut payload = vec![END];
            payload.extend_from_slice(&count.to_be_bytes());
            file.write_all(&frame::encode(&payload))
        })?;
        self.log = None;
        for (old, sequence) in files::list(&self.directory, "state-", ".snapshot")? {
            if sequence < last.header.ledger_seq {
                std::fs::remove_file(&old).map_err(|source| at(&old, source))?;
            }
        }
        Ok(())
    }

    /// Removes logs that hold only ledgers before `oldest`.
    pub(crate) fn forget_before(&mut self, oldest: u32) -> Result<(), StoreError> {
        let logs = files::list(&self.directory, "ledgers-", ".log")?;
        for pair in logs.windows(2) {
            let [(path, _), (_, next)] = pair else { continue };
            if *next <= oldest {
                std::fs::remove_file(path).map_err(|source| at(path, source))?;
            }
        }
        Ok(())
    }

    fn read_snapshot(
        &self,
        path: &Path,
        network_id: &Hash,
    ) -> Result<(State, LedgerHeaderHistoryEntry), StoreError> {
        let (frames, end) = frame::read_all(path)?;
        let incomplete = || damaged(path, "it is incomplete");
        if !end.complete {
            return Err(incomplete());
        }
        let mut frames = frames.into_iter();
        if frames.next().ok_or_else(incomplete)? != network_id.0 {
            return Err(StoreError::OtherNetwork { path: self.directory.clone() });
        }
        let xdr = |error: stellar_xdr::Error| damaged(path, error.to_string());
        let last: LedgerHeaderHistoryEntry =
            codec::decode(&frames.next().ok_or_else(incomplete)?).map_err(xdr)?;
        let mut state = State::default();
        for (count, payload) in (0_u64..).zip(frames) {
            match payload.split_first() {
                Some((&LIVE, entry)) => state.insert(codec::decode::<LedgerEntry>(entry).map_err(xdr)?),
                Some((&ARCHIVED, entry)) => state.insert_archived(codec::decode(entry).map_err(xdr)?),
                Some((&END, stated)) if stated == count.to_be_bytes() => return Ok((state, last)),
                _ => return Err(incomplete()),
            }
        }
        Err(incomplete())
    }
}

const LIVE: u8 = 1;
const ARCHIVED: u8 = 2;
const END: u8 = 3;

impl Log {
    fn create(path: &Path) -> Result<Self, StoreError> {
        let file = File::options().append(true).create(true).open(path).map_err(|source| at(path, source))?;
        Ok(Self { file, path: path.to_owned(), ledgers: 0, bytes: 0 })
    }

    fn append_to(path: &Path, ledgers: u32, bytes: u64) -> Result<Self, StoreError> {
        Ok(Self { ledgers, bytes, ..Self::create(path)? })
    }
}

fn check_chain(
    closed: &ClosedLedger,
    history: Option<&History>,
    last: &LedgerHeaderHistoryEntry,
    snapshot_ledger: u32,
) -> Result<(), String> {
    let sequence = closed.sequence();
    if let Some(history) = history {
        let before = history.latest();
        if before.sequence() + 1 != sequence
            || before.header.hash != closed.header.header.previous_ledger_hash
        {
            return Err(format!("ledger {sequence} does not follow ledger {}", before.sequence()));
        }
    }
    if sequence == snapshot_ledger && closed.header.hash != last.hash {
        return Err(format!("ledger {sequence} is not the one of the snapshot"));
    }
    if sequence > last.header.ledger_seq && last.hash != closed.header.header.previous_ledger_hash {
        return Err(format!("ledger {sequence} does not follow the snapshot"));
    }
    Ok(())
}

fn at(path: &Path, cause: io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), cause }
}

fn damaged(path: &Path, what: impl Into<String>) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), what: what.into() }
}
