//! Accounts that sign for themselves, as they do on the network.

use std::rc::Rc;

use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};
use soroban_sdk::testutils::Ledger as _;
use soroban_sdk::xdr::{self, WriteXdr};
use soroban_sdk::{Address, Env, TryFromVal};

use crate::FUNDS;

/// An Ed25519 account and its secret.
#[derive(Clone)]
pub struct Key {
    /// The account.
    pub address: Address,
    secret: SigningKey,
}

impl Key {
    /// An account on the ledger, with [`FUNDS`] when it is new there.
    pub(crate) fn funded(env: &Env, seed: u8) -> Self {
        let secret = SigningKey::from_bytes(&[seed; 32]);
        let public = xdr::Uint256(secret.verifying_key().to_bytes());
        let account_id = xdr::AccountId(xdr::PublicKey::PublicKeyTypeEd25519(public));
        let key = Rc::new(xdr::LedgerKey::Account(xdr::LedgerKeyAccount { account_id: account_id.clone() }));
        if env.host().get_ledger_entry(&key).expect("the ledger is there").is_none() {
            let entry = Rc::new(account_entry(account_id.clone()));
            env.host().add_ledger_entry(&key, &entry, None).expect("the ledger takes accounts");
        }
        let address = xdr::ScAddress::Account(account_id);
        Self { address: Address::try_from_val(env, &address).expect("an account's address"), secret }
    }

    /// This account's signature under an invocation.
    pub(crate) fn authorise(
        &self,
        env: &Env,
        nonce: i64,
        invocation: xdr::SorobanAuthorizedInvocation,
    ) -> xdr::SorobanAuthorizationEntry {
        let signature_expiration_ledger = env.ledger().sequence() + 100;
        let payload = xdr::HashIdPreimage::SorobanAuthorization(xdr::HashIdPreimageSorobanAuthorization {
            network_id: xdr::Hash(env.ledger().get().network_id),
            nonce,
            signature_expiration_ledger,
            invocation: invocation.clone(),
        });
        let payload = payload.to_xdr(xdr::Limits::none()).expect("an invocation encodes");
        let signature = self.secret.sign(&Sha256::digest(payload)).to_bytes();
        let fields = [
            ("public_key", self.secret.verifying_key().to_bytes().to_vec()),
            ("signature", signature.to_vec()),
        ]
        .map(|(name, bytes)| xdr::ScMapEntry {
            key: xdr::ScVal::Symbol(name.try_into().expect("a symbol")),
            val: xdr::ScVal::Bytes(bytes.try_into().expect("a few bytes")),
        });
        let signature = xdr::ScVal::Map(Some(xdr::ScMap(fields.to_vec().try_into().expect("two fields"))));
        let signatures = xdr::ScVec(vec![signature].try_into().expect("one signature"));
        xdr::SorobanAuthorizationEntry {
            credentials: xdr::SorobanCredentials::Address(xdr::SorobanAddressCredentials {
                address: (&self.address).into(),
                nonce,
                signature_expiration_ledger,
                signature: xdr::ScVal::Vec(Some(signatures)),
            }),
            root_invocation: invocation,
        }
    }
}

fn account_entry(account_id: xdr::AccountId) -> xdr::LedgerEntry {
    xdr::LedgerEntry {
        data: xdr::LedgerEntryData::Account(xdr::AccountEntry {
            account_id,
            balance: FUNDS.try_into().expect("fits an account"),
            flags: 0,
            home_domain: Default::default(),
            inflation_dest: None,
            num_sub_entries: 0,
            seq_num: xdr::SequenceNumber(0),
            thresholds: xdr::Thresholds([1; 4]),
            signers: xdr::VecM::default(),
            ext: xdr::AccountEntryExt::V0,
        }),
        last_modified_ledger_seq: 0,
        ext: xdr::LedgerEntryExt::V0,
    }
}
