//! Bids for inclusion under load: raised when they are refused, and when the queue dropped a transaction silently.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use stellar_xdr::{
    Limits, TransactionResult, TransactionResultExt, TransactionResultResult as Code, WriteXdr,
};
use tunnler_chain::{Writer, read_account};

use crate::gateway::{Answer, Call, Gateway};
use crate::world::World;

/// The least that a busy network takes here, in stroops.
const PRICE: u32 = 10_000;
/// By how much a transaction's time bounds are passed.
const EXPIRY: Duration = Duration::from_secs(61);

/// Bids in the order in which they came.
type Bids = Arc<Mutex<Vec<u32>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bid_that_is_refused_is_raised() {
    let refuse = || {
        let result = TransactionResult {
            fee_charged: PRICE.into(),
            result: Code::TxInsufficientFee,
            ext: TransactionResultExt::V0,
        };
        let result = result.to_xdr_base64(Limits::none()).expect("encodes");
        json!({ "status": "ERROR", "errorResultXdr": result })
    };
    let world = World::new().await;
    let (gateway, bids) = busy(&world, refuse).await;
    let alice = world.account(2).await;
    let writer = Writer::new(gateway.network(&world.network), alice.clone()).expect("writer");
    let domain = "dear.test".parse().expect("a host");
    let before = read_account(&world.network, &alice.address()).await.expect("read").expect("exists");
    writer.set_home_domain(Some(&domain)).send().await.expect("sent");
    assert_eq!(*bids.lock().expect("bids"), [1_000, 4_000, 16_000]);
    let after = read_account(&world.network, &alice.address()).await.expect("read").expect("exists");
    assert_eq!(after.home_domain.as_deref(), Some("dear.test"));
    assert_eq!(after.sequence, before.sequence + 1, "refused bids took no sequence number");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_the_queue_dropped_is_built_again_with_a_higher_bid() {
    let world = World::new().await;
    let (gateway, bids) = busy(&world, || json!({ "status": "PENDING" })).await;
    let alice = world.account(2).await;
    let writer = Writer::new(gateway.network(&world.network), alice.clone()).expect("writer");
    let domain = "late.test".parse().expect("a host");
    let draft = writer.set_home_domain(Some(&domain));
    let time = async {
        let mut seen = None;
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let last = bids.lock().expect("bids").last().copied();
            if last != seen && last.is_some_and(|bid| bid < PRICE) {
                seen = last;
                world.net.move_clock(EXPIRY.as_secs());
                world.net.advance(1).await.expect("closed");
            }
        }
    };
    tokio::select! {
        sent = draft.send() => drop(sent.expect("sent")),
        () = time => {}
        () = tokio::time::sleep(Duration::from_secs(50)) => panic!("only {bids:?}"),
    }
    let mut bids = bids.lock().expect("bids").clone();
    // One envelope may be sent more than once.
    bids.dedup();
    assert_eq!(bids, [1_000, 4_000, 16_000]);
    let account = read_account(&world.network, &alice.address()).await.expect("read").expect("exists");
    assert_eq!(account.home_domain.as_deref(), Some("late.test"));
}

/// A network that answers bids below the price with `low`, and what was bid there.
async fn busy(world: &World, low: impl Fn() -> serde_json::Value + Send + Sync + 'static) -> (Gateway, Bids) {
    let bids = Bids::default();
    let told = bids.clone();
    let answer = move |call: Call| -> Answer {
        let bid = call.bid();
        told.lock().expect("bids").extend(bid);
        let answer = bid.filter(|bid| *bid < PRICE).map(|_| low());
        Box::pin(std::future::ready(answer))
    };
    (Gateway::start(&world.network, answer).await, bids)
}
