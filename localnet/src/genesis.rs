//! The first ledger: one root account with all lumens, the network's settings, and the native asset's contract.
//!
//! It depends on nothing but the passphrase, so that every start of a network with the same passphrase has the same ids.

mod costs;
mod settings;

use ed25519_dalek::SigningKey;
use stellar_xdr::{
    AccountEntry, AccountEntryExt, AccountId, Asset, ContractExecutable, ContractIdPreimage,
    CreateContractArgs, Hash, HashIdPreimage, HashIdPreimageContractId, HostFunction, LedgerEntry,
    LedgerEntryData, LedgerEntryExt, PublicKey, SequenceNumber, Thresholds, Uint256,
};

use crate::codec;

pub(crate) use settings::Limits;

/// Sequence of the first ledger.
pub(crate) const FIRST_LEDGER: u32 = 1;

/// Protocol version of the network, and of the host that executes contracts.
pub(crate) const PROTOCOL: u32 = 28;

/// Lumens in existence, in stroops.
pub(crate) const TOTAL_COINS: i64 = 1_000_000_000_000_000_000;

/// Fee of one classic operation, in stroops.
pub(crate) const BASE_FEE: u32 = 100;

/// Reserve of one entry, in stroops.
pub(crate) const BASE_RESERVE: u32 = 5_000_000;

/// The network id: SHA-256 of the passphrase.
pub(crate) fn network_id(passphrase: &str) -> Hash {
    codec::sha256(passphrase.as_bytes())
}

/// The root account's key: its seed is the network id, as on every Stellar network.
pub(crate) fn root_key(passphrase: &str) -> SigningKey {
    SigningKey::from_bytes(&network_id(passphrase).0)
}

/// The account of an Ed25519 key.
pub(crate) fn account_of(key: &SigningKey) -> AccountId {
    AccountId(PublicKey::PublicKeyTypeEd25519(Uint256(key.verifying_key().to_bytes())))
}

/// A fresh account without signers, domain or thresholds of its own.
pub(crate) fn new_account(id: AccountId, balance: i64, sequence: i64) -> AccountEntry {
    AccountEntry {
        account_id: id,
        balance,
        seq_num: SequenceNumber(sequence),
        num_sub_entries: 0,
        inflation_dest: None,
        flags: 0,
        home_domain: Default::default(),
        thresholds: Thresholds([1, 0, 0, 0]),
        signers: Default::default(),
        ext: AccountEntryExt::V0,
    }
}

/// Root account and settings: everything of the first ledger but the native contract, which the host itself writes.
pub(crate) fn entries(passphrase: &str) -> Vec<LedgerEntry> {
    let root = new_account(account_of(&root_key(passphrase)), TOTAL_COINS, 0);
    std::iter::once(LedgerEntryData::Account(root))
        .chain(settings::entries().into_iter().map(LedgerEntryData::ConfigSetting))
        .map(|data| LedgerEntry { last_modified_ledger_seq: FIRST_LEDGER, data, ext: LedgerEntryExt::V0 })
        .collect()
}

/// The host function that creates the native asset's contract.
pub(crate) fn native_contract_creation() -> HostFunction {
    HostFunction::CreateContract(CreateContractArgs {
        contract_id_preimage: ContractIdPreimage::Asset(Asset::Native),
        executable: ContractExecutable::StellarAsset,
    })
}

/// The id of the native asset's contract, the same for every network with this passphrase.
pub(crate) fn native_contract_id(network_id: &Hash) -> Hash {
    codec::hash_of(&HashIdPreimage::ContractId(HashIdPreimageContractId {
        network_id: network_id.clone(),
        contract_id_preimage: ContractIdPreimage::Asset(Asset::Native),
    }))
}
