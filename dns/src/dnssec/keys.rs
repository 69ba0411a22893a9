//! The zone's keys: one file each, and `keys.toml` with what each is for. Servers of one zone share a copy.
//!
//! A key is *published* (in DNSKEY, signing only that), then *active* (signing the zone), then *retired* (in DNSKEY
//! while old signatures are cached). That is the pre-publish rollover of RFC 6781, section 4.1.1.1, with one key for
//! both purposes. Never prints a private key.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::dnssec::crypto::EcdsaSigningKey;
use hickory_proto::dnssec::rdata::{DNSKEY, DS};
use hickory_proto::dnssec::{Algorithm, DigestType, SigningKey, TBS};
use hickory_proto::rr::Name;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};
use tunnler_protocol::time::UnixSeconds;

/// P-256 with SHA-256: small signatures that every validator checks (RFC 8624).
pub const ALGORITHM: Algorithm = Algorithm::ECDSAP256SHA256;
/// Two TTLs of DNSKEY: after that every cache has seen a published key.
pub const SETTLED_AFTER: u64 = 2 * 3600;

const INDEX: &str = "keys.toml";

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read or written.
    #[error("zone key file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("zone key file {}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Others could read a private key.
    #[error("zone key file {} can be read by others; run: chmod 600 {}", .0.display(), .0.display())]
    Exposed(PathBuf),
    /// There are none.
    #[error("no zone keys in {}; run: tunnler-dns keys --dir {} new", .0.display(), .0.display())]
    None(PathBuf),
    /// A step of the life of a key that is not the next one.
    #[error("{0}")]
    State(String),
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Known to validators, signing nothing but DNSKEY.
    Published,
    /// Signing the zone.
    Active,
    /// No longer signing, still known.
    Retired,
}

/// One key with its private half.
pub struct ZoneKey {
    /// Key tag (RFC 4034, appendix B).
    pub tag: u16,
    /// What it is for.
    pub state: KeyState,
    /// The public half as a record.
    pub dnskey: DNSKEY,
    /// When it came into that state.
    pub since: UnixSeconds,
    private: EcdsaSigningKey,
}

/// All keys of the zone.
#[derive(Debug, Default)]
pub struct ZoneKeys(Vec<ZoneKey>);

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    #[serde(default, rename = "key")]
    keys: Vec<Entry>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    tag: u16,
    state: KeyState,
    since: UnixSeconds,
}

impl std::fmt::Debug for ZoneKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ZoneKey({}, {:?})", self.tag, self.state)
    }
}

impl ZoneKey {
    fn from_der(der: &[u8], state: KeyState, since: UnixSeconds) -> Result<Self, String> {
        let private = EcdsaSigningKey::from_pkcs8(&PrivatePkcs8KeyDer::from(der), ALGORITHM)
            .map_err(|error| error.to_string())?;
        let public = private.to_public_key().map_err(|error| error.to_string())?;
        let dnskey = DNSKEY::from_key(&public);
        let tag = dnskey.calculate_key_tag().map_err(|error| error.to_string())?;
        Ok(Self { tag, state, dnskey, since, private })
    }

    /// The DS record for the parent (RFC 4509: SHA-256).
    pub fn ds(&self, zone: &Name) -> Option<DS> {
        let digest = self.dnskey.to_digest(zone, DigestType::SHA256).ok()?;
        Some(DS::new(self.tag, ALGORITHM, DigestType::SHA256, digest.as_ref().to_vec()))
    }

    pub(super) fn sign(&self, signed: &TBS) -> Option<Vec<u8>> {
        self.private.sign(signed).ok()
    }
}

impl ZoneKeys {
    /// Reads the keys in `dir`. None at all is an error: a zone whose parent has its DS must never go unsigned.
    pub fn load(dir: &Path) -> Result<Self, KeyError> {
        let entries = index(dir)?.keys;
        if entries.is_empty() {
            return Err(KeyError::None(dir.to_owned()));
        }
        let keys = entries.into_iter().map(|entry| {
            let path = key_path(dir, entry.tag);
            let malformed = |problem| KeyError::Malformed { path: path.clone(), problem };
            let io = |source| KeyError::Io { path: path.clone(), source };
            if fs::metadata(&path).map_err(io)?.mode() & 0o077 != 0 {
                return Err(KeyError::Exposed(path.clone()));
            }
            let text = fs::read_to_string(&path).map_err(io)?;
            let der = STANDARD.decode(text.trim()).map_err(|error| malformed(error.to_string()))?;
            let key = ZoneKey::from_der(&der, entry.state, entry.since).map_err(malformed)?;
            if key.tag != entry.tag { Err(malformed(format!("this is key {}", key.tag))) } else { Ok(key) }
        });
        let keys: Vec<ZoneKey> = keys.collect::<Result<_, _>>()?;
        if !keys.is_empty() && !keys.iter().any(|key| key.state == KeyState::Active) {
            return Err(KeyError::State(format!("no key in {} is active", dir.display())));
        }
        Ok(Self(keys))
    }

    /// A key that lives in memory only.
    #[cfg(test)]
    pub fn ephemeral() -> Self {
        let der = EcdsaSigningKey::generate_pkcs8(ALGORITHM).unwrap();
        Self(vec![ZoneKey::from_der(der.secret_pkcs8_der(), KeyState::Active, UnixSeconds(0)).unwrap()])
    }

    /// All keys.
    pub fn iter(&self) -> impl Iterator<Item = &ZoneKey> {
        self.0.iter()
    }

    /// Whether the zone is not signed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Makes a key in `dir`: the first one is active at once, any later one published. Returns its tag.
pub fn generate(dir: &Path, now: UnixSeconds) -> Result<u16, KeyError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| KeyError::Io { path, source }
    };
    fs::create_dir_all(dir).map_err(io(dir))?;
    let mut index = index(dir)?;
    let state = if index.keys.is_empty() { KeyState::Active } else { KeyState::Published };
    let broken = |problem: String| KeyError::Malformed { path: dir.to_owned(), problem };
    let der = EcdsaSigningKey::generate_pkcs8(ALGORITHM).map_err(|error| broken(error.to_string()))?;
    let key = ZoneKey::from_der(der.secret_pkcs8_der(), state, now).map_err(broken)?;
    let path = key_path(dir, key.tag);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(io(&path))?;
    writeln!(file, "{}", STANDARD.encode(der.secret_pkcs8_der()))
        .and_then(|()| file.sync_all())
        .map_err(io(&path))?;
    index.keys.push(Entry { tag: key.tag, state, since: now });
    save(dir, &index)?;
    Ok(key.tag)
}

/// Lets a published key sign; the one that did is retired.
pub fn activate(dir: &Path, tag: u16, now: UnixSeconds) -> Result<(), KeyError> {
    let mut index = index(dir)?;
    let key = find(&index, tag, dir)?;
    let waited = now.since(key.since).as_secs();
    if key.state != KeyState::Published {
        return Err(KeyError::State(format!("key {tag} is not waiting to be activated")));
    }
    if waited < SETTLED_AFTER {
        let left = SETTLED_AFTER - waited;
        return Err(KeyError::State(format!(
            "key {tag} was published too recently for every cache to know it; try again in {left} s"
        )));
    }
    for key in &mut index.keys {
        if key.tag == tag {
            (key.state, key.since) = (KeyState::Active, now);
        } else if key.state == KeyState::Active {
            (key.state, key.since) = (KeyState::Retired, now);
        }
    }
    save(dir, &index)
}

/// Forgets a retired key once nothing it signed can be cached any more, or a published one that is not wanted after all.
pub fn remove(dir: &Path, tag: u16, now: UnixSeconds) -> Result<(), KeyError> {
    let mut index = index(dir)?;
    let key = find(&index, tag, dir)?;
    let left = SETTLED_AFTER.saturating_sub(now.since(key.since).as_secs());
    match key.state {
        KeyState::Active => {
            return Err(KeyError::State(format!("key {tag} signs the zone; activate another one first")));
        }
        KeyState::Retired if left > 0 => {
            return Err(KeyError::State(format!(
                "key {tag} is still needed for cached signatures; try again in {left} s"
            )));
        }
        KeyState::Published | KeyState::Retired => {}
    }
    index.keys.retain(|key| key.tag != tag);
    save(dir, &index)?;
    let path = key_path(dir, tag);
    fs::remove_file(&path).map_err(|source| KeyError::Io { path, source })
}

/// When the keys in `dir` last changed; `None` when that cannot be told.
pub(super) fn changed_at(dir: &Path) -> Option<SystemTime> {
    fs::metadata(dir.join(INDEX)).and_then(|index| index.modified()).ok()
}

fn find(index: &Index, tag: u16, dir: &Path) -> Result<Entry, KeyError> {
    let found = index.keys.iter().find(|key| key.tag == tag).cloned();
    found.ok_or_else(|| KeyError::State(format!("there is no key {tag} in {}", dir.display())))
}

fn key_path(dir: &Path, tag: u16) -> PathBuf {
    dir.join(format!("{tag}.key"))
}

fn index(dir: &Path) -> Result<Index, KeyError> {
    let path = dir.join(INDEX);
    match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).map_err(|error: toml::de::Error| KeyError::Malformed {
            path,
            problem: error.message().to_owned(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Index::default()),
        Err(source) => Err(KeyError::Io { path, source }),
    }
}

fn save(dir: &Path, index: &Index) -> Result<(), KeyError> {
    let path = dir.join(INDEX);
    let new = dir.join("keys.toml.new");
    let text = toml::to_string(index).expect("an index is plain TOML");
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)
    });
    written.map_err(|source| KeyError::Io { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_lives_from_published_to_removed_in_that_order_only() {
        let dir = tempfile::tempdir().unwrap();
        let at = |hours: u64| UnixSeconds(1_000_000 + hours * 3600);
        let first = generate(dir.path(), at(0)).unwrap();
        let second = generate(dir.path(), at(1)).unwrap();
        let states = || -> Vec<(u16, KeyState)> {
            ZoneKeys::load(dir.path()).unwrap().iter().map(|key| (key.tag, key.state)).collect()
        };
        assert_eq!(states(), [(first, KeyState::Active), (second, KeyState::Published)]);
        let early = activate(dir.path(), second, at(2)).unwrap_err().to_string();
        assert!(early.contains("try again in 3600 s"), "{early}");
        activate(dir.path(), second, at(3)).unwrap();
        assert_eq!(states(), [(first, KeyState::Retired), (second, KeyState::Active)]);
        remove(dir.path(), second, at(9)).unwrap_err();
        remove(dir.path(), first, at(4)).unwrap_err();
        remove(dir.path(), first, at(5)).unwrap();
        assert_eq!(states(), [(second, KeyState::Active)]);
        activate(dir.path(), first, at(9)).unwrap_err();
        // One that was published by mistake may go at once.
        let third = generate(dir.path(), at(9)).unwrap();
        remove(dir.path(), third, at(9)).unwrap();
        assert_eq!(states(), [(second, KeyState::Active)]);
    }

    #[test]
    fn a_zone_that_should_be_signed_never_goes_unsigned_for_want_of_keys() {
        let dir = tempfile::tempdir().unwrap();
        for dir in [dir.path(), Path::new("/nonexistent/keys")] {
            let error = ZoneKeys::load(dir).unwrap_err().to_string();
            assert!(error.contains("tunnler-dns keys --dir") && error.ends_with("new"), "{error}");
        }
    }

    #[test]
    fn exposed_and_malformed_keys_are_refused_without_being_shown() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let tag = generate(dir.path(), UnixSeconds(0)).unwrap();
        let path = key_path(dir.path(), tag);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(ZoneKeys::load(dir.path()), Err(KeyError::Exposed(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "c2VjcmV0").unwrap();
        let error = ZoneKeys::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains(".key") && !error.contains("c2Vj"), "{error}");
    }
}
