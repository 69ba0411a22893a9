//! The file of `--acme`: a certificate authority other than the network's, or another way of using it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tunnler_edge::acme::{CertificateAuthority, ExternalAccount};
use tunnler_protocol::network::Network;

use crate::error::ClientError;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAuthority {
    directory: Option<String>,
    issuer: Option<String>,
    root: Option<PathBuf>,
    profile: Option<String>,
    external: Option<RawExternal>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExternal {
    id: String,
    key: String,
}

impl std::fmt::Debug for RawExternal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawExternal").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The network's own.
pub(crate) fn of_network(network: &Network) -> CertificateAuthority {
    let acme = &network.acme;
    CertificateAuthority {
        root: acme.root.clone().map(Into::into),
        ..CertificateAuthority::new(acme.directory.clone(), acme.issuer.clone())
    }
}

/// Reads and checks `file`. What it does not say is as in `network`; relative paths in it begin at its directory.
pub(crate) fn read(file: &Path, network: &Network) -> Result<CertificateAuthority, ClientError> {
    let wrong = |problem: String| ClientError::Usage(format!("{}: {problem}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let raw: RawAuthority = toml::from_str(&text).map_err(|error| wrong(error.message().to_owned()))?;
    let usual = of_network(network);
    let (directory, issuer, root) = match (raw.directory, raw.issuer) {
        (None, None) => (usual.directory, usual.issuer, usual.root),
        (Some(directory), Some(issuer)) if directory.starts_with("https://") => (directory, issuer, None),
        (Some(_), Some(_)) => return Err(wrong("directory is not an https URL".into())),
        _ => {
            return Err(wrong(
                "directory and issuer (the domain that CAA names it by) belong together".into(),
            ));
        }
    };
    let external = match raw.external {
        None => None,
        Some(raw) => {
            let mode =
                std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(wrong("it holds a key and others may read it; run: chmod 600 on it".into()));
            }
            let bad = || wrong("external.key is not base64url".into());
            Some(ExternalAccount::new(raw.id, &raw.key).ok_or_else(bad)?)
        }
    };
    let base = file.parent().unwrap_or(Path::new("."));
    let root = raw.root.map(|root| base.join(root)).or(root);
    Ok(CertificateAuthority { directory, issuer, root, profile: raw.profile, external })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: &str = r#"
name = "local"
passphrase = "Standalone Network ; February 2017"
rpc = ["http://127.0.0.1:8000"]
registry = "CCWAMYJME4H5CKG7OLXGC2T4M6FL52XCZ3OQOAV6LL3GLA4RO4WH3ASP"
namespace = "CCWAMYJME4H5CKG7OLXGC2T4M6FL52XCZ3OQOAV6LL3GLA4RO4WH3ASP"
[acme]
directory = "https://localhost:14000/dir"
issuer = "pebble.test"
"#;

    fn read_with(text: &str, mode: u32) -> Result<CertificateAuthority, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("acme.toml");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        read(&file, &Network::parse(NETWORK).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_file_does_not_say_is_the_networks() {
        let own = read_with("profile = \"shortlived\"", 0o644).unwrap();
        assert_eq!((own.issuer.as_str(), own.profile.as_deref()), ("pebble.test", Some("shortlived")));
        let text = "directory = \"https://ca.example/acme\"\nissuer = \"ca.example\"\nroot = \"ca.pem\"\n";
        let other = read_with(text, 0o644).unwrap();
        assert!(other.root.unwrap().ends_with("ca.pem"));
        assert_eq!(other.directory, "https://ca.example/acme");
    }

    #[test]
    fn the_example_of_the_guide_is_read() {
        let guide = include_str!("../../docs/publisher.md");
        let mut examples = guide.split("```toml\n").filter_map(|rest| rest.split("```").next());
        let example = examples.find(|text| text.starts_with("directory = ")).unwrap();
        let read = read_with(example, 0o600).unwrap();
        assert!(read.external.is_some() && read.root.is_some() && read.profile.is_some());
    }

    #[test]
    fn mistakes_are_told_and_secrets_kept() {
        let bound = "[external]\nid = \"7\"\nkey = \"AAAA\"\n";
        assert!(read_with(bound, 0o600).unwrap().external.is_some());
        for (text, mode, says) in [
            (bound, 0o640, "chmod 600"),
            ("[external]\nid = \"7\"\nkey = \"!\"\n", 0o600, "not base64url"),
            ("issuer = \"ca.example\"", 0o644, "belong together"),
            ("issuer = \"a\"\ndirectory = \"http://a\"", 0o644, "https"),
            ("colour = 1", 0o644, "colour"),
        ] {
            let error = read_with(text, mode).unwrap_err();
            assert!(error.contains(says) && error.lines().count() == 1, "{error:?} does not say {says:?}");
        }
    }
}
