//! What each call costs with the largest input it takes, on the wasm build.

use std::path::Path;

use soroban_sdk::{BytesN, String, Vec};
use tunnel_namespace::{Config, DataKey};
use tunnel_testbed::{Build, Cost, Costs, DAY, wasm};

use crate::scene::{GRACE, Scene, YEAR, server};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/costs.tsv");

#[test]
fn the_code_is_small() {
    assert!(wasm("tunnel_namespace.wasm").len() <= 40_000);
}

#[test]
fn every_call_is_within_bounds_and_near_the_table() {
    let scene = Scene::from(Build::Wasm).agreed().committed();
    let (env, names) = (scene.env(), &scene.names);
    let (owner, target, stranger) = (&scene.owner.address, &scene.target.address, &scene.stranger.address);
    let name = String::from_bytes(env, &[b'n'; 63]);
    let mut costs = Costs::default();
    macro_rules! cost {
        ($call:ident($($argument:expr),*)) => {{
            names.$call($($argument),*);
            costs.note(env, stringify!($call));
        }};
    }
    cost!(commit(owner, &scene.hash(&names.address, &name, owner, target)));
    scene.bed.pass_ledgers(12);
    cost!(register(owner, &name, target, &1, &Some(scene.salt())));
    cost!(renew(stranger, &name, &1));
    cost!(set_target(&name, &Some(stranger.clone())));
    let relays = Vec::from_iter(env, (60..68).map(|seed| scene.bed.account(seed).address));
    cost!(set_relays(&name, &relays));
    cost!(set_primary(stranger, &name));
    cost!(suspend(&name, &String::from_bytes(env, &[b'x'; 32])));
    cost!(unsuspend(&name));
    let domain = |number: u8| scene.text(&format!("{number}{}.{}", "a".repeat(62), "b".repeat(32)));
    names.set_relays(&name, &Vec::new(env));
    for number in 0..4 {
        names.map_domain(&name, &domain(number));
    }
    costs.note(env, "map_domain");
    cost!(unmap_domain(&name, &domain(0)));
    cost!(resolve(&name));
    cost!(record(&name));
    cost!(domains(&name));
    cost!(primary(stranger));
    cost!(count());
    cost!(config());
    cost!(zone());
    cost!(revision());
    cost!(withdraw_fees(owner, &1));
    cost!(transfer(&name, stranger));
    // The dearest registration takes a lapsed name over from somebody who still holds it.
    names.set_relays(&name, &relays);
    scene.bed.pass(2 * YEAR + GRACE);
    scene.keep_code();
    names.commit(owner, &scene.hash(&names.address, &name, owner, target));
    scene.bed.pass_ledgers(12);
    names.register(owner, &name, target, &1, &Some(scene.salt()));
    costs.note(env, "register a lapsed name");
    cost!(release(&name));
    cost!(reserve(&scene.text("other")));
    cost!(unreserve(&scene.text("other")));
    let servers = Vec::from_iter(env, (0..5).map(|number| server(env, number)));
    cost!(set_config(&Config { servers, ..names.config() }));
    cost!(pause());
    cost!(unpause());
    cost!(announce_upgrade(&BytesN::from_array(env, &[1; 32])));
    cost!(cancel_upgrade());
    cost!(announce_admin(owner));
    scene.bed.pass(7 * DAY);
    scene.keep_code();
    cost!(accept_admin());
    costs.check(Path::new(TABLE));
}

#[test]
fn ten_thousand_names_cost_no_more_than_ten() {
    let measure = |count: u32| {
        let scene = Scene::from(Build::Wasm).agreed();
        let env = scene.env();
        // The slots below are never read.
        env.as_contract(&scene.names.address, || env.storage().instance().set(&DataKey::Next, &count));
        let name = scene.register("mynode");
        let mut costs = std::vec![Cost::of_last_call(env)];
        scene.names.set_target(&name, &None);
        costs.push(Cost::of_last_call(env));
        scene.names.transfer(&name, &scene.stranger.address);
        costs.push(Cost::of_last_call(env));
        assert_eq!(scene.names.count(), count + 1);
        costs
    };
    for (few, many) in measure(10).iter().zip(&measure(10_000)) {
        assert!(many.is_within(few, 5), "{many:?} against {few:?}");
    }
}

impl Scene {
    /// Whoever runs the network keeps the code alive; if it was archived, the call measured next must not pay for it.
    fn keep_code(&self) {
        self.names.revision();
    }
}
