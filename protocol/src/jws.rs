//! Compact JWS (RFC 7515) with EdDSA (RFC 8037) and one shape only: header `{alg, typ, kid}`, signer = `kid`.
//!
//! Strict by intent: canonical base64url without padding, no duplicate keys, `alg` and `typ` exact. The received
//! bytes are verified and never re-encoded.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::address::{Address, SecretKey};
use crate::json;

/// Why a compact JWS is refused.
#[derive(Debug, thiserror::Error)]
pub enum JwsError {
    /// Longer than the caller allows.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// Not three canonical base64url parts.
    #[error("not a compact JWS of three canonical base64url parts")]
    Encoding,
    /// A header or payload that is not the expected JSON.
    #[error("malformed JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// `alg` is not `EdDSA`.
    #[error("alg is {0:?}, not EdDSA")]
    Algorithm(String),
    /// `typ` is another document kind.
    #[error("typ is {found:?}, expected {expected:?}")]
    Type {
        /// What the header says.
        found: String,
        /// What the verifier asked for.
        expected: &'static str,
    },
    /// `kid` is no usable Stellar address.
    #[error("kid is not a Stellar account address")]
    KeyId,
    /// The signature does not verify under `kid`.
    #[error("the signature does not verify")]
    Signature,
}

#[derive(Serialize)]
struct HeaderOut<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: Address,
}

#[derive(Deserialize)]
struct HeaderIn {
    alg: String,
    typ: String,
    kid: String,
}

/// Signs `claims` as a compact JWS of type `typ`.
pub fn sign(
    typ: &'static str,
    key: &SecretKey,
    claims: &impl Serialize,
) -> Result<String, serde_json::Error> {
    let header = serde_json::to_vec(&HeaderOut { alg: "EdDSA", typ, kid: key.address() })?;
    let mut text = URL_SAFE_NO_PAD.encode(header);
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims)?, &mut text);
    let signature = key.sign(text.as_bytes());
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut text);
    Ok(text)
}

/// A compact JWS taken apart, not yet verified: lets callers run cheap checks before the signature.
#[derive(Debug)]
pub struct Unverified<'a> {
    signer: Address,
    payload: Vec<u8>,
    signed: &'a [u8],
    signature: [u8; 64],
}

impl<'a> Unverified<'a> {
    /// Splits and decodes `text` of at most `max` bytes, checking `alg`, `typ` and `kid`.
    pub fn parse(text: &'a str, typ: &'static str, max: usize) -> Result<Self, JwsError> {
        if text.len() > max {
            return Err(JwsError::TooLong(max));
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(JwsError::Encoding)?;
        let (header, payload) = signed.split_once('.').ok_or(JwsError::Encoding)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsError::Encoding);
        let header: HeaderIn = json::from_slice(&decode(header)?)?;
        if header.alg != "EdDSA" {
            return Err(JwsError::Algorithm(header.alg));
        }
        if header.typ != typ {
            return Err(JwsError::Type { found: header.typ, expected: typ });
        }
        Ok(Self {
            signer: header.kid.parse().map_err(|_| JwsError::KeyId)?,
            payload: decode(payload)?,
            signed: signed.as_bytes(),
            signature: decode(signature)?.try_into().map_err(|_| JwsError::Encoding)?,
        })
    }

    /// The claimed signer (`kid`).
    pub fn signer(&self) -> Address {
        self.signer
    }

    /// The claims, strictly parsed. They are only claims until [`verify`](Self::verify) succeeds.
    pub fn claims<T: serde::de::DeserializeOwned>(&self) -> Result<T, JwsError> {
        Ok(json::from_slice(&self.payload)?)
    }

    /// Checks the signature against the claimed signer.
    pub fn verify(&self) -> Result<(), JwsError> {
        self.signer.verify(self.signed, &self.signature).map_err(|_| JwsError::Signature)
    }
}
