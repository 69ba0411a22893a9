//! What calls cost on a localnet, read off the wire: what the simulation says, and what the ledger charged. Makes those
//! calls by itself that the writer has no verb for.

use std::sync::{Arc, Mutex};

use jsonrpsee_core::client::ClientT;
use jsonrpsee_core::params::ObjectParams;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stellar_rpc_client::Client;
use stellar_xdr::{
    AccountId, ContractId, DecoratedSignature, Hash, HostFunction, InvokeContractArgs, InvokeHostFunctionOp,
    Limits, Memo, MuxedAccount, Operation, OperationBody, Preconditions, PublicKey, ReadXdr, ScAddress,
    ScString, ScSymbol, ScVal, SequenceNumber, Signature, SignatureHint, SorobanTransactionData,
    SorobanTransactionMetaExt, Transaction, TransactionEnvelope, TransactionExt, TransactionMeta,
    TransactionV1Envelope, Uint256, VecM, WriteXdr,
};
use tunnler_chain::{Draft, Writer, read_account};
use tunnler_protocol::network::Network;
use tunnler_protocol::{Address, SecretKey};

use crate::gateway::{Answer, Call, Gateway};
use crate::world::World;

/// What one call needs, as simulated, and what was charged for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub instructions: u64,
    /// Ledger entries in the footprint.
    pub entries: u64,
    /// Bytes written.
    pub written: u64,
    /// Resource fee, in stroops.
    pub fee: u64,
    /// The rent that the ledger charged, in stroops.
    pub rent: u64,
}

/// A network whose simulations and transactions are looked at.
pub struct Meter<'w> {
    pub world: &'w World,
    pub network: Network,
    /// Where what nobody looks at is handed in.
    client: Client,
    seen: Arc<Mutex<Seen>>,
    _gateway: Gateway,
}

/// The newest answers.
#[derive(Default)]
struct Seen {
    simulation: Value,
    transaction: Value,
}

impl<'w> Meter<'w> {
    pub async fn new(world: &'w World) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let notes = seen.clone();
        let answer = move |call: Call| -> Answer {
            let notes = notes.clone();
            Box::pin(async move {
                let wanted = ["simulateTransaction", "getTransaction"].contains(&call.method.as_str());
                if !wanted {
                    return None;
                }
                let reply = call.pass().await;
                let mut notes = notes.lock().expect("notes");
                let note = if call.method == "getTransaction" {
                    &mut notes.transaction
                } else {
                    &mut notes.simulation
                };
                *note = reply.clone();
                Some(reply)
            })
        };
        let gateway = Gateway::start(&world.network, answer).await;
        let network = gateway.network(&world.network);
        let client = Client::new(&world.network.rpc[0]).expect("a URL");
        Self { world, network, client, seen, _gateway: gateway }
    }

    pub fn writer(&self, key: &SecretKey) -> Writer {
        Writer::new(self.network.clone(), key.clone()).expect("writer")
    }

    /// Sends what the writer has a verb for.
    pub async fn send(&self, draft: Draft<'_>) -> Cost {
        draft.send().await.expect("sent");
        self.cost()
    }

    /// Sends what the writer has a verb for, and tells of what it was made.
    pub async fn sent(&self, draft: Draft<'_>) -> (OperationBody, SorobanTransactionData) {
        draft.send().await.expect("sent");
        let seen = self.seen.lock().expect("notes");
        let TransactionEnvelope::Tx(envelope) = decoded(&seen.transaction["envelopeXdr"]) else {
            panic!("no other kind is sent")
        };
        (envelope.tx.operations[0].body.clone(), resources(&seen.simulation))
    }

    /// Makes a call that only `source` signs, in a ledger of its own.
    pub async fn call(&self, source: &SecretKey, contract: &str, function: &str, args: Vec<ScVal>) -> Cost {
        let (body, data, _) = self.simulate(source, contract, function, args).await;
        let hash = self.submit(source, body, data, self.sequence(source).await).await;
        self.ask("getTransaction", json!({ "hash": hash })).await;
        self.cost()
    }

    /// What a call returns that changes nothing.
    pub async fn value(&self, contract: &str, function: &str) -> ScVal {
        self.simulate(&self.world.admin, contract, function, Vec::new()).await.2
    }

    async fn simulate(
        &self,
        source: &SecretKey,
        contract: &str,
        function: &str,
        args: Vec<ScVal>,
    ) -> (OperationBody, SorobanTransactionData, ScVal) {
        let call = call_of(contract, function, args);
        let unsigned = |body| {
            TransactionEnvelope::Tx(TransactionV1Envelope {
                tx: transaction(source, 1, body, SorobanTransactionData::default()),
                signatures: VecM::default(),
            })
        };
        let mut op = InvokeHostFunctionOp { host_function: call, auth: VecM::default() };
        let envelope = unsigned(OperationBody::InvokeHostFunction(op.clone()));
        let reply = self.ask("simulateTransaction", json!({ "transaction": base64(&envelope) })).await;
        assert!(reply["error"].is_null(), "{function}: {reply}");
        let result = &reply["results"][0];
        let auth = result["auth"].as_array().into_iter().flatten().map(decoded).collect::<Vec<_>>();
        op.auth = auth.try_into().expect("few");
        (OperationBody::InvokeHostFunction(op), resources(&reply), decoded(&result["xdr"]))
    }

    /// Hands a transaction in, which a ledger includes at once, and tells its hash.
    pub async fn submit(
        &self,
        source: &SecretKey,
        body: OperationBody,
        data: SorobanTransactionData,
        sequence: i64,
    ) -> String {
        let tx = transaction(source, sequence, body, data);
        let network_id: [u8; 32] = Sha256::digest(&self.network.passphrase).into();
        let hash = tx.hash(network_id).expect("encodes");
        let [.., a, b, c, d] = *source.address().as_bytes();
        let signature = DecoratedSignature {
            hint: SignatureHint([a, b, c, d]),
            signature: Signature(source.sign_transaction_hash(&hash).to_vec().try_into().expect("64 bytes")),
        };
        let signatures = vec![signature].try_into().expect("one");
        let envelope = TransactionEnvelope::Tx(TransactionV1Envelope { tx, signatures });
        let params = json!({ "transaction": base64(&envelope) });
        let reply = request(&self.client, "sendTransaction", params).await;
        assert_eq!(reply["status"], "PENDING", "{reply}");
        Hash(hash).to_string()
    }

    pub async fn sequence(&self, key: &SecretKey) -> i64 {
        let account = read_account(&self.network, &key.address()).await.expect("read").expect("exists");
        account.sequence + 1
    }

    async fn ask(&self, method: &str, params: Value) -> Value {
        request(&Client::new(&self.network.rpc[0]).expect("a URL"), method, params).await
    }

    /// Of the transaction that was included last.
    fn cost(&self) -> Cost {
        let seen = self.seen.lock().expect("notes");
        assert_eq!(seen.transaction["status"], "SUCCESS", "{}", seen.transaction);
        let data = resources(&seen.simulation);
        let footprint = &data.resources.footprint;
        let TransactionMeta::V4(meta) = decoded(&seen.transaction["resultMetaXdr"]) else { panic!("V4") };
        let SorobanTransactionMetaExt::V1(charged) = meta.soroban_meta.expect("of a contract call").ext
        else {
            panic!("charges are told");
        };
        Cost {
            instructions: data.resources.instructions.into(),
            entries: (footprint.read_only.len() + footprint.read_write.len()) as u64,
            written: data.resources.write_bytes.into(),
            fee: data.resource_fee.unsigned_abs(),
            rent: charged.rent_fee_charged.unsigned_abs(),
        }
    }
}

pub fn address(of: &Address) -> ScVal {
    let key = PublicKey::PublicKeyTypeEd25519(Uint256(*of.as_bytes()));
    ScVal::Address(ScAddress::Account(AccountId(key)))
}

pub fn text(text: &str) -> ScVal {
    ScVal::String(ScString(text.try_into().expect("short")))
}

pub fn symbol(text: &str) -> ScSymbol {
    ScSymbol(text.try_into().expect("short"))
}

/// The operation of a call whose source gives all authority there is to give.
fn call_of(contract: &str, function: &str, args: Vec<ScVal>) -> HostFunction {
    let id = stellar_strkey::Contract::from_string(contract).expect("an id").0;
    HostFunction::InvokeContract(InvokeContractArgs {
        contract_address: ScAddress::Contract(ContractId(Hash(id))),
        function_name: symbol(function),
        args: args.try_into().expect("few"),
    })
}

async fn request(client: &Client, method: &str, params: Value) -> Value {
    let mut object = ObjectParams::new();
    for (name, value) in params.as_object().into_iter().flatten() {
        object.insert(name, value).expect("JSON");
    }
    client.client().request(method, object).await.expect("the localnet answers")
}

fn transaction(
    source: &SecretKey,
    sequence: i64,
    body: OperationBody,
    data: SorobanTransactionData,
) -> Transaction {
    Transaction {
        source_account: MuxedAccount::Ed25519(Uint256(*source.address().as_bytes())),
        fee: u32::try_from(data.resource_fee).expect("affordable") + 1_000,
        seq_num: SequenceNumber(sequence),
        cond: Preconditions::None,
        memo: Memo::None,
        operations: vec![Operation { source_account: None, body }].try_into().expect("one"),
        ext: TransactionExt::V1(data),
    }
}

fn resources(simulation: &Value) -> SorobanTransactionData {
    let mut data: SorobanTransactionData = decoded(&simulation["transactionData"]);
    let fee = simulation["minResourceFee"].as_str().expect("a fee");
    data.resource_fee = fee.parse().expect("stroops");
    data
}

fn base64(value: &impl WriteXdr) -> String {
    value.to_xdr_base64(Limits::none()).expect("encodes")
}

fn decoded<T: ReadXdr>(value: &Value) -> T {
    T::from_xdr_base64(value.as_str().expect("XDR"), Limits::depth(500)).expect("XDR")
}
