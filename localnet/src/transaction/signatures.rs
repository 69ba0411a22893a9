//! Which of an envelope's signatures count for which account, and whether all of them were needed.
//!
//! The rules of the Stellar network: signers add up until the threshold is met; a signature that nobody needs
//! spoils the transaction.

use ed25519_dalek::{Signature as Ed25519Signature, VerifyingKey};
use stellar_xdr::{AccountEntry, AccountId, DecoratedSignature, Hash, PublicKey, Signer, SignerKey, Uint256};

use crate::codec;

/// The thresholds of an account that operations ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threshold {
    Low,
    Medium,
    High,
}

/// The signatures over one hash, and which of them were used.
pub(crate) struct Signatures<'a> {
    hash: &'a Hash,
    signatures: &'a [DecoratedSignature],
    used: Vec<bool>,
}

impl<'a> Signatures<'a> {
    /// Signatures over a transaction hash, none used yet.
    pub(crate) fn new(hash: &'a Hash, signatures: &'a [DecoratedSignature]) -> Self {
        Self { hash, signatures, used: vec![false; signatures.len()] }
    }

    /// Whether the account's signers reach the threshold.
    pub(crate) fn authorize(&mut self, account: &AccountEntry, threshold: Threshold) -> bool {
        let [master, low, medium, high] = account.thresholds.0;
        let needed = match threshold {
            Threshold::Low => low,
            Threshold::Medium => medium,
            Threshold::High => high,
        };
        let mut signers = account.signers.to_vec();
        if master > 0 {
            signers.push(master_signer(&account.account_id, u32::from(master)));
        }
        self.reach(signers, u32::from(needed))
    }

    /// Whether the key behind an account id that need not exist signed.
    pub(crate) fn authorize_key(&mut self, id: &AccountId) -> bool {
        self.reach(vec![master_signer(id, 1)], 0)
    }

    /// Whether each of the extra signers that a precondition asks for signed.
    pub(crate) fn authorize_each(&mut self, keys: &[SignerKey]) -> bool {
        keys.iter().all(|key| self.reach(vec![Signer { key: key.clone(), weight: 1 }], 1))
    }

    /// Whether every signature was needed.
    pub(crate) fn all_used(&self) -> bool {
        self.used.iter().all(|used| *used)
    }

    fn reach(&mut self, mut signers: Vec<Signer>, needed: u32) -> bool {
        let mut weight = 0_u32;
        let pre_authorized = signers
            .iter()
            .find(|signer| matches!(&signer.key, SignerKey::PreAuthTx(hash) if hash.0 == self.hash.0));
        if let Some(signer) = pre_authorized {
            weight += signer.weight.min(255);
            if weight >= needed {
                return true;
            }
        }
        for (index, signature) in self.signatures.iter().enumerate() {
            let Some(position) =
                signers.iter().position(|signer| signed_by(&signer.key, self.hash, signature))
            else {
                continue;
            };
            self.used[index] = true;
            weight += signers.swap_remove(position).weight.min(255);
            if weight >= needed {
                return true;
            }
        }
        false
    }
}

fn master_signer(id: &AccountId, weight: u32) -> Signer {
    let AccountId(PublicKey::PublicKeyTypeEd25519(key)) = id;
    Signer { key: SignerKey::Ed25519(key.clone()), weight }
}

fn signed_by(signer: &SignerKey, hash: &Hash, signature: &DecoratedSignature) -> bool {
    match signer {
        SignerKey::Ed25519(key) => hint(&key.0) == signature.hint.0 && verify(key, &hash.0, signature),
        SignerKey::HashX(image) => {
            hint(&image.0) == signature.hint.0 && codec::sha256(&signature.signature).0 == image.0
        }
        SignerKey::Ed25519SignedPayload(payload) => {
            let mut expected = hint(&payload.ed25519.0);
            let tail = payload.payload.len().min(4);
            let mut payload_hint = [0_u8; 4];
            payload_hint[..tail].copy_from_slice(&payload.payload[payload.payload.len() - tail..]);
            expected.iter_mut().zip(payload_hint).for_each(|(byte, other)| *byte ^= other);
            expected == signature.hint.0 && verify(&payload.ed25519, &payload.payload, signature)
        }
        SignerKey::PreAuthTx(_) => false,
    }
}

fn hint(key: &[u8; 32]) -> [u8; 4] {
    [key[28], key[29], key[30], key[31]]
}

fn verify(key: &Uint256, message: &[u8], signature: &DecoratedSignature) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&key.0) else { return false };
    let Ok(signature) = Ed25519Signature::from_slice(&signature.signature) else { return false };
    key.verify_strict(message, &signature).is_ok()
}
