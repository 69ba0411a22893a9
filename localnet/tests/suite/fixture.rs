//! A network in this process, accounts that sign, and a contract that does what a test asks.
//!
//! Everything goes through HTTP and base64, as for any other client.

mod probe;
mod rpc;

use anyhow::Result;
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};
use stellar_xdr::{self as xdr, Limits, ReadXdr, WriteXdr};
use tunnler_localnet::{Builder, Localnet};

pub use probe::wasm as probe_wasm;
pub use rpc::{Rpc, Sent};

/// A running network and a client of it.
pub struct Net {
    pub localnet: Localnet,
    pub rpc: Rpc,
}

/// An account with one key.
#[derive(Clone)]
pub struct Account {
    pub key: SigningKey,
}

impl Net {
    /// A network that closes ledgers only with transactions and on request.
    pub async fn start() -> Result<Self> {
        Self::start_with(Localnet::builder().no_ledger_interval()).await
    }

    pub async fn start_with(builder: Builder) -> Result<Self> {
        let localnet = builder.start().await?;
        let rpc = Rpc::new(&localnet.url());
        Ok(Self { localnet, rpc })
    }

    /// A funded account, the same for the same name.
    pub async fn account(&self, name: &str) -> Result<Account> {
        let account = Account::named(name);
        self.localnet.fund(account.key.verifying_key().to_bytes()).await?;
        Ok(account)
    }

    /// The probe contract, uploaded and deployed.
    pub async fn probe(&self, owner: &Account) -> Result<xdr::ContractId> {
        let wasm = probe::wasm()?;
        let hash = xdr::Hash(Sha256::digest(&wasm).into());
        let upload = xdr::HostFunction::UploadContractWasm(wasm.try_into()?);
        self.rpc.run(owner, upload).await?.succeeded()?;
        let create = xdr::HostFunction::CreateContractV2(xdr::CreateContractArgsV2 {
            contract_id_preimage: xdr::ContractIdPreimage::Address(xdr::ContractIdPreimageFromAddress {
                address: owner.address(),
                salt: xdr::Uint256([7; 32]),
            }),
            executable: xdr::ContractExecutable::Wasm(hash),
            constructor_args: vec![xdr::ScVal::U32(5)].try_into()?,
        });
        let deployed = self.rpc.run(owner, create).await?.succeeded()?;
        match deployed.return_value() {
            Some(xdr::ScVal::Address(xdr::ScAddress::Contract(id))) => Ok(id.clone()),
            other => anyhow::bail!("no contract but {other:?}"),
        }
    }
}

impl Account {
    pub fn named(name: &str) -> Self {
        Self { key: SigningKey::from_bytes(&Sha256::digest(name.as_bytes()).into()) }
    }

    pub fn id(&self) -> xdr::AccountId {
        xdr::AccountId(xdr::PublicKey::PublicKeyTypeEd25519(self.raw()))
    }

    pub fn raw(&self) -> xdr::Uint256 {
        xdr::Uint256(self.key.verifying_key().to_bytes())
    }

    pub fn muxed(&self) -> xdr::MuxedAccount {
        xdr::MuxedAccount::Ed25519(self.raw())
    }

    pub fn address(&self) -> xdr::ScAddress {
        xdr::ScAddress::Account(self.id())
    }

    pub fn sign(&self, hash: &[u8; 32]) -> xdr::DecoratedSignature {
        let key = self.raw().0;
        xdr::DecoratedSignature {
            hint: xdr::SignatureHint([key[28], key[29], key[30], key[31]]),
            signature: xdr::Signature(self.key.sign(hash).to_bytes().to_vec().try_into().expect("64 bytes")),
        }
    }
}

pub fn host_function(function: xdr::HostFunction) -> xdr::OperationBody {
    xdr::OperationBody::InvokeHostFunction(xdr::InvokeHostFunctionOp {
        host_function: function,
        auth: Default::default(),
    })
}

pub fn call(contract: &xdr::ContractId, function: &str, args: Vec<xdr::ScVal>) -> xdr::HostFunction {
    xdr::HostFunction::InvokeContract(xdr::InvokeContractArgs {
        contract_address: xdr::ScAddress::Contract(contract.clone()),
        function_name: function.try_into().expect("a short name"),
        args: args.try_into().expect("a few arguments"),
    })
}

/// The key of the probe's entry under a U32.
pub fn probe_key(
    contract: &xdr::ContractId,
    key: u32,
    durability: xdr::ContractDataDurability,
) -> xdr::LedgerKey {
    xdr::LedgerKey::ContractData(xdr::LedgerKeyContractData {
        contract: xdr::ScAddress::Contract(contract.clone()),
        key: xdr::ScVal::U32(key),
        durability,
    })
}

pub fn network_id() -> [u8; 32] {
    Sha256::digest(tunnler_localnet::STANDALONE_PASSPHRASE.as_bytes()).into()
}

pub fn envelope(tx: xdr::Transaction, signers: &[&Account]) -> xdr::TransactionEnvelope {
    let hash = tx.hash(network_id()).expect("a transaction within the limits");
    let signatures: Vec<_> = signers.iter().map(|signer| signer.sign(&hash)).collect();
    xdr::TransactionEnvelope::Tx(xdr::TransactionV1Envelope {
        tx,
        signatures: signatures.try_into().expect("a few signatures"),
    })
}

pub fn base64<T: WriteXdr>(value: &T) -> String {
    value.to_xdr_base64(Limits::none()).expect("values of a test can be encoded")
}

pub fn parse<T: ReadXdr>(text: &str) -> Result<T> {
    Ok(T::from_xdr_base64(text, Limits::none())?)
}
