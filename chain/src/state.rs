//! The projection on disk: what every endpoint may be down for. One file, written whole beside the old one and renamed
//! over it; a file that is damaged or of another network is set aside, never trusted and never deleted.
//!
//! Format: magic line, SHA-256 of the rest, a JSON header line, then the agreements (key tag and fields, floor, flags,
//! modified, length, value XDR; integers big-endian).

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tunnler_protocol::Address;
use tunnler_protocol::network::Network;
use tunnler_protocol::time::LedgerTime;

use crate::chain::FollowedNames;
use crate::contract::Key;
use crate::error::ChainError;
use crate::reader::cell::Value;
use crate::reader::{Agreement, Complete, Kept};

const FILE: &str = "chain.projection";
const MAGIC: &[u8] = b"tunnler chain projection 1\n";
/// More than any projection: a million names of 64 KiB would not be one of ours.
const MAX_LEN: u64 = 4 << 30;

/// The file of one network in one state directory.
#[derive(Clone, Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    identity: Identity,
}

/// What a file must be of to be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    passphrase: String,
    registry: String,
    namespace: String,
    all_names: bool,
}

#[derive(Serialize, Deserialize)]
struct Header {
    identity: Identity,
    ledger: LedgerTime,
    revisions: [u64; 2],
    complete: u32,
    entries: usize,
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
    pub(crate) fn load(&self) -> Result<Option<Kept>, ChainError> {
        let problem = match self.read() {
            Ok(kept) => return Ok(Some(kept)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => error,
        };
        let aside = self.path.with_extension("projection.bad");
        tracing::warn!(path = %self.path.display(), %problem, "kept projection not used and set aside");
        fs::rename(&self.path, &aside)
            .map_err(|source| ChainError::State { path: self.path.clone(), source })?;
        Ok(None)
    }

    /// Writes `kept`, atomically: after a crash there is the old file or the new one.
    pub(crate) fn save(&self, kept: &Kept) -> Result<(), ChainError> {
        self.write(kept).map_err(|source| ChainError::State { path: self.path.clone(), source })
    }

    fn read(&self) -> io::Result<Kept> {
        let mut content = Vec::new();
        fs::File::open(&self.path)?.take(MAX_LEN).read_to_end(&mut content)?;
        let body = content.strip_prefix(MAGIC).ok_or_else(|| invalid("not a projection of this version"))?;
        let (digest, body) = body.split_at_checked(32).ok_or_else(|| invalid("cut off"))?;
        if Sha256::digest(body)[..] != *digest {
            return Err(invalid("damaged: its checksum does not match"));
        }
        let end = body.iter().position(|byte| *byte == b'\n').ok_or_else(|| invalid("cut off"))?;
        let header: Header = serde_json::from_slice(&body[..end])?;
        if header.identity != self.identity {
            return Err(invalid("of another network or another set of names"));
        }
        let mut rest = Cursor(&body[end + 1..]);
        let agreements = (0..header.entries).map(|_| rest.agreement()).collect::<io::Result<_>>()?;
        let complete = Complete { revisions: header.revisions, ledger: header.complete };
        Ok(Kept { ledger: header.ledger, complete, agreements })
    }

    fn write(&self, kept: &Kept) -> io::Result<()> {
        let header = Header {
            identity: self.identity.clone(),
            ledger: kept.ledger,
            revisions: kept.complete.revisions,
            complete: kept.complete.ledger,
            entries: kept.agreements.len(),
        };
        let mut body = serde_json::to_vec(&header)?;
        body.push(b'\n');
        kept.agreements.iter().for_each(|agreement| encode(agreement, &mut body));
        let new = self.path.with_extension("projection.new");
        let mut file = fs::File::create(&new)?;
        file.write_all(MAGIC)?;
        file.write_all(&Sha256::digest(&body))?;
        file.write_all(&body)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)
    }
}

fn encode(agreement: &Agreement, out: &mut Vec<u8>) {
    match &agreement.key {
        Key::RegistryConfig => out.push(0),
        Key::Zone => out.push(1),
        Key::Terms => out.push(2),
        Key::Publication => out.push(3),
        Key::RelaySlot(slot) => number(4, *slot, out),
        Key::Heartbeat(relay) => {
            out.push(5);
            out.extend(relay.as_bytes());
        }
        Key::Label(label) => {
            out.extend([6, u8::try_from(label.as_str().len()).expect("a label has at most 63 bytes")]);
            out.extend(label.as_str().as_bytes());
        }
        Key::NameSlot(slot) => number(7, *slot, out),
        Key::Domains(slot) => number(8, *slot, out),
    }
    out.extend(agreement.floor.to_be_bytes());
    out.push(u8::from(agreement.open));
    match &agreement.value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            out.extend(value.modified.to_be_bytes());
            out.extend(u32::try_from(value.bytes.len()).expect("entries have at most 64 KiB").to_be_bytes());
            out.extend(&*value.bytes);
        }
    }
}

fn number(tag: u8, number: u32, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend(number.to_be_bytes());
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn agreement(&mut self) -> io::Result<Agreement> {
        let key = match self.byte()? {
            0 => Key::RegistryConfig,
            1 => Key::Zone,
            2 => Key::Terms,
            3 => Key::Publication,
            4 => Key::RelaySlot(self.number()?),
            5 => Key::Heartbeat(Address::from_bytes(self.array()?).map_err(invalid)?),
            6 => {
                let length = usize::from(self.byte()?);
                let label = std::str::from_utf8(self.take(length)?).map_err(invalid)?;
                Key::Label(label.parse().map_err(invalid)?)
            }
            7 => Key::NameSlot(self.number()?),
            8 => Key::Domains(self.number()?),
            _ => return Err(invalid("unknown key")),
        };
        let floor = self.number()?;
        let open = self.byte()? != 0;
        let value = match self.byte()? {
            0 => None,
            _ => {
                let modified = self.number()?;
                let length = self.number()? as usize;
                Some(Value { modified, bytes: Arc::from(self.take(length)?) })
            }
        };
        Ok(Agreement { key, floor, value, open })
    }

    fn take(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| invalid("cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.take(N).map(|taken| taken.try_into().expect("as long as asked for"))
    }

    fn byte(&mut self) -> io::Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_be_bytes)
    }
}

fn invalid(problem: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tunnler_protocol::time::UnixSeconds;

    fn file(directory: &Path, passphrase: &str) -> StateFile {
        let identity = Identity {
            passphrase: passphrase.into(),
            registry: "CA".into(),
            namespace: "CB".into(),
            all_names: true,
        };
        StateFile { path: directory.join(FILE), identity }
    }

    fn kept() -> Kept {
        let relay = tunnler_protocol::SecretKey::from_seed(&[1; 32]).address();
        let keys = [
            Key::RegistryConfig,
            Key::Zone,
            Key::Terms,
            Key::Publication,
            Key::RelaySlot(7),
            Key::Heartbeat(relay),
            Key::Label("mynode".parse().unwrap()),
            Key::NameSlot(u32::MAX),
            Key::Domains(3),
        ];
        let agreement = |(index, key): (usize, Key)| Agreement {
            key,
            floor: 10 + u32::try_from(index).unwrap(),
            value: (index % 2 == 0).then(|| Value { modified: 9, bytes: Arc::from([1, 2, 3].as_slice()) }),
            open: index % 3 == 0,
        };
        Kept {
            ledger: LedgerTime { sequence: 40, closed_at: UnixSeconds(1_700_000_000) },
            complete: Complete { revisions: [3, 4], ledger: 39 },
            agreements: keys.into_iter().enumerate().map(agreement).collect(),
        }
    }

    #[test]
    fn what_is_kept_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(directory.path(), "test");
        assert_eq!(file.load().unwrap(), None);
        file.save(&kept()).unwrap();
        assert_eq!(file.load().unwrap(), Some(kept()));
    }

    #[test]
    fn a_file_of_another_network_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        file(directory.path(), "test").save(&kept()).unwrap();
        assert_eq!(file(directory.path(), "other").load().unwrap(), None);
        assert!(directory.path().join("chain.projection.bad").exists());
        assert_eq!(file(directory.path(), "test").load().unwrap(), None, "it is no longer in the way");
    }

    #[test]
    fn no_damage_goes_unnoticed() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(directory.path(), "test");
        file.save(&kept()).unwrap();
        let whole = std::fs::read(&file.path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&file.path, &damaged).unwrap();
            assert_eq!(file.load().unwrap(), None, "byte {at}");
            std::fs::write(&file.path, &whole[..at]).unwrap();
            assert_eq!(file.load().unwrap(), None, "cut at {at}");
        }
    }
}
