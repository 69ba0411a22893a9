//! Commit–reveal: a name asked for in public can be taken first by whoever orders transactions, so one commits to it
//! unseen before. A commitment binds contract, name, owner and target, and is used up by one registration.

use soroban_sdk::{Address, Bytes, BytesN, Env, String, xdr::ToXdr};

use crate::error::Error;
use crate::storage;

/// Keeps the hash from being taken for any other.
const TAG: &[u8] = b"tunnler/v1/commit\0";
/// Ledgers after which a commitment can be used: about a minute.
const YOUNGEST: u32 = 12;
/// Ledgers until which it can be used: about a day.
pub const OLDEST: u32 = 17_280;

/// Uses up the owner's commitment to this registration.
pub fn reveal(
    env: &Env,
    name: &String,
    owner: &Address,
    target: &Address,
    salt: Option<BytesN<32>>,
) -> Result<(), Error> {
    let salt = salt.ok_or(Error::SaltMissing)?;
    let hash = hash(env, name, owner, target, &salt);
    let made = storage::take_commitment(env, owner, &hash).ok_or(Error::NoCommitment)?;
    match env.ledger().sequence().saturating_sub(made) {
        ..YOUNGEST => Err(Error::CommitmentTooYoung),
        YOUNGEST..=OLDEST => Ok(()),
        _ => Err(Error::CommitmentTooOld),
    }
}

/// SHA-256 of tag, contract, name, owner and target, each as the XDR of its value (which says where it ends), and salt.
fn hash(env: &Env, name: &String, owner: &Address, target: &Address, salt: &BytesN<32>) -> BytesN<32> {
    let mut preimage = Bytes::from_slice(env, TAG);
    preimage.append(&env.current_contract_address().to_xdr(env));
    preimage.append(&name.clone().to_xdr(env));
    preimage.append(&owner.clone().to_xdr(env));
    preimage.append(&target.clone().to_xdr(env));
    preimage.extend_from_array(&salt.to_array());
    env.crypto().sha256(&preimage).to_bytes()
}
