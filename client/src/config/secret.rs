//! Secrets in a configuration file: never written there, only where they are. Nothing here repeats what it read.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

/// `{ file = "PATH" }` or `{ env = "VARIABLE" }`.
#[derive(Debug, PartialEq)]
pub(crate) enum RawSecret {
    File(PathBuf),
    Env(String),
}

impl<'de> Deserialize<'de> for RawSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = RawSecret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ file = \"PATH\" } or { env = \"VARIABLE\" }")
    }

    // Without this the message would show the text, which somebody meant as the secret itself.
    fn visit_str<E: de::Error>(self, _: &str) -> Result<RawSecret, E> {
        Err(E::custom(
            "a secret does not stand in this file: say { file = \"PATH\" } or { env = \"VARIABLE\" }",
        ))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawSecret, A::Error> {
        let secret = match map.next_key::<String>()?.as_deref() {
            Some("file") => RawSecret::File(map.next_value()?),
            Some("env") => RawSecret::Env(map.next_value()?),
            _ => return Err(de::Error::custom("a secret is { file = \"PATH\" } or { env = \"VARIABLE\" }")),
        };
        match map.next_key::<String>()? {
            None => Ok(secret),
            Some(_) => Err(de::Error::custom("a secret is in a file or in a variable, not both")),
        }
    }
}

impl RawSecret {
    pub(crate) fn read(&self, base: &Path) -> Result<String, String> {
        match self {
            Self::File(path) => read_private(&base.join(path)),
            Self::Env(name) => std::env::var(name).map_err(|_| format!("the variable {name} is not set")),
        }
    }
}

/// The text of a file that nobody else may read.
fn read_private(path: &Path) -> Result<String, String> {
    let wrong = |problem: &dyn fmt::Display| format!("{}: {problem}", path.display());
    let metadata = std::fs::metadata(path).map_err(|error| wrong(&error))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(wrong(&format_args!("others may read it; run: chmod 600 {}", path.display())));
    }
    std::fs::read_to_string(path).map_err(|error| wrong(&error))
}
