//! Building transactions: operation, simulated resources, fee, time bounds, signature.

use std::sync::Arc;

use stellar_rpc_client::SimulateTransactionResponse;
use stellar_xdr::{
    DecoratedSignature, ExtensionPoint, Hash, HostFunction, InvokeHostFunctionOp, LedgerKey, Limits, Memo,
    MuxedAccount, Operation, OperationBody, Preconditions, ReadXdr, RestoreFootprintOp, ScVal,
    SequenceNumber, Signature, SignatureHint, SorobanAuthorizationEntry, SorobanResources,
    SorobanTransactionData, SorobanTransactionDataExt, TimeBounds, TimePoint, Transaction,
    TransactionEnvelope, TransactionExt, TransactionV1Envelope, Uint256, VecM,
};

use super::draft::Draft;
use super::{Writer, auth, verdict};
use crate::error::WriteError;
use crate::rpc::{Authority, Rpc};
use crate::value::variant_name;

/// What is bid for inclusion at first, in stroops; the ledger charges what the others bid, if that is less.
pub(super) const INCLUSION_FEE: u32 = 1_000;
/// The most a transaction of these programs may cost, in stroops: 100 XLM, for uploading a contract.
const DEAREST: u64 = 1_000_000_000;
/// Slots after the next one that are put into the footprint: as many registrations may come in between.
const SLOTS_AHEAD: u32 = 4;
/// What one slot more in the footprint may cost, in stroops; what it does not cost comes back.
const SLOT_FEE: i64 = 30_000;
/// Instructions that one slot more in the footprint costs, decoding its key included.
const SLOT_INSTRUCTIONS: u32 = 100_000;
/// The most that a relay and a name take in a slot, in bytes, as they are registered.
const RELAY_BYTES: u32 = 1_024;
const NAME_BYTES: u32 = 640;
/// Depth within which XDR is decoded; soroban's own limit.
const DEPTH: u32 = 500;

/// Whether a call takes a slot whose number depends on what is included before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextSlots {
    None,
    OfRegistry,
    OfNamespace,
}

/// A contract call with the resources it needs.
pub(super) struct Simulated {
    pub(super) body: OperationBody,
    pub(super) resources: SorobanTransactionData,
    /// What must be restored before, where the servers do not let the call do so itself (protocol 23 and later do).
    pub(super) restore: Option<Restore>,
}

/// Archived entries that a call needs.
pub(super) struct Restore(SorobanTransactionData);

/// When a transaction is valid, in Unix seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    /// Long past; makes equal transactions of two programs with one key different ones.
    pub(super) from: u64,
    /// The last ledger that may include it closes at this time.
    pub(super) until: u64,
    /// The newest ledger when it was built.
    pub(super) since: u32,
}

pub(crate) fn invoke(host_function: HostFunction) -> OperationBody {
    OperationBody::InvokeHostFunction(InvokeHostFunctionOp { host_function, auth: VecM::default() })
}

pub(super) fn is_contract_call(body: &OperationBody) -> bool {
    matches!(body, OperationBody::InvokeHostFunction(_))
}

impl Simulated {
    /// The resource fee in stroops.
    pub(super) fn fee(&self) -> u64 {
        self.resources.resource_fee.unsigned_abs()
    }

    /// Whether archived entries come back, by the call itself or before it.
    pub(super) fn restores(&self) -> bool {
        let by_itself = match &self.resources.ext {
            SorobanTransactionDataExt::V0 => false,
            SorobanTransactionDataExt::V1(ext) => !ext.archived_soroban_entries.is_empty(),
        };
        by_itself || self.restore.is_some()
    }
}

impl Restore {
    /// The resource fee in stroops.
    pub(super) fn fee(&self) -> u64 {
        self.0.resource_fee.unsigned_abs()
    }

    pub(super) fn into_transaction(self) -> (OperationBody, SorobanTransactionData) {
        (OperationBody::RestoreFootprint(RestoreFootprintOp { ext: ExtensionPoint::V0 }), self.0)
    }
}

impl Draft<'_> {
    /// Finds out what `body` needs: resources, and the signatures of the other keys.
    pub(super) async fn simulate(&self, body: &OperationBody) -> Result<Simulated, WriteError> {
        let OperationBody::InvokeHostFunction(call) = body else {
            return Err(WriteError::Argument("only contract calls are simulated".into()));
        };
        let reply = self.writer.simulate_once(body, Authority::Record).await?;
        let recorded = recorded_auth(&reply)?;
        let expires = reply.latest_ledger.saturating_add(auth::VALID_FOR);
        let network_id = self.writer.network_id();
        let source = self.writer.address();
        let signed = auth::sign(recorded, &call.host_function, &source, &self.signers, network_id, expires)?;
        let body = OperationBody::InvokeHostFunction(InvokeHostFunctionOp {
            host_function: call.host_function.clone(),
            auth: VecM::try_from(signed.entries).map_err(|_| malformed("too many signatures"))?,
        });
        // Checking signatures costs too, which recording does not see.
        let reply =
            if signed.foreign { self.writer.simulate_once(&body, Authority::Enforce).await? } else { reply };
        let mut resources = transaction_data(&reply.transaction_data, reply.min_resource_fee)?;
        self.next_slots.widen(&mut resources);
        let restore = match &reply.restore_preamble {
            Some(preamble) => {
                Some(Restore(transaction_data(&preamble.transaction_data, preamble.min_resource_fee)?))
            }
            None => None,
        };
        Ok(Simulated { body, resources, restore })
    }
}

impl Writer {
    async fn simulate_once(
        &self,
        body: &OperationBody,
        authority: Authority,
    ) -> Result<SimulateTransactionResponse, WriteError> {
        let validity = Validity { from: 0, until: 0, since: 0 };
        let transaction = self.transaction(body.clone(), None, 1, INCLUSION_FEE, validity)?;
        let envelope =
            TransactionEnvelope::Tx(TransactionV1Envelope { tx: transaction, signatures: VecM::default() });
        let envelope = Arc::new(envelope);
        let question = |rpc: Rpc| {
            let envelope = envelope.clone();
            async move { rpc.simulate(&envelope, authority).await }
        };
        let reply = self.endpoints.ask(question).await?;
        match &reply.error {
            Some(error) => Err(verdict::of_simulation(error, &reply.events)),
            None => Ok(reply),
        }
    }

    /// A transaction of this account.
    pub(super) fn transaction(
        &self,
        body: OperationBody,
        resources: Option<SorobanTransactionData>,
        sequence: i64,
        inclusion_fee: u32,
        validity: Validity,
    ) -> Result<Transaction, WriteError> {
        let resource_fee = resources.as_ref().map_or(0, |data| data.resource_fee.unsigned_abs());
        let fee = resource_fee.saturating_add(inclusion_fee.into());
        let fee = u32::try_from(fee).ok().filter(|_| fee <= DEAREST).ok_or(WriteError::Dear(fee))?;
        let operation = Operation { source_account: None, body };
        Ok(Transaction {
            source_account: MuxedAccount::Ed25519(Uint256(*self.address().as_bytes())),
            fee,
            seq_num: SequenceNumber(sequence),
            cond: Preconditions::Time(TimeBounds {
                min_time: TimePoint(validity.from),
                max_time: TimePoint(validity.until),
            }),
            memo: Memo::None,
            operations: VecM::try_from(vec![operation]).expect("one operation"),
            ext: resources.map_or(TransactionExt::V0, TransactionExt::V1),
        })
    }

    /// Signs `tx`: the envelope and its hash.
    pub(super) fn signed(&self, tx: Transaction) -> (TransactionEnvelope, [u8; 32]) {
        let hash = tx.hash(self.network_id).expect("a built transaction encodes");
        let address = self.address();
        let [.., a, b, c, d] = *address.as_bytes();
        let signature = self.key.sign_transaction_hash(&hash);
        let signature = DecoratedSignature {
            hint: SignatureHint([a, b, c, d]),
            signature: Signature(signature.to_vec().try_into().expect("64 bytes")),
        };
        let signatures = VecM::try_from(vec![signature]).expect("one signature");
        (TransactionEnvelope::Tx(TransactionV1Envelope { tx, signatures }), hash)
    }
}

impl NextSlots {
    /// Adds the slots after the one that the simulation took.
    fn widen(self, resources: &mut SorobanTransactionData) {
        let bytes = match self {
            Self::None => return,
            Self::OfRegistry => RELAY_BYTES,
            Self::OfNamespace => NAME_BYTES,
        };
        let SorobanResources { footprint, instructions, write_bytes, .. } = &mut resources.resources;
        let mut keys = footprint.read_write.to_vec();
        let Some((key, slot)) = keys.iter().filter_map(slot_of).max_by_key(|(_, slot)| *slot) else { return };
        for ahead in 1..=SLOTS_AHEAD {
            let next = with_slot(&key, slot.saturating_add(ahead));
            if !keys.contains(&next) {
                keys.push(next);
                *instructions = instructions.saturating_add(SLOT_INSTRUCTIONS);
                // What stands in a slot that was taken in between counts as written, though it stays as it is.
                *write_bytes = write_bytes.saturating_add(bytes);
                resources.resource_fee = resources.resource_fee.saturating_add(SLOT_FEE);
            }
        }
        if let Ok(keys) = VecM::try_from(keys) {
            footprint.read_write = keys;
        }
    }
}

/// `DataKey::Slot(n)` among contract data.
fn slot_of(key: &LedgerKey) -> Option<(LedgerKey, u32)> {
    let LedgerKey::ContractData(data) = key else { return None };
    match (&data.key, variant_name(&data.key)) {
        (ScVal::Vec(Some(items)), Some(b"Slot")) => match items.get(1) {
            Some(ScVal::U32(slot)) => Some((key.clone(), *slot)),
            _ => None,
        },
        _ => None,
    }
}

fn with_slot(key: &LedgerKey, slot: u32) -> LedgerKey {
    let mut key = key.clone();
    if let LedgerKey::ContractData(data) = &mut key {
        data.key = crate::value::variant("Slot", [ScVal::U32(slot)]);
    }
    key
}

fn recorded_auth(reply: &SimulateTransactionResponse) -> Result<Vec<SorobanAuthorizationEntry>, WriteError> {
    let encoded = reply.results.iter().flat_map(|result| &result.auth);
    let decode = |text| SorobanAuthorizationEntry::from_xdr_base64(text, Limits::depth(DEPTH));
    encoded.map(decode).collect::<Result<_, _>>().map_err(|error| malformed(&error.to_string()))
}

fn transaction_data(encoded: &str, fee: u64) -> Result<SorobanTransactionData, WriteError> {
    let mut data = SorobanTransactionData::from_xdr_base64(encoded, Limits::depth(DEPTH))
        .map_err(|error| malformed(&error.to_string()))?;
    data.resource_fee = i64::try_from(fee).ok().filter(|_| fee <= DEAREST).ok_or(WriteError::Dear(fee))?;
    Ok(data)
}

fn malformed(problem: &str) -> WriteError {
    WriteError::Simulation(format!(
        "the endpoint's simulation is malformed ({problem}); try another endpoint"
    ))
}

/// Network id type of XDR.
pub(super) fn network_hash(network_id: [u8; 32]) -> Hash {
    Hash(network_id)
}
