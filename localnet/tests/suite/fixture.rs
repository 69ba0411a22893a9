//! A network in this process, accounts that sign, and a contract that does what a test asks.
//!
//! Everything goes through HTTP and base64, as for any other client.

mod probe;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ed25519_dalek::{Signer, SigningKey};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stellar_xdr::{self as xdr, Limits, ReadXdr, TransactionResultResult, WriteXdr};
use tunnler_localnet::{Builder, Localnet};

pub use probe::wasm as probe_wasm;

/// A request that takes longer than this is a failure.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running network and a client of it.
pub struct Net {
    pub localnet: Localnet,
    pub rpc: Rpc,
}

/// Plain JSON-RPC over HTTP.
#[derive(Clone)]
pub struct Rpc {
    url: String,
    http: Client<HttpConnector, Full<Bytes>>,
}

/// An account with one key.
#[derive(Clone)]
pub struct Account {
    pub key: SigningKey,
}

/// What became of a transaction.
#[derive(Debug)]
pub struct Sent {
    pub hash: String,
    /// PENDING, ERROR, …
    pub status: String,
    /// The result, from the refusal or from the ledger.
    pub result: Option<xdr::TransactionResult>,
    pub meta: Option<xdr::TransactionMetaV4>,
    pub ledger: u32,
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

impl Sent {
    /// The transaction, which must have succeeded.
    pub fn succeeded(self) -> Result<Self> {
        let code = &self.result.as_ref().with_context(|| format!("no result: {self:?}"))?.result;
        let success = matches!(
            code,
            TransactionResultResult::TxSuccess(_) | TransactionResultResult::TxFeeBumpInnerSuccess(_)
        );
        ensure!(success, "{code:?}");
        Ok(self)
    }

    /// The transaction's result code.
    pub fn code(&self) -> &TransactionResultResult {
        &self.result.as_ref().expect("a result").result
    }

    /// The result of the first operation.
    pub fn operation(&self) -> &xdr::OperationResult {
        match self.code() {
            TransactionResultResult::TxSuccess(results) | TransactionResultResult::TxFailed(results) => {
                &results[0]
            }
            other => panic!("no operation ran: {other:?}"),
        }
    }

    /// What the contract returned.
    pub fn return_value(&self) -> Option<&xdr::ScVal> {
        self.meta.as_ref()?.soroban_meta.as_ref()?.return_value.as_ref()
    }

    /// The changes of the first operation.
    pub fn changes(&self) -> &[xdr::LedgerEntryChange] {
        &self.meta.as_ref().expect("metadata").operations[0].changes.0
    }
}

impl Rpc {
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), http: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// POSTs bytes; returns status and body.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Result<(u16, Bytes)> {
        let request = hyper::Request::post(format!("{}{path}", self.url))
            .header("content-type", "application/json")
            .body(Full::new(body.into()))?;
        let exchange = async {
            let response = self.http.request(request).await?;
            let status = response.status().as_u16();
            anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
        };
        tokio::time::timeout(DEADLINE, exchange).await.context("no answer in time")?
    }

    /// Calls a method: its result, or the error's code and message.
    pub async fn try_call(&self, method: &str, params: Value) -> Result<Result<Value, (i64, String)>> {
        let request = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
        let (status, body) = self.post("/rpc", request.to_string()).await?;
        ensure!(status == 200, "HTTP status {status}");
        let mut answer: Value = serde_json::from_slice(&body)?;
        ensure!(answer["id"] == 7, "another request's answer: {answer}");
        if let Some(error) = answer.get("error") {
            let code = error["code"].as_i64().context("an error has a code")?;
            return Ok(Err((code, error["message"].as_str().unwrap_or_default().to_owned())));
        }
        Ok(Ok(answer["result"].take()))
    }

    /// Calls a method that must succeed.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value> {
        self.try_call(method, params)
            .await?
            .map_err(|(code, message)| anyhow::anyhow!("{method}: {code} {message}"))
    }

    pub async fn latest_ledger(&self) -> Result<u32> {
        let latest = self.call("getLatestLedger", json!({})).await?;
        Ok(latest["sequence"].as_u64().context("a sequence")? as u32)
    }

    /// An entry and its life.
    pub async fn entry(&self, key: &xdr::LedgerKey) -> Result<Option<(xdr::LedgerEntryData, Option<u64>)>> {
        let answer = self.call("getLedgerEntries", json!({ "keys": [base64(key)] })).await?;
        let Some(entry) = answer["entries"].get(0) else { return Ok(None) };
        let data = parse(entry["xdr"].as_str().context("xdr")?)?;
        Ok(Some((data, entry["liveUntilLedgerSeq"].as_u64())))
    }

    pub async fn account_entry(&self, account: &Account) -> Result<xdr::AccountEntry> {
        let key = xdr::LedgerKey::Account(xdr::LedgerKeyAccount { account_id: account.id() });
        match self.entry(&key).await?.context("the account exists")?.0 {
            xdr::LedgerEntryData::Account(account) => Ok(account),
            other => anyhow::bail!("no account but {other:?}"),
        }
    }

    /// An unsigned transaction with the account's next sequence number.
    pub async fn transaction(&self, source: &Account, body: xdr::OperationBody) -> Result<xdr::Transaction> {
        let sequence = self.account_entry(source).await?.seq_num.0 + 1;
        Ok(xdr::Transaction {
            source_account: source.muxed(),
            fee: 1_000,
            seq_num: xdr::SequenceNumber(sequence),
            cond: xdr::Preconditions::None,
            memo: xdr::Memo::None,
            operations: vec![xdr::Operation { source_account: None, body }].try_into()?,
            ext: xdr::TransactionExt::V0,
        })
    }

    /// Simulates a transaction.
    pub async fn simulate(&self, transaction: &xdr::Transaction) -> Result<Value> {
        let envelope = envelope(transaction.clone(), &[]);
        self.call("simulateTransaction", json!({ "transaction": base64(&envelope) })).await
    }

    /// A transaction with the resources, authorisations and fee that a simulation found.
    pub async fn prepared(&self, source: &Account, body: xdr::OperationBody) -> Result<xdr::Transaction> {
        let mut transaction = self.transaction(source, body).await?;
        let simulated = self.simulate(&transaction).await?;
        ensure!(simulated.get("error").is_none(), "{}", simulated["error"]);
        let data: xdr::SorobanTransactionData =
            parse(simulated["transactionData"].as_str().context("data")?)?;
        transaction.fee = u32::try_from(data.resource_fee)? + 100;
        transaction.ext = xdr::TransactionExt::V1(data);
        let mut operations = transaction.operations.to_vec();
        if let xdr::OperationBody::InvokeHostFunction(invoke) = &mut operations[0].body {
            let auth = simulated["results"][0]["auth"].as_array().cloned().unwrap_or_default();
            let auth: Vec<xdr::SorobanAuthorizationEntry> =
                auth.iter().map(|entry| parse(entry.as_str().unwrap_or_default())).collect::<Result<_>>()?;
            invoke.auth = auth.try_into()?;
        }
        transaction.operations = operations.try_into()?;
        Ok(transaction)
    }

    /// Simulates, signs and sends a host function.
    pub async fn run(&self, source: &Account, function: xdr::HostFunction) -> Result<Sent> {
        let transaction = self.prepared(source, host_function(function)).await?;
        self.send(transaction, &[source]).await
    }

    /// Calls a contract.
    pub async fn invoke(
        &self,
        source: &Account,
        contract: &xdr::ContractId,
        function: &str,
        args: Vec<xdr::ScVal>,
    ) -> Result<Sent> {
        self.run(source, call(contract, function, args)).await
    }

    /// Signs and sends a transaction, and reads what became of it.
    pub async fn send(&self, transaction: xdr::Transaction, signers: &[&Account]) -> Result<Sent> {
        self.send_envelope(&envelope(transaction, signers)).await
    }

    pub async fn send_envelope(&self, envelope: &xdr::TransactionEnvelope) -> Result<Sent> {
        let answer = self.call("sendTransaction", json!({ "transaction": base64(envelope) })).await?;
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        let mut sent = Sent {
            hash: text("hash").context("a hash")?,
            status: text("status").context("a status")?,
            result: text("errorResultXdr").map(|result| parse(&result)).transpose()?,
            meta: None,
            ledger: 0,
        };
        if sent.status == "PENDING" {
            let closed = self.call("getTransaction", json!({ "hash": sent.hash })).await?;
            if closed["status"] != "NOT_FOUND" {
                sent.result = Some(parse(closed["resultXdr"].as_str().context("resultXdr")?)?);
                sent.ledger = closed["ledger"].as_u64().context("ledger")? as u32;
                match parse(closed["resultMetaXdr"].as_str().context("resultMetaXdr")?)? {
                    xdr::TransactionMeta::V4(meta) => sent.meta = Some(meta),
                    other => anyhow::bail!("metadata of another form: {other:?}"),
                }
            }
        }
        Ok(sent)
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
