//! What each call of owners and targets does when all is well.

use soroban_sdk::testutils::{Address as _, Events as _};
use soroban_sdk::{Address, Event as _, Vec, vec};
use tunnel_namespace::{
    Error, NameRecord, NameRegistered, NameReleased, NameRenewed, NameTransferred, PrimarySet, RelaysSet,
    TargetSet,
};
use tunnel_testbed::{FUNDS, START, on_both_builds};

use crate::scene::{FEES, GRACE, Scene, YEAR, labels};

on_both_builds![
    a_name_is_registered_for_its_fee,
    a_name_points_where_its_owner_says,
    a_transferred_name_starts_clean,
    a_released_name_is_anybodys,
    a_name_can_be_restricted_to_relays,
    a_target_has_a_primary_name,
    a_primary_does_not_survive_what_it_rests_on,
    pages_show_every_name_once,
    an_owner_can_be_a_contract,
    every_change_has_an_event,
];

fn a_name_is_registered_for_its_fee(scene: Scene) {
    let scene = scene.agreed();
    let name = scene.register("mynode");
    let expected = NameRecord {
        label: name.clone(),
        owner: scene.owner.address.clone(),
        target: Some(scene.target.address.clone()),
        relays: Vec::new(scene.env()),
        registered_at: START,
        expires_at: START + YEAR,
        grace: GRACE,
        serial: 1,
        domains: 0,
        suspended: None,
    };
    assert_eq!(scene.names.record(&name), expected);
    assert_eq!(scene.names.resolve(&name), scene.target.address);
    assert_eq!((scene.names.count(), scene.names.revision()), (1, 1));
    assert_eq!(scene.bed.balance(&scene.owner.address), FUNDS - FEES[2]);
    assert_eq!(scene.bed.balance(&scene.names.address), FEES[2]);
    assert_eq!(scene.names.try_resolve(&scene.text("other")), Err(Ok(Error::UnknownName)));
}

fn a_name_points_where_its_owner_says(scene: Scene) {
    let scene = scene.agreed();
    let name = scene.register("mynode");
    scene.names.set_target(&name, &Some(scene.stranger.address.clone()));
    assert_eq!(scene.names.resolve(&name), scene.stranger.address);
    scene.names.set_target(&name, &None);
    assert_eq!(scene.names.try_resolve(&name), Err(Ok(Error::NoTarget)));
}

fn a_transferred_name_starts_clean(scene: Scene) {
    let scene = scene.agreed();
    let (names, env) = (&scene.names, scene.env());
    let name = scene.register("mynode");
    names.set_relays(&name, &vec![env, scene.stranger.address.clone()]);
    names.map_domain(&name, &scene.text("node.example.org"));
    names.set_primary(&scene.target.address, &name);
    let before = names.record(&name);
    let heir = scene.bed.account(50).address;
    names.transfer(&name, &heir);
    let expected = NameRecord {
        owner: heir.clone(),
        target: None,
        relays: Vec::new(env),
        domains: 0,
        serial: names.revision(),
        ..before.clone()
    };
    assert_eq!(names.record(&name), expected);
    assert!(expected.serial > before.serial);
    assert!(names.domains(&name).is_empty());
    assert_eq!(names.try_resolve(&name), Err(Ok(Error::NoTarget)));
    assert!(names.owned(&scene.owner.address, &0, &20).is_empty());
    assert_eq!(labels(&names.owned(&heir, &0, &20)), ["mynode"]);
    // Pointing it to the same key again does not bring the old choice back.
    names.set_target(&name, &Some(scene.target.address.clone()));
    assert_eq!(names.primary(&scene.target.address), None);
}

fn a_released_name_is_anybodys(scene: Scene) {
    let scene = scene.agreed();
    let name = scene.register("mynode");
    let paid = FUNDS - scene.bed.balance(&scene.owner.address);
    scene.names.release(&name);
    assert_eq!(FUNDS - scene.bed.balance(&scene.owner.address), paid, "nothing is refunded");
    assert_eq!(scene.names.try_resolve(&name), Err(Ok(Error::NameLapsed)));
    assert!(scene.names.owned(&scene.owner.address, &0, &20).is_empty());
    assert_eq!(scene.names.try_release(&name), Err(Ok(Error::NameLapsed)));
    scene.register_for(&scene.stranger.address, "mynode");
    assert_eq!(scene.names.record(&name).owner, scene.stranger.address);
    assert_eq!(scene.names.count(), 1, "the label keeps its slot");
}

fn a_name_can_be_restricted_to_relays(scene: Scene) {
    let scene = scene.agreed();
    let name = scene.register("mynode");
    let relays = Vec::from_iter(scene.env(), (60..68).map(|seed| scene.bed.account(seed).address));
    scene.names.set_relays(&name, &relays);
    assert_eq!(scene.names.record(&name).relays, relays);
    scene.names.set_relays(&name, &Vec::new(scene.env()));
    assert!(scene.names.record(&name).relays.is_empty());
}

fn a_target_has_a_primary_name(scene: Scene) {
    let scene = scene.agreed();
    let [first, second] = ["first", "second"].map(|name| scene.register(name));
    let target = &scene.target.address;
    assert_eq!(scene.names.primary(target), None);
    scene.names.set_primary(target, &first);
    assert_eq!(scene.names.primary(target), Some(first));
    scene.names.set_primary(target, &second);
    assert_eq!(scene.names.primary(target), Some(second.clone()));
    let refused = scene.names.try_set_primary(&scene.stranger.address, &second);
    assert_eq!(refused, Err(Ok(Error::NotTheTarget)));
}

fn a_primary_does_not_survive_what_it_rests_on(scene: Scene) {
    let scene = scene.agreed();
    let (names, target) = (&scene.names, &scene.target.address);
    let name = scene.register("mynode");
    let choose = || {
        names.set_primary(target, &name);
        assert_eq!(names.primary(target), Some(name.clone()));
    };
    choose();
    names.set_target(&name, &None);
    assert_eq!(names.primary(target), None);
    names.set_target(&name, &Some(target.clone()));
    choose();
    names.suspend(&name, &scene.text("spam"));
    assert_eq!(names.primary(target), None);
    names.unsuspend(&name);
    choose();
    scene.bed.pass(YEAR);
    assert_eq!(names.primary(target), None);
    scene.bed.pass(GRACE);
    scene.register_for(&scene.stranger.address, "mynode");
    assert_eq!(names.primary(target), None);
}

fn pages_show_every_name_once(scene: Scene) {
    let scene = scene.agreed();
    let mut all = std::vec::Vec::new();
    for owner in 0..8 {
        for number in 0..3 {
            let name = format!("name-{owner}-{number}");
            scene.register_for(&scene.bed.account(50 + owner).address, &name);
            all.push(name);
        }
    }
    assert_eq!(labels(&scene.names.names(&0, &20)), all[..20]);
    assert_eq!(labels(&scene.names.names(&20, &20)), all[20..]);
    let owner = scene.bed.account(53).address;
    assert_eq!(labels(&scene.names.owned(&owner, &0, &20)), all[9..12]);
    assert_eq!(labels(&scene.names.owned(&owner, &1, &1)), all[10..11]);
    assert_eq!(labels(&scene.names.owned(&owner, &2, &20)), all[11..12]);
}

fn an_owner_can_be_a_contract(scene: Scene) {
    let scene = scene.agreed();
    let contract = Address::generate(scene.env());
    let name = scene.register("mynode");
    scene.names.transfer(&name, &contract);
    scene.names.set_target(&name, &Some(scene.target.address.clone()));
    assert_eq!(scene.names.record(&name).owner, contract);
}

fn every_change_has_an_event(scene: Scene) {
    let scene = scene.agreed();
    let (names, id, env) = (&scene.names, &scene.names.address, scene.env());
    let (owner, target) = (scene.owner.address.clone(), scene.target.address.clone());
    macro_rules! emitted {
        ($event:expr) => {
            assert_eq!(env.events().all().filter_by_contract(id).events(), [$event.to_xdr(env, id)])
        };
    }
    let name = scene.register("mynode");
    emitted!(NameRegistered {
        name: name.clone(),
        owner: owner.clone(),
        slot: 0,
        target: target.clone(),
        expires_at: START + YEAR,
        serial: 1,
        revision: 1,
    });
    names.renew(&target, &name, &1);
    let expires_at = START + 2 * YEAR;
    emitted!(NameRenewed { name: name.clone(), slot: 0, payer: target.clone(), expires_at, revision: 2 });
    names.set_target(&name, &None);
    emitted!(TargetSet { name: name.clone(), slot: 0, target: None, revision: 3 });
    names.set_target(&name, &Some(target.clone()));
    emitted!(TargetSet { name: name.clone(), slot: 0, target: Some(target.clone()), revision: 4 });
    let relays = vec![env, scene.stranger.address.clone()];
    names.set_relays(&name, &relays);
    emitted!(RelaysSet { name: name.clone(), slot: 0, relays, revision: 5 });
    names.set_primary(&target, &name);
    emitted!(PrimarySet { target, name: name.clone(), slot: 0, revision: 6 });
    let new_owner = scene.stranger.address.clone();
    names.transfer(&name, &new_owner);
    emitted!(NameTransferred {
        name: name.clone(),
        owner,
        new_owner: new_owner.clone(),
        slot: 0,
        serial: 7,
        revision: 7,
    });
    names.release(&name);
    emitted!(NameReleased { name, owner: new_owner, slot: 0, revision: 8 });
}
