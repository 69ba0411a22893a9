//! Signatures of keys other than the transaction's source (an operator beside its relay, a receiver beside the giver). An
//! endpoint proposes what is to be signed; nothing is signed but the very call of the draft.

use rand::Rng;
use sha2::{Digest, Sha256};
use stellar_xdr::{
    HashIdPreimage, HashIdPreimageSorobanAuthorization, HashIdPreimageSorobanAuthorizationWithAddress,
    HostFunction, Limits, ScAddress, ScVal, SorobanAddressCredentials, SorobanAuthorizationEntry,
    SorobanAuthorizedFunction, SorobanCredentials, WriteXdr,
};
use tunnler_protocol::{Address, SecretKey};

use super::assemble::network_hash;
use crate::error::WriteError;
use crate::value::{account, bytes, structure, vector};

/// Ledgers for which such a signature is valid: five minutes.
pub(super) const VALID_FOR: u32 = 60;

/// The authorisation of a call.
pub(super) struct Signed {
    pub(super) entries: Vec<SorobanAuthorizationEntry>,
    /// Whether another key than the source's signed.
    pub(super) foreign: bool,
}

/// Signs what `recorded` asks of `signers`. The source's authority is the transaction's signature.
pub(super) fn sign(
    recorded: Vec<SorobanAuthorizationEntry>,
    call: &HostFunction,
    source: &Address,
    signers: &[SecretKey],
    network_id: [u8; 32],
    expires: u32,
) -> Result<Signed, WriteError> {
    let mut signed = Signed { entries: Vec::new(), foreign: false };
    for mut entry in recorded {
        let versioned = matches!(entry.credentials, SorobanCredentials::AddressV2(_));
        match &mut entry.credentials {
            SorobanCredentials::SourceAccount => {}
            SorobanCredentials::Address(credentials) | SorobanCredentials::AddressV2(credentials) => {
                let key = signer(&credentials.address, source, signers)?;
                if !is_call(&entry.root_invocation.function, call) {
                    let problem =
                        "the endpoint asks for a signature of something else than this call; try another";
                    return Err(WriteError::Simulation(problem.into()));
                }
                // The nonce is ours, not the endpoint's, so that two calls never share one.
                credentials.nonce = rand::rng().random();
                credentials.signature_expiration_ledger = expires;
                let preimage = preimage(credentials, &entry.root_invocation, network_id, versioned);
                let hash: [u8; 32] = Sha256::digest(
                    preimage
                        .to_xdr(Limits::none())
                        .map_err(|error| WriteError::Simulation(error.to_string()))?,
                )
                .into();
                credentials.signature = signature(key, &hash);
                signed.foreign = true;
            }
            SorobanCredentials::AddressWithDelegates(_) => {
                return Err(WriteError::Simulation("an authorisation of an unknown kind is needed".into()));
            }
        }
        signed.entries.push(entry);
    }
    Ok(signed)
}

fn signer<'k>(
    address: &ScAddress,
    source: &Address,
    signers: &'k [SecretKey],
) -> Result<&'k SecretKey, WriteError> {
    let wanted = account(address);
    let key = signers.iter().find(|key| wanted == Some(key.address()) && key.address() != *source);
    key.ok_or_else(|| WriteError::MissingSigner(address.to_string()))
}

fn is_call(function: &SorobanAuthorizedFunction, call: &HostFunction) -> bool {
    match (function, call) {
        (SorobanAuthorizedFunction::ContractFn(args), HostFunction::InvokeContract(call)) => args == call,
        _ => false,
    }
}

fn preimage(
    credentials: &SorobanAddressCredentials,
    invocation: &stellar_xdr::SorobanAuthorizedInvocation,
    network_id: [u8; 32],
    versioned: bool,
) -> HashIdPreimage {
    let network_id = network_hash(network_id);
    let (nonce, signature_expiration_ledger) = (credentials.nonce, credentials.signature_expiration_ledger);
    if versioned {
        return HashIdPreimage::SorobanAuthorizationWithAddress(
            HashIdPreimageSorobanAuthorizationWithAddress {
                network_id,
                nonce,
                signature_expiration_ledger,
                address: credentials.address.clone(),
                invocation: invocation.clone(),
            },
        );
    }
    HashIdPreimage::SorobanAuthorization(HashIdPreimageSorobanAuthorization {
        network_id,
        nonce,
        signature_expiration_ledger,
        invocation: invocation.clone(),
    })
}

/// The form in which a classic account's signatures are checked: a vector of public key and signature.
fn signature(key: &SecretKey, hash: &[u8; 32]) -> ScVal {
    let public = bytes(key.address().as_bytes());
    let signature = bytes(&key.sign_transaction_hash(hash));
    vector([structure([("public_key", public), ("signature", signature)])])
}
