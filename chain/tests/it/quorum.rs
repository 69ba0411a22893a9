//! Several endpoints: agreement, liars, lag, outages.

use std::collections::BTreeMap;
use std::time::Duration;

use stellar_xdr::{
    ContractDataDurability, ContractId, Hash, LedgerKey, LedgerKeyContractData, Limits, ScAddress, ScSymbol,
    ScVal, ScVec, WriteXdr,
};
use tunnler_chain::FollowedNames;
use tunnler_chain::read::read_relays;
use tunnler_chain::status::Alarm;
use tunnler_localnet::FaultSwitches;
use tunnler_protocol::time::UnixSeconds;

use crate::world::{POLL, World, label, wait_for};

pub fn name_slot(world: &World, slot: u32) -> String {
    let id = stellar_strkey::Contract::from_string(&world.network.namespace).unwrap().0;
    let key = LedgerKey::ContractData(LedgerKeyContractData {
        contract: ScAddress::Contract(ContractId(Hash(id))),
        key: ScVal::Vec(Some(ScVec(
            vec![ScVal::Symbol(ScSymbol("Slot".try_into().unwrap())), ScVal::U32(slot)].try_into().unwrap(),
        ))),
        durability: ContractDataDurability::Persistent,
    });
    key.to_xdr_base64(Limits::none()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_changes_nothing_and_is_named() {
    let world = World::with_endpoints(3, 2).await;
    let alice = world.account(2).await;
    let writer = world.writer(&alice);
    writer.register_name(&label("honest"), &alice.address(), 1, None).send().await.expect("registered");
    // The third endpoint denies that the name exists, from the start.
    let lie = FaultSwitches {
        forged: BTreeMap::from([(name_slot(&world, 0), String::new())]),
        ..FaultSwitches::default()
    };
    world.net.set_faults(2, lie).await;
    let chain = world.reader(FollowedNames::All);
    let directory = chain.wait_ready(Duration::from_secs(10)).await.expect("ready");
    assert!(directory.names.contains_key(&label("honest")));
    // Every change of the name is lied about; every change is seen.
    for years in [1, 1] {
        let before = chain.handle().directory().unwrap().names[&label("honest")].expires_at;
        writer.renew_name(&label("honest"), years).send().await.expect("renewed");
        wait_for(&chain, "the renewal", |directory| directory.names[&label("honest")].expires_at > before)
            .await;
    }
    chain.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_disagree_keep_the_last_state_and_raise_an_alarm() {
    let world = World::with_endpoints(2, 2).await;
    let alice = world.account(2).await;
    let writer = world.writer(&alice);
    for name in ["first", "second"] {
        writer.register_name(&label(name), &alice.address(), 1, None).send().await.expect("registered");
    }
    let chain = world.reader(FollowedNames::All);
    wait_for(&chain, "both names", |directory| directory.names.len() == 2).await;
    let before = chain.handle().directory().unwrap().names[&label("first")].clone();
    let lie = FaultSwitches {
        forged: BTreeMap::from([(name_slot(&world, 0), String::new())]),
        ..FaultSwitches::default()
    };
    world.net.set_faults(1, lie).await;
    writer.renew_name(&label("first"), 1).send().await.expect("renewed");
    writer.renew_name(&label("second"), 1).send().await.expect("renewed");
    // What they agree on goes on; what they contradict each other about stays.
    wait_for(&chain, "the undisputed renewal", |directory| {
        directory.names[&label("second")].expires_at > before.expires_at
    })
    .await;
    let disputed = poll(&chain.handle(), |status| status.disputed == 1).await;
    assert!(disputed, "{:#?}", chain.handle().status());
    let alarms = chain.handle().status().alarms(UnixSeconds(0));
    assert!(alarms.contains(&Alarm::Disagreement { entries: 1 }), "{alarms:?}");
    assert_eq!(chain.handle().directory().unwrap().names[&label("first")], before);
    // The truth is told again.
    world.net.set_faults(1, FaultSwitches::default()).await;
    wait_for(&chain, "the disputed renewal", |directory| {
        directory.names[&label("first")].expires_at > before.expires_at
    })
    .await;
    chain.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_of_another_network_or_one_that_stands_still_does_not_count() {
    let world = World::with_endpoints(3, 2).await;
    let alice = world.account(2).await;
    let writer = world.writer(&alice);
    let foreign = FaultSwitches { passphrase: Some("Another Network".into()), ..FaultSwitches::default() };
    world.net.set_faults(0, foreign).await;
    let chain = world.reader(FollowedNames::All);
    chain.wait_ready(Duration::from_secs(10)).await.expect("ready");
    let status = chain.handle().status();
    assert!(status.endpoints[0].last_error.as_deref().unwrap().contains("another network"), "{status:#?}");
    world.net.set_faults(0, FaultSwitches::default()).await;
    world.net.set_faults(1, FaultSwitches { stale: true, ..FaultSwitches::default() }).await;
    world.net.advance(20).await.expect("advanced");
    writer.register_name(&label("later"), &alice.address(), 1, None).send().await.expect("registered");
    wait_for(&chain, "the name, by the other two", |directory| directory.names.len() == 1).await;
    let set_aside = poll(&chain.handle(), |status| {
        status.endpoints[1].last_error.as_deref().is_some_and(|error| error.contains("behind the others"))
    })
    .await;
    assert!(set_aside, "{:#?}", chain.handle().status());
    chain.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_needs_no_endpoint() {
    let world = World::with_endpoints(2, 2).await;
    let alice = world.account(2).await;
    let writer = world.writer(&alice);
    writer.register_name(&label("kept"), &alice.address(), 1, None).send().await.expect("registered");
    let state = tempfile::tempdir().expect("a directory");
    let chain = world.reader_kept(FollowedNames::All, Some(state.path().into()));
    wait_for(&chain, "the name", |directory| directory.names.len() == 1).await;
    chain.shutdown().await;

    for endpoint in 0..2 {
        world.net.set_faults(endpoint, FaultSwitches { down: true, ..FaultSwitches::default() }).await;
    }
    // What keeps nothing gives up soon.
    let asked = std::time::Instant::now();
    let refused = read_relays(&world.network).await.expect_err("no endpoint").to_string();
    assert!(asked.elapsed() < Duration::from_secs(10) && refused.contains("agreement of 2"), "{refused}");
    let started = std::time::Instant::now();
    let chain = world.reader_kept(FollowedNames::All, Some(state.path().into()));
    let directory = chain.handle().directory().expect("served at once");
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
    assert!(directory.names.contains_key(&label("kept")));
    let closed_at = directory.ledger.closed_at;
    let status = chain.handle().status();
    assert_eq!(status.age(UnixSeconds(closed_at.0 + 400)), Some(Duration::from_secs(400)));
    let alarms = status.alarms(UnixSeconds(closed_at.0 + 400));
    assert!(alarms.contains(&Alarm::Stale { age: 400 }) && alarms.contains(&Alarm::NoQuorum { usable: 0 }));
    // What happened meanwhile is caught up with.
    for endpoint in 0..2 {
        world.net.set_faults(endpoint, FaultSwitches::default()).await;
    }
    writer.register_name(&label("new"), &alice.address(), 1, None).send().await.expect("registered");
    wait_for(&chain, "the new name", |directory| directory.names.len() == 2).await;
    drop(chain);

    // A damaged file is set aside, not trusted.
    let file = state.path().join("chain.projection");
    let mut content = std::fs::read(&file).expect("kept");
    let last = content.len() - 1;
    content[last] ^= 1;
    std::fs::write(&file, content).expect("written");
    let chain = world.reader_kept(FollowedNames::All, Some(state.path().into()));
    wait_for(&chain, "both names", |directory| directory.names.len() == 2).await;
    let read_anew =
        poll(&chain.handle(), |status| status.endpoints.iter().all(|endpoint| endpoint.usable)).await;
    assert!(read_anew, "{:#?}", chain.handle().status());
    assert!(state.path().join("chain.projection.bad").exists());
    chain.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_out_of_reach_lead_to_a_new_snapshot() {
    let world = World::new().await;
    let alice = world.account(2).await;
    let writer = world.writer(&alice);
    let state = tempfile::tempdir().expect("a directory");
    let chain = world.reader_kept(FollowedNames::All, Some(state.path().into()));
    writer.register_name(&label("first"), &alice.address(), 1, None).send().await.expect("registered");
    wait_for(&chain, "the name", |directory| directory.names.len() == 1).await;
    chain.shutdown().await;
    writer.set_target(&label("first"), None).send().await.expect("set");
    world.net.advance(50).await.expect("advanced");
    world
        .net
        .set_faults(0, FaultSwitches { retention: std::num::NonZeroU32::new(5), ..FaultSwitches::default() })
        .await;
    let chain = world.reader_kept(FollowedNames::All, Some(state.path().into()));
    assert!(chain.handle().directory().expect("kept").names[&label("first")].target.is_some());
    wait_for(&chain, "the change", |directory| directory.names[&label("first")].target.is_none()).await;
    chain.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_seen_within_a_poll_and_a_second() {
    let world = World::with_endpoints(3, 2).await;
    let alice = world.account(2).await;
    let writer = world.writer(&alice);
    let chain = world.reader(FollowedNames::All);
    chain.wait_ready(Duration::from_secs(10)).await.expect("ready");
    for name in ["one", "two", "three"] {
        writer.register_name(&label(name), &alice.address(), 1, None).send().await.expect("registered");
        let waited = wait_for(&chain, name, |directory| directory.names.contains_key(&label(name))).await;
        assert!(waited <= POLL + Duration::from_secs(1), "{waited:?}");
    }
    chain.shutdown().await;
}

async fn poll(
    handle: &tunnler_chain::ChainHandle,
    wanted: impl Fn(&tunnler_chain::ChainStatus) -> bool,
) -> bool {
    for _ in 0..200 {
        if wanted(&handle.status()) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}
