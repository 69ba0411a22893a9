//! XDR in and out, with the limits of the real network, and SHA-256 over it.
//!
//! It never logs and never guesses: bytes decode completely or not at all.

use sha2::{Digest, Sha256};
use stellar_xdr::{Error, Hash, Limits, ReadXdr, WriteXdr};

/// Nesting that the network's own host accepts (`soroban-env-host`, `DEFAULT_XDR_RW_LIMITS`).
const DEPTH: u32 = 500;

/// Longest XDR read at once: a whole ledger of transactions with their changes fits many times.
const LENGTH: usize = 64 * 1024 * 1024;

fn limits() -> Limits {
    Limits { depth: DEPTH, len: LENGTH }
}

/// The XDR of a value that was decoded or built within the limits.
pub(crate) fn encode<T: WriteXdr>(value: &T) -> Vec<u8> {
    value.to_xdr(limits()).expect("values of the ledger are within the XDR limits")
}

/// As [`encode`], in standard base64.
pub(crate) fn encode_base64<T: WriteXdr>(value: &T) -> String {
    value.to_xdr_base64(limits()).expect("values of the ledger are within the XDR limits")
}

/// A value from exactly these bytes.
pub(crate) fn decode<T: ReadXdr>(bytes: &[u8]) -> Result<T, Error> {
    T::from_xdr(bytes, limits())
}

/// A value from exactly this base64.
pub(crate) fn decode_base64<T: ReadXdr>(text: &str) -> Result<T, Error> {
    T::from_xdr_base64(text, limits())
}

/// SHA-256 of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Hash {
    Hash(Sha256::digest(bytes).into())
}

/// SHA-256 of a value's XDR.
pub(crate) fn hash_of<T: WriteXdr>(value: &T) -> Hash {
    sha256(&encode(value))
}
