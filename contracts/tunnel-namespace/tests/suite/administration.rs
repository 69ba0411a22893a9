//! What the admin does to names, and what pause does.

use soroban_sdk::testutils::Events as _;
use soroban_sdk::{Event as _, InvokeError};
use tunnel_namespace::{
    Config, Error, FeesWithdrawn, NameReserved, NameSuspended, NameUnreserved, NameUnsuspended,
    NamespaceConfigured,
};
use tunnel_testbed::{FUNDS, on_both_builds, wasm};

use crate::scene::{FEES, GRACE, PER_OWNER, Scene, YEAR, ZONE, config};

on_both_builds![
    a_suspended_name_is_owned_and_renewable_only,
    a_reserved_label_is_nobodys,
    fees_are_paid_out,
    the_configuration_is_one_thing,
    pause_stops_what_is_new_and_nothing_else,
    an_upgrade_waits_for_its_notice,
    every_change_has_an_event,
];

fn a_suspended_name_is_owned_and_renewable_only(scene: Scene) {
    let scene = scene.agreed();
    let names = &scene.names;
    let name = scene.register("mynode");
    let reason = scene.text("phishing");
    assert_eq!(names.try_unsuspend(&name), Err(Ok(Error::NotSuspended)));
    names.suspend(&name, &reason);
    assert_eq!(names.record(&name).suspended, Some(reason.clone()));
    let suspended = Err(Ok(Error::NameSuspended));
    assert_eq!(names.try_suspend(&name, &reason), suspended);
    assert_eq!(names.try_resolve(&name).err(), Some(Ok(Error::NameSuspended)));
    assert_eq!(names.try_transfer(&name, &scene.stranger.address), suspended);
    assert_eq!(names.try_set_primary(&scene.target.address, &name), suspended);
    assert_eq!(names.try_release(&name), suspended, "it cannot be shed and registered anew");
    names.renew(&scene.owner.address, &name, &1);
    names.set_target(&name, &Some(scene.stranger.address.clone()));
    names.unsuspend(&name);
    assert_eq!(names.resolve(&name), scene.stranger.address);
    scene.bed.pass(2 * YEAR + GRACE);
    assert_eq!(names.try_suspend(&name, &reason), Err(Ok(Error::NameLapsed)));
    for bad in ["", "a\tb", &"x".repeat(33)] {
        assert_eq!(names.try_suspend(&name, &scene.text(bad)), Err(Ok(Error::BadReason)));
    }
}

fn a_reserved_label_is_nobodys(scene: Scene) {
    let scene = scene.agreed();
    let (names, owner, target) = (&scene.names, &scene.owner.address, &scene.target.address);
    let name = scene.text("stellar");
    assert_eq!(names.try_unreserve(&name), Err(Ok(Error::NotReserved)));
    names.reserve(&name);
    assert_eq!(names.try_reserve(&name), Err(Ok(Error::LabelReserved)));
    assert_eq!(names.try_register(owner, &name, target, &1, &None), Err(Ok(Error::LabelReserved)));
    assert_eq!(names.try_record(&name).err(), Some(Ok(Error::UnknownName)));
    names.unreserve(&name);
    scene.register("stellar");
    assert_eq!(names.try_reserve(&name), Err(Ok(Error::NameTaken)));
    scene.bed.pass(YEAR);
    assert_eq!(names.try_reserve(&name), Err(Ok(Error::NameTaken)), "in grace it is still its owner's");
    scene.bed.pass(GRACE);
    names.reserve(&name);
    assert_eq!(names.try_register(owner, &name, target, &1, &None), Err(Ok(Error::LabelReserved)));
    names.unreserve(&name);
    scene.register("stellar");
    assert_eq!(names.count(), 1, "the label keeps its slot");
    assert_eq!(names.try_reserve(&scene.text("www")), Err(Ok(Error::LabelReserved)));
    assert_eq!(names.try_reserve(&scene.text("WWW")), Err(Ok(Error::LabelCharacter)));
}

fn fees_are_paid_out(scene: Scene) {
    let scene = scene.agreed();
    scene.register("mynode");
    let admin = &scene.admin.address;
    for amount in [0, -1, i128::MIN] {
        assert_eq!(scene.names.try_withdraw_fees(admin, &amount), Err(Ok(Error::BadAmount)));
    }
    assert!(scene.names.try_withdraw_fees(admin, &(FEES[2] + 1)).is_err());
    scene.names.withdraw_fees(admin, &FEES[2]);
    assert_eq!(scene.bed.balance(admin), FUNDS + FEES[2]);
    assert_eq!(scene.bed.balance(&scene.names.address), 0);
}

fn the_configuration_is_one_thing(scene: Scene) {
    let scene = scene.agreed();
    let config = config(scene.env(), &scene.bed.token);
    assert_eq!(scene.names.config(), config);
    assert_eq!(scene.names.zone(), scene.text(ZONE));
    let changed = Config { grace: 0, per_owner: 64, commit_reveal: true, ..config };
    scene.names.set_config(&changed);
    assert_eq!(scene.names.config(), changed);
    let other_token = Config { token: scene.stranger.address.clone(), ..changed };
    assert_eq!(scene.names.try_set_config(&other_token), Err(Ok(Error::TokenFixed)));
}

fn pause_stops_what_is_new_and_nothing_else(scene: Scene) {
    let scene = scene.agreed();
    let (names, owner, target) = (&scene.names, &scene.owner.address, &scene.target.address);
    let name = scene.register("mynode");
    names.pause();
    // OpenZeppelin's code for "is paused".
    let paused = Err(Err(InvokeError::Contract(1_000)));
    assert_eq!(names.try_register(owner, &scene.text("other"), target, &1, &None), paused);
    assert_eq!(names.try_transfer(&name, &scene.stranger.address), paused);

    names.renew(owner, &name, &1);
    names.set_target(&name, &Some(target.clone()));
    names.set_relays(&name, &soroban_sdk::vec![scene.env(), target.clone()]);
    names.set_primary(target, &name);
    names.map_domain(&name, &scene.text("a.example.org"));
    names.unmap_domain(&name, &scene.text("a.example.org"));
    assert_eq!(names.resolve(&name), *target);
    assert_eq!(names.names(&0, &20).len(), 1);
    names.suspend(&name, &scene.text("spam"));
    names.unsuspend(&name);
    names.release(&name);
    names.unpause();
    scene.register("mynode");
}

fn an_upgrade_waits_for_its_notice(scene: Scene) {
    let scene = scene.agreed();
    let code = soroban_sdk::Bytes::from_slice(scene.env(), &wasm("tunnel_namespace.wasm"));
    let hash = scene.env().deployer().upload_contract_wasm(code);
    let name = scene.register("mynode");
    let before = scene.names.record(&name);
    scene.names.announce_upgrade(&hash);
    scene.bed.pass(tunnel_stewardship::NOTICE - 5);
    assert!(scene.names.try_upgrade().is_err());
    scene.bed.pass(5);
    scene.names.upgrade();
    assert_eq!(scene.names.record(&name), before);
    assert_eq!(scene.names.config().per_owner, PER_OWNER);
}

fn every_change_has_an_event(scene: Scene) {
    let scene = scene.agreed();
    let (names, id, env) = (&scene.names, &scene.names.address, scene.env());
    macro_rules! emitted {
        ($event:expr) => {
            assert_eq!(env.events().all().filter_by_contract(id).events(), [$event.to_xdr(env, id)])
        };
    }
    let name = scene.text("mynode");
    names.reserve(&name);
    emitted!(NameReserved { name: name.clone(), revision: 1 });
    names.unreserve(&name);
    emitted!(NameUnreserved { name: name.clone(), revision: 2 });
    scene.register("mynode");
    let reason = scene.text("spam");
    names.suspend(&name, &reason);
    emitted!(NameSuspended { name: name.clone(), slot: 0, reason, revision: 4 });
    names.unsuspend(&name);
    emitted!(NameUnsuspended { name: name.clone(), slot: 0, revision: 5 });
    names.set_config(&names.config());
    emitted!(NamespaceConfigured { revision: 6 });
    names.withdraw_fees(&scene.admin.address, &1);
    emitted!(FeesWithdrawn { to: scene.admin.address.clone(), amount: 1, revision: 7 });
}
