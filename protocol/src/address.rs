//! Stellar Ed25519 identities: the public [`Address`] (`G…`) and the [`SecretKey`] (`S…`).
//!
//! Never prints a secret: `Debug` of a secret shows its address. Contract addresses (`C…`) are not identities here.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stellar_strkey::ed25519::{PrivateKey, PublicKey};

/// Length of a strkey-encoded address in characters (SEP-23). It fits in a DNS label (63).
pub const STRKEY_LEN: usize = 56;

/// An Ed25519 account address that is known to be a usable key: a canonical point outside the small subgroup.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address([u8; 32]);

/// Why a text or 32 bytes are not an address or a secret key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not a strkey of the expected kind (SEP-23).
    #[error("not a Stellar account address (G…, 56 characters)")]
    NotAnAddress,
    /// The text is not an `S…` strkey.
    #[error("not a Stellar secret key (S…, 56 characters)")]
    NotASecret,
    /// The bytes are no curve point, or a point of small order.
    #[error("not a usable Ed25519 key")]
    WeakKey,
}

/// A signature that does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

impl Address {
    /// Checks that `bytes` are a canonical, full-order Ed25519 key.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::WeakKey)?;
        if key.is_weak() || key.to_edwards().compress().to_bytes() != bytes {
            return Err(KeyError::WeakKey);
        }
        Ok(Self(bytes))
    }

    /// Bytes that [`Address::from_bytes`] accepted before this program wrote them down. Others would be no danger, only
    /// an address under which nothing verifies.
    pub fn from_checked_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw public key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The address in lower case, as it appears as a DNS label.
    pub fn label(&self) -> String {
        self.to_string().to_ascii_lowercase()
    }

    /// Reads a DNS label (any case) that has the shape of an address.
    pub fn from_label(label: &str) -> Result<Self, KeyError> {
        if label.len() != STRKEY_LEN {
            return Err(KeyError::NotAnAddress);
        }
        label.to_ascii_uppercase().parse()
    }

    /// Verifies a signature strictly (no small-order components, canonical scalars).
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), BadSignature> {
        VerifyingKey::from_bytes(&self.0)
            .and_then(|key| key.verify_strict(message, &Signature::from_bytes(signature)))
            .map_err(|_| BadSignature)
    }
}

impl FromStr for Address {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let key = PublicKey::from_string(text).map_err(|_| KeyError::NotAnAddress)?;
        Self::from_bytes(key.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PublicKey(self.0).to_string().as_str())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An Ed25519 signing key in Stellar's `S…` form. Wiped from memory when dropped.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// Makes the key of a 32-byte seed. The seed must come from a cryptographic random source.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public address of this key.
    pub fn address(&self) -> Address {
        Address(self.0.verifying_key().to_bytes())
    }

    /// Signs `message`. Callers sign only domain-tagged messages that are never exactly 32 bytes long, because a
    /// Stellar transaction hash is.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        debug_assert_ne!(message.len(), 32, "32 signed bytes could be a transaction hash");
        self.0.sign(message).to_bytes()
    }

    /// Signs the hash of a Stellar transaction: the one message of exactly 32 bytes.
    pub fn sign_transaction_hash(&self, hash: &[u8; 32]) -> [u8; 64] {
        self.0.sign(hash).to_bytes()
    }

    /// The `S…` form, for writing a key file. The only way to get the secret out.
    pub fn to_strkey(&self) -> zeroize::Zeroizing<String> {
        zeroize::Zeroizing::new(PrivateKey(self.0.to_bytes()).as_unredacted().to_string().as_str().to_owned())
    }
}

impl FromStr for SecretKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let key = PrivateKey::from_string(text).map_err(|_| KeyError::NotASecret)?;
        Ok(Self::from_seed(&key.0))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.address())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_and_address_round_trip_and_debug_hides_the_secret() {
        let key = SecretKey::from_seed(&[9; 32]);
        assert_eq!(key.address().to_string(), "GD6ROJBYLKQMOW3E7N4M2YBPUHMZD7PL65VRHRMO24BOVSBV5H3BQRSL");
        assert_eq!(&**key.to_strkey(), "SAEQSCIJBEEQSCIJBEEQSCIJBEEQSCIJBEEQSCIJBEEQSCIJBEEQTDMN");
        assert_eq!(key.to_strkey().parse::<SecretKey>().unwrap().address(), key.address());
        assert_eq!(Address::from_label(&key.address().label()), Ok(key.address()));
        assert!(!format!("{key:?}").contains("SAEQ"));
    }

    #[test]
    fn weak_and_malformed_keys_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(Address::from_bytes(identity), Err(KeyError::WeakKey));
        // A contract address, a secret, a wrong checksum and lower case are not addresses.
        for text in [
            "CA6KQ5GYGI33VZB5IGWW7XXLLHR2MPEBWVDREU4P5ZGCSKRGHXBCRKXV",
            "SAEQSCIJBEEQSCIJBEEQSCIJBEEQSCIJBEEQSCIJBEEQSCIJBEEQTDMN",
            "GD6ROJBYLKQMOW3E7N4M2YBPUHMZD7PL65VRHRMO24BOVSBV5H3BQRSM",
            "gd6rojbylkqmow3e7n4m2ybpuhmzd7pl65vrhrmo24bovsbv5h3bqrsl",
            "",
        ] {
            assert_eq!(text.parse::<Address>(), Err(KeyError::NotAnAddress), "{text}");
        }
    }
}
