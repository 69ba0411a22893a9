//! What a lying endpoint can do beyond lying about entries: answers without end or measure, ledgers of the far future,
//! prices. None of it costs more than a call, and none of it ends the program.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tunnler_chain::{ChainError, EventFeed, FollowedNames, Since, Writer, history};
use tunnler_protocol::network::Network;

use crate::gateway::{Answer, Call, Gateway};
use crate::world::{World, label, wait_for};

/// Passes calls of `method` on, and answers with what `lie` makes of the reply.
fn lying(method: &'static str, lie: impl Fn(Value) -> Value + Clone + Send + Sync + 'static) -> Lie {
    Box::new(move |call: Call| {
        let lie = lie.clone();
        Box::pin(async move {
            if call.method != method {
                return None;
            }
            Some(lie(call.pass().await))
        })
    })
}

/// Answers calls of `getEvents` with pages of its own.
fn inventing(page: impl Fn() -> Value + Send + Sync + 'static) -> Lie {
    Box::new(move |call: Call| {
        let page = (call.method == "getEvents").then(&page);
        Box::pin(std::future::ready(page))
    })
}

type Lie = Box<dyn Fn(Call) -> Answer + Send + Sync>;

/// The network with the gateway as first of three endpoints, of which two must agree.
fn among_three(world: &World, gateway: &Gateway) -> Network {
    let mut network = Network { quorum: 2, ..world.network.clone() };
    network.rpc[0] = gateway.network(&world.network).rpc.remove(0);
    network
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_that_answers_without_measure_changes_nothing() {
    let world = World::with_endpoints(3, 2).await;
    let alice = world.account(2).await;
    let writer = world.writer(&alice);
    writer.register_name(&label("first"), &alice.address(), 1, None).send().await.expect("registered");
    let far = |mut health: Value| {
        health["latestLedger"] = u32::MAX.into();
        health["latestLedgerCloseTime"] = u64::MAX.to_string().into();
        health
    };
    let huge = |mut reply: Value| {
        reply["padding"] = "x".repeat(12 << 20).into();
        reply
    };
    let ahead = |mut reply: Value| {
        reply["latestLedger"] = u32::MAX.into();
        reply
    };
    let endless = |mut page: Value| {
        let event = json!({
            "type": "contract", "ledger": 1, "ledgerClosedAt": "", "contractId": "", "id": "1-1", "topic": [],
            "value": "AAAAAQ==",
        });
        page["events"] = vec![event; 1000].into();
        page
    };
    let lies = [
        lying("getHealth", far),
        lying("getLedgerEntries", huge),
        lying("getLedgerEntries", ahead),
        lying("getEvents", endless),
    ];
    for (turn, lie) in lies.into_iter().enumerate() {
        let gateway = Gateway::start(&world.network, lie).await;
        let chain = world.reader_of(among_three(&world, &gateway), FollowedNames::All);
        let known = turn + 1;
        wait_for(&chain, "what there is", |directory| directory.names.len() == known).await;
        let name = label(&format!("name{turn}"));
        writer.register_name(&name, &alice.address(), 1, None).send().await.expect("registered");
        let took = wait_for(&chain, "the new name", |directory| directory.names.contains_key(&name)).await;
        let directory = chain.handle().directory().expect("ready");
        assert!(directory.ledger.sequence < 1_000_000, "{turn}: {:?}", directory.ledger);
        assert!(took < Duration::from_secs(10), "{turn}: {took:?}");
        chain.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_for_people_come_to_an_end() {
    let world = World::new().await;
    let repeating = Gateway::start(&world.network, inventing(repeated_page)).await;
    let events = history(&repeating.network(&world.network), "nobody").await.expect("an end");
    assert_eq!(events, []);
    let mut feed = EventFeed::open(&repeating.network(&world.network), Since::Now).await.expect("opens");
    assert_eq!(feed.next().await.expect("nothing"), []);

    let next = AtomicU64::new(0);
    let rambling = move || {
        let ledger = next.fetch_add(1, Ordering::Relaxed) + 1;
        let cursor = format!("{:019}-0000000000", ledger << 32);
        json!({ "events": [], "cursor": cursor, "latestLedger": u32::MAX })
    };
    let rambling = Gateway::start(&world.network, inventing(rambling)).await;
    let endless = history(&rambling.network(&world.network), "nobody").await.expect_err("no end");
    assert!(matches!(endless, ChainError::Endless { .. }), "{endless}");
}

/// A full page that ends where it began.
fn repeated_page() -> Value {
    let event = json!({
        "type": "contract", "ledger": 1, "ledgerClosedAt": "", "contractId": "", "id": "1-1", "topic": [],
        "value": "AAAAAQ==",
    });
    json!({ "events": vec![event; 1000], "cursor": "0000000000000000001-0000000000", "latestLedger": 9 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_is_not_led_to_waste_or_panic() {
    let world = World::new().await;
    let alice = world.account(2).await;
    let writer_through =
        |gateway: &Gateway| Writer::new(gateway.network(&world.network), alice.clone()).expect("writer");
    let priceless = lying("simulateTransaction", |mut reply: Value| {
        reply["minResourceFee"] = u64::MAX.to_string().into();
        reply
    });
    let gateway = Gateway::start(&world.network, priceless).await;
    let writer = writer_through(&gateway);
    let error = writer.register_name(&label("dear"), &alice.address(), 1, None).send().await;
    assert!(matches!(error, Err(tunnler_chain::WriteError::Dear(u64::MAX))), "{error:?}");

    let never = lying("getHealth", |mut health: Value| {
        health["latestLedgerCloseTime"] = u64::MAX.to_string().into();
        health
    });
    let gateway = Gateway::start(&world.network, never).await;
    let domain = "far.test".parse().expect("a host");
    writer_through(&gateway).set_home_domain(Some(&domain)).send().await.expect("sent all the same");
}
