//! Registrations that are built on one state and applied in one ledger: the slots ahead in each footprint let several
//! succeed at once, and the others do within a few ledgers.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tunnler_chain::{Draft, Writer, read_directory};
use tunnler_localnet::Closing;
use tunnler_protocol::SecretKey;

use crate::gateway::{Answer, Call, Gateway};
use crate::world::{STAKE, World, key, label, record};

/// Registrations at the same moment.
const TOGETHER: u8 = 20;
/// How many of them must succeed in the first ledger.
const AT_ONCE: usize = 4;
/// In how many ledgers all must have succeeded.
const ROUNDS: usize = 6;

/// Envelopes handed in since the last ledger.
type Handed = Arc<Mutex<HashSet<String>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_names_on_one_state_are_registered_within_six_ledgers() {
    let rounds = register_together(|writer, key| {
        let name = label(&format!("together{}", hex(key)));
        writer.register_name(&name, &key.address(), 1, None)
    });
    check("names", &rounds.await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_relays_on_one_state_are_registered_within_six_ledgers() {
    let rounds = register_together(|writer, key| writer.register_relay(key, &record(1), STAKE));
    check("relays", &rounds.await);
}

fn check(what: &str, rounds: &[usize]) {
    println!("{what} registered in each ledger: {rounds:?}");
    assert!(rounds[0] >= AT_ONCE, "{rounds:?}");
    assert!(rounds.len() <= ROUNDS, "{rounds:?}");
    assert_eq!(rounds.iter().sum::<usize>(), usize::from(TOGETHER));
}

/// How many registrations each ledger included with success.
async fn register_together(draft: impl for<'w> Fn(&'w Writer, &SecretKey) -> Draft<'w>) -> Vec<usize> {
    let world = World::without_interval().await;
    let mut keys = Vec::new();
    for seed in 100..100 + TOGETHER {
        keys.push(world.account(seed).await);
    }
    let handed = Handed::default();
    let (gateway, network) = counting(&world, handed.clone()).await;
    let writers: Vec<_> =
        keys.iter().map(|key| Writer::new(network.clone(), key.clone()).expect("writer")).collect();
    world.net.set_closing(Closing::Interval);

    let drafts: Vec<_> = writers.iter().zip(&keys).map(|(writer, key)| draft(writer, key)).collect();
    let mut sending: FuturesUnordered<_> = drafts.iter().map(|draft| draft.send()).collect();
    let mut rounds = Vec::new();
    let ledgers = async {
        let mut left = usize::from(TOGETHER);
        while left > 0 {
            // No ledger closes before all of them have been simulated and handed in.
            while handed.lock().expect("envelopes").len() < left {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            handed.lock().expect("envelopes").clear();
            world.net.advance(1).await.expect("closed");
            let directory = read_directory(&world.network).await.expect("read");
            let registered = directory.names.len() + directory.relays.len();
            rounds.push(registered - (usize::from(TOGETHER) - left));
            left = usize::from(TOGETHER) - registered;
        }
    };
    let sent = async {
        while let Some(receipt) = sending.next().await {
            receipt.expect("registered");
        }
    };
    let both = async { tokio::join!(ledgers, sent) };
    tokio::time::timeout(Duration::from_secs(50), both).await.expect("all are registered");
    drop(gateway);
    rounds
}

/// A gateway that notes the envelopes that are handed in.
async fn counting(world: &World, handed: Handed) -> (Gateway, tunnler_protocol::network::Network) {
    let answer = move |call: Call| -> Answer {
        let handed = handed.clone();
        Box::pin(async move {
            if call.method != "sendTransaction" {
                return None;
            }
            let reply = call.pass().await;
            // One that is sent again is another status.
            if reply["status"] != "PENDING" {
                return Some(reply);
            }
            let envelope = call.params["transaction"].as_str().expect("a transaction").to_owned();
            handed.lock().expect("envelopes").insert(envelope);
            Some(reply)
        })
    };
    let gateway = Gateway::start(&world.network, answer).await;
    let network = gateway.network(&world.network);
    (gateway, network)
}

/// Something that tells the keys apart within a label.
fn hex(of: &SecretKey) -> String {
    let seed = (100..100 + TOGETHER).find(|seed| key(*seed).address() == of.address());
    seed.expect("one of these keys").to_string()
}
