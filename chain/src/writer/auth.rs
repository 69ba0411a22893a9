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

#[cfg(test)]
mod tests {
    use stellar_xdr::{InvokeContractArgs, SorobanAuthorizedInvocation, VecM};

    use super::*;
    use crate::value::{sc_account, sc_contract, symbol};

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    fn call(function: &str) -> InvokeContractArgs {
        InvokeContractArgs {
            contract_address: sc_contract([7; 32]),
            function_name: symbol(function),
            args: VecM::default(),
        }
    }

    fn asked(of: &SecretKey, function: &str) -> SorobanAuthorizationEntry {
        SorobanAuthorizationEntry {
            credentials: SorobanCredentials::Address(SorobanAddressCredentials {
                address: sc_account(&of.address()),
                nonce: 1,
                signature_expiration_ledger: 0,
                signature: ScVal::Void,
            }),
            root_invocation: SorobanAuthorizedInvocation {
                function: SorobanAuthorizedFunction::ContractFn(call(function)),
                sub_invocations: VecM::default(),
            },
        }
    }

    fn signed(asked: SorobanAuthorizationEntry, signers: &[SecretKey]) -> Result<Signed, WriteError> {
        let host_function = HostFunction::InvokeContract(call("transfer"));
        sign(vec![asked], &host_function, &key(1).address(), signers, [0; 32], 99)
    }

    #[test]
    fn only_the_very_call_is_signed_and_only_by_its_keys() {
        let signed_call = signed(asked(&key(2), "transfer"), &[key(2)]).unwrap();
        assert!(signed_call.foreign);
        let SorobanCredentials::Address(credentials) = &signed_call.entries[0].credentials else { panic!() };
        assert_eq!(credentials.signature_expiration_ledger, 99);
        assert_ne!((credentials.nonce, &credentials.signature), (1, &ScVal::Void));

        let other = signed(asked(&key(2), "release"), &[key(2)]).err().expect("not what was asked for");
        assert!(other.to_string().contains("something else than this call"), "{other}");
        let missing = signed(asked(&key(3), "transfer"), &[key(2)]).err().expect("no such key");
        assert!(
            matches!(missing, WriteError::MissingSigner(address) if address == key(3).address().to_string())
        );
    }
}
