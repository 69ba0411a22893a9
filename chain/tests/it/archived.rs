//! Calls after the ledger has archived what they need: the call restores it, or, where servers ask for that, a
//! transaction before it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use stellar_xdr::{
    ExtensionPoint, LedgerFootprint, LedgerKey, Limits, Memo, Operation, OperationBody, Preconditions,
    ReadXdr, RestoreFootprintOp, SequenceNumber, SorobanTransactionData, SorobanTransactionDataExt,
    Transaction, TransactionEnvelope, TransactionExt, TransactionV1Envelope, VecM, WriteXdr,
};
use tunnler_chain::{Writer, read_name};
use tunnler_protocol::directory::RelayStatus;

use crate::gateway::{Answer, Call, Gateway};
use crate::world::{STAKE, World, label, record};

/// Ledgers that a contract's code lives, which nobody extends.
const LIFE: u32 = 120_960;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_archived_is_restored_and_paid_for_once() {
    let world = World::new().await;
    let (alice, name) = (world.account(2).await, label("mynode"));
    let writer = world.writer(&alice);
    writer.register_name(&name, &alice.address(), 1, None).send().await.expect("registered");
    writer.register_relay(&alice, &record(1), STAKE).send().await.expect("registered");
    let usual = writer.renew_name(&name, 1).quote().await.expect("priced");
    let expires = read_name(&world.network, &name).await.expect("read").expect("there").expires_at;
    world.net.advance(LIFE).await.expect("advanced");

    // The code of both contracts is archived; the call of a name brings that of its contract back by itself.
    let cost = writer.renew_name(&name, 1).quote().await.expect("priced");
    assert!(cost.restores && !usual.restores && cost.fee > usual.fee, "{cost:?} {usual:?}");
    let receipt = writer.renew_name(&name, 1).send().await.expect("renewed");
    assert!(u64::try_from(receipt.fee_charged).expect("a fee") <= cost.fee);
    assert!(!writer.renew_name(&name, 1).quote().await.expect("priced").restores, "it is there again");
    let renewed = read_name(&world.network, &name).await.expect("read").expect("there").expires_at;
    assert!(renewed > expires);

    // Servers before protocol 23 ask for a transaction of its own, here for the contract of relays.
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let gateway = Gateway::start(&world.network, move |call| older(call, counter.clone())).await;
    let older = Writer::new(gateway.network(&world.network), alice.clone()).expect("writer");
    let cost = older.heartbeat(3).quote().await.expect("priced");
    assert!(cost.restores && cost.fee > cost.resource_fee + 2_000, "the restoration is priced too: {cost:?}");
    older.heartbeat(3).send().await.expect("heartbeat");
    assert_eq!(sent.swap(0, Ordering::Relaxed), 2, "a restoration, then the call");
    older.set_status(RelayStatus::Draining).send().await.expect("drains");
    assert_eq!(sent.load(Ordering::Relaxed), 1, "nothing is restored twice");
}

/// Answers as before protocol 23: archived entries are named in a preamble instead of the transaction's own data.
fn older(call: Call, sent: Arc<AtomicUsize>) -> Answer {
    Box::pin(async move {
        match call.method.as_str() {
            "sendTransaction" => {
                sent.fetch_add(1, Ordering::Relaxed);
                None
            }
            "simulateTransaction" => {
                let mut reply = call.pass().await;
                let mut data = decoded(&reply);
                let SorobanTransactionDataExt::V1(ext) = &data.ext else { return Some(reply) };
                let keys = &data.resources.footprint.read_write;
                let archived: Vec<LedgerKey> =
                    ext.archived_soroban_entries.iter().map(|index| keys[*index as usize].clone()).collect();
                let preamble = restoration(&call, archived).await;
                reply["restorePreamble"] = json!({
                    "transactionData": preamble["transactionData"],
                    "minResourceFee": preamble["minResourceFee"],
                });
                data.ext = SorobanTransactionDataExt::V0;
                reply["transactionData"] = data.to_xdr_base64(Limits::none()).expect("encodes").into();
                Some(reply)
            }
            _ => None,
        }
    })
}

/// Simulates the restoration of `archived`.
async fn restoration(call: &Call, archived: Vec<LedgerKey>) -> Value {
    let TransactionEnvelope::Tx(asked) = call.envelope() else { panic!("no other kind is simulated") };
    let mut data = SorobanTransactionData::default();
    data.resources.footprint =
        LedgerFootprint { read_only: VecM::default(), read_write: archived.try_into().expect("a few keys") };
    let body = OperationBody::RestoreFootprint(RestoreFootprintOp { ext: ExtensionPoint::V0 });
    let tx = Transaction {
        source_account: asked.tx.source_account,
        fee: 100,
        seq_num: SequenceNumber(1),
        cond: Preconditions::None,
        memo: Memo::None,
        operations: vec![Operation { source_account: None, body }].try_into().expect("one"),
        ext: TransactionExt::V1(data),
    };
    let envelope = TransactionEnvelope::Tx(TransactionV1Envelope { tx, signatures: VecM::default() });
    let envelope = envelope.to_xdr_base64(Limits::none()).expect("encodes");
    call.ask("simulateTransaction", &json!({ "transaction": envelope })).await
}

fn decoded(reply: &Value) -> SorobanTransactionData {
    let text = reply["transactionData"].as_str().expect("a simulation that succeeds");
    SorobanTransactionData::from_xdr_base64(text, Limits::depth(500)).expect("XDR")
}
