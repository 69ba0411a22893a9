//! What each call costs, on the wasm build.

use std::path::Path;

use soroban_sdk::token::TokenClient;
use soroban_sdk::{BytesN, String};
use tunnel_registry::{DataKey, RelayEntry, RelayStatus};
use tunnel_testbed::{BOUND, Build, Cost, Costs, DAY, wasm};

use crate::scene::{STAKE, Scene, UNBONDING, config, largest_record, record};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/costs.tsv");

#[test]
fn the_code_is_small() {
    assert!(wasm("tunnel_registry.wasm").len() <= 40_000);
}

#[test]
fn every_call_is_within_bounds_and_near_the_table() {
    let scene = Scene::from(Build::Wasm).agreed();
    let (env, registry) = (scene.env(), &scene.registry);
    let (operator, relay) = (&scene.operator.address, &scene.relay.address);
    let record = record(env);
    let mut costs = Costs::default();
    macro_rules! cost {
        ($call:ident($($argument:expr),*)) => {{
            registry.$call($($argument),*);
            costs.note(env, stringify!($call));
        }};
    }
    cost!(register(operator, relay, &record, &STAKE));
    cost!(update(relay, &record));
    cost!(heartbeat(relay, &7));
    cost!(set_status(relay, &RelayStatus::Draining));
    cost!(delist(relay, &String::from_bytes(env, &[b'x'; 32])));
    cost!(relist(relay));
    cost!(relay(relay));
    cost!(last_heartbeat(relay));
    cost!(count());
    cost!(config());
    cost!(revision());
    cost!(set_config(&config(&scene.bed.token)));
    cost!(announce_upgrade(&BytesN::from_array(env, &[1; 32])));
    cost!(cancel_upgrade());
    cost!(announce_admin(operator));
    scene.bed.pass(7 * DAY);
    scene.keep_code();
    cost!(accept_admin());
    cost!(rotate(relay, &scene.stranger.address));
    let relay = &scene.stranger.address;
    let last = scene.register_more(1);
    registry.update(&last[0], &record);
    cost!(deregister(relay));
    scene.bed.pass(UNBONDING);
    scene.keep_code();
    cost!(withdraw(relay));
    cost!(pause());
    cost!(unpause());
    costs.check(Path::new(TABLE));
}

#[test]
fn the_largest_record_is_within_bounds() {
    let scene = Scene::from(Build::Wasm).agreed();
    // Whatever was announced meanwhile.
    scene.registry.pause();
    scene.registry.unpause();
    scene.registry.announce_upgrade(&BytesN::from_array(scene.env(), &[1; 32]));
    scene.registry.announce_admin(&scene.stranger.address);
    let (operator, relay) = (&scene.operator.address, &scene.relay.address);
    let neighbour = scene.register_more(1).remove(0);
    scene.registry.register(operator, relay, &largest_record(scene.env()), &STAKE);
    let cost = Cost::of_last_call(scene.env());
    assert!(cost.is_within(&BOUND, 0), "{cost:?}");
    scene.registry.delist(relay, &String::from_bytes(scene.env(), &[b'x'; 32]));
    scene.registry.deregister(&neighbour);
    scene.bed.pass(UNBONDING);
    scene.keep_code();
    scene.registry.withdraw(&neighbour);
    let cost = Cost::of_last_call(scene.env());
    assert!(cost.is_within(&BOUND, 0), "{cost:?}");
}

#[test]
fn ten_thousand_relays_cost_no_more_than_ten() {
    let measure = |relays: u32| {
        let scene = Scene::from(Build::Wasm).agreed();
        let (env, registry) = (scene.env(), &scene.registry);
        let neighbour = scene.register_more(1).remove(0);
        scene.pretend(relays);
        let mut costs = std::vec::Vec::new();
        scene.register();
        costs.push(Cost::of_last_call(env));
        registry.heartbeat(&scene.relay.address, &1);
        costs.push(Cost::of_last_call(env));
        registry.deregister(&neighbour);
        scene.bed.pass(UNBONDING);
        scene.keep_code();
        registry.withdraw(&neighbour);
        costs.push(Cost::of_last_call(env));
        assert_eq!(registry.count(), relays);
        costs
    };
    for (few, many) in measure(10).iter().zip(&measure(10_000)) {
        assert!(many.is_within(few, 5), "{many:?} against {few:?}");
    }
}

impl Scene {
    /// Lets the first relay stand for so many: the slots between it and the end are never read.
    fn pretend(&self, relays: u32) {
        self.env().as_contract(&self.registry.address, || {
            let storage = self.env().storage();
            let first: RelayEntry = storage.persistent().get(&DataKey::Slot(0)).expect("registered");
            storage.persistent().set(&DataKey::Slot(relays - 1), &first);
            storage.persistent().remove(&DataKey::Slot(0));
            storage.persistent().set(&DataKey::Relay(first.relay), &(relays - 1));
            storage.instance().set(&DataKey::Count, &relays);
        });
    }

    /// Others keep the code and the token alive; if they were archived, the call measured next must not pay for that.
    fn keep_code(&self) {
        self.registry.revision();
        TokenClient::new(self.env(), &self.bed.token).decimals();
    }
}
