//! Where programs find a network descriptor: `--network FILE|local|testnet` (or `TUNNLER_NETWORK`). The one place that
//! turns that argument into a [`Network`]; the format itself is [`tunnler_protocol::network`]'s.

use std::path::{Path, PathBuf};

use tunnler_protocol::network::{Network, NetworkError};

/// The descriptor of the public test network, as shipped with this build.
const TESTNET: &str = include_str!("../../testnet.toml");

/// Why a network argument leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum DescriptorError {
    /// The file cannot be read.
    #[error("network descriptor {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a descriptor.
    #[error("network descriptor {path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: NetworkError,
    },
    /// `local` was asked for before a local network was deployed.
    #[error(
        "no local network: start one with scripts/demo --keep, or deploy to yours with scripts/deploy --network local (expected {0})"
    )]
    NoLocal(PathBuf),
    /// The contracts are not on that network yet.
    #[error(
        "the contracts are not deployed on testnet yet; scripts/deploy --network testnet shows how, or pass --network FILE"
    )]
    NotDeployed,
}

/// Resolves `local`, `testnet` or a file name.
pub fn load(network: &str) -> Result<Network, DescriptorError> {
    match network {
        "testnet" => match Network::parse(TESTNET) {
            Err(NetworkError::Value { key: "registry" | "namespace", .. }) => {
                Err(DescriptorError::NotDeployed)
            }
            parsed => parsed.map_err(|source| DescriptorError::Parse { path: "testnet.toml".into(), source }),
        },
        "local" => {
            let path = local_path();
            if path.exists() { load_file(&path) } else { Err(DescriptorError::NoLocal(path)) }
        }
        file => load_file(Path::new(file)),
    }
}

/// Where a local deployment leaves its descriptor: `tunnler/local.toml` in the user's state directory.
pub fn local_path() -> PathBuf {
    state_home().join("local.toml")
}

/// The directory that holds the state of all of a user's Tunnler programs (XDG Base Directory Specification).
pub fn state_home() -> PathBuf {
    let from = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || from("HOME").map(|home| home.join(".local/state"));
    from("XDG_STATE_HOME").or_else(home).unwrap_or_else(|| PathBuf::from("/var/lib")).join("tunnler")
}

fn load_file(path: &Path) -> Result<Network, DescriptorError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| DescriptorError::Read { path: path.to_owned(), source })?;
    let mut network =
        Network::parse(&text).map_err(|source| DescriptorError::Parse { path: path.to_owned(), source })?;
    // A relative root lies beside the descriptor that names it.
    if let (Some(root), Some(dir)) = (&mut network.acme.root, path.parent()) {
        *root = dir.join(&*root).to_string_lossy().into_owned();
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_testnet_descriptor_is_only_undeployed() {
        assert!(matches!(load("testnet"), Err(DescriptorError::NotDeployed)));
        let id = "CA6KQ5GYGI33VZB5IGWW7XXLLHR2MPEBWVDREU4P5ZGCSKRGHXBCRKXV";
        Network::parse(&TESTNET.replace("\"\"", &format!("{id:?}"))).unwrap();
    }

    #[test]
    fn a_missing_or_malformed_file_is_named() {
        let error = load("/nonexistent/net.toml").unwrap_err().to_string();
        assert!(error.contains("/nonexistent/net.toml"), "{error}");
        let error = load(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap_err().to_string();
        assert!(error.contains("unknown field"), "{error}");
    }
}
