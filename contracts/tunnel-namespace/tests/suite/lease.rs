//! Years, expiry, grace and re-registration.

use tunnel_namespace::{Config, Error};
use tunnel_testbed::{FUNDS, START, on_both_builds};

use crate::scene::{FEES, GRACE, Scene, YEAR};

on_both_builds![
    fees_go_by_length_and_years,
    a_lease_is_five_years_at_most,
    an_expired_name_no_longer_resolves,
    in_grace_a_name_can_only_be_renewed_or_released,
    renewal_in_grace_continues_the_lease,
    anybody_can_pay_for_a_renewal,
    after_grace_a_name_starts_clean,
    a_shorter_grace_does_not_hurt_registered_names,
    a_lapsed_name_counts_until_it_is_released,
];

fn fees_go_by_length_and_years(scene: Scene) {
    let scene = scene.agreed();
    let mut spent = 0;
    for (name, years, yearly) in [("abc", 1, FEES[0]), ("abcd", 2, FEES[1]), ("abcde", 5, FEES[2])] {
        scene.names.register(&scene.owner.address, &scene.text(name), &scene.target.address, &years, &None);
        spent += i128::from(years) * yearly;
        assert_eq!(scene.bed.balance(&scene.owner.address), FUNDS - spent);
    }
    assert_eq!(scene.bed.balance(&scene.names.address), spent);
}

fn a_lease_is_five_years_at_most(scene: Scene) {
    let scene = scene.agreed();
    let (owner, target) = (&scene.owner.address, &scene.target.address);
    let name = scene.text("mynode");
    for years in [0, 6, u32::MAX] {
        let refused = scene.names.try_register(owner, &name, target, &years, &None);
        assert_eq!(refused, Err(Ok(Error::BadYears)));
    }
    scene.names.register(owner, &name, target, &4, &None);
    for years in [0, 2, u32::MAX] {
        assert_eq!(scene.names.try_renew(owner, &name, &years), Err(Ok(Error::BadYears)));
    }
    scene.names.renew(owner, &name, &1);
    assert_eq!(scene.names.record(&name).expires_at, START + 5 * YEAR);
    scene.bed.pass(YEAR - 5);
    assert_eq!(scene.names.try_renew(owner, &name, &1), Err(Ok(Error::BadYears)));
    scene.bed.pass(5);
    scene.names.renew(owner, &name, &1);
}

fn an_expired_name_no_longer_resolves(scene: Scene) {
    let scene = scene.agreed();
    let name = scene.register("mynode");
    scene.bed.pass(YEAR - 5);
    assert_eq!(scene.names.resolve(&name), scene.target.address);
    scene.bed.pass(5);
    assert_eq!(scene.names.try_resolve(&name), Err(Ok(Error::NameExpired)));
    scene.bed.pass(GRACE);
    assert_eq!(scene.names.try_resolve(&name), Err(Ok(Error::NameLapsed)));
}

fn in_grace_a_name_can_only_be_renewed_or_released(scene: Scene) {
    let scene = scene.agreed();
    let (names, stranger) = (&scene.names, &scene.stranger.address);
    let name = scene.register("mynode");
    names.map_domain(&name, &scene.text("a.example.org"));
    scene.bed.pass(YEAR + GRACE - 5);
    let expired = Err(Ok(Error::NameExpired));
    assert_eq!(names.try_transfer(&name, stranger), expired);
    assert_eq!(names.try_set_target(&name, &Some(stranger.clone())), expired);
    assert_eq!(names.try_set_relays(&name, &soroban_sdk::Vec::new(scene.env())), expired);
    assert_eq!(names.try_set_primary(&scene.target.address, &name), expired);
    assert_eq!(names.try_map_domain(&name, &scene.text("b.example.org")), expired);
    assert_eq!(names.try_unmap_domain(&name, &scene.text("a.example.org")), expired);
    let squat = names.try_register(stranger, &name, stranger, &1, &None);
    assert_eq!(squat, Err(Ok(Error::NameTaken)));
    names.release(&name);
    names.register(stranger, &name, stranger, &1, &None);
}

fn renewal_in_grace_continues_the_lease(scene: Scene) {
    let scene = scene.agreed();
    let name = scene.register("mynode");
    scene.bed.pass(YEAR + GRACE - 5);
    scene.names.renew(&scene.owner.address, &name, &1);
    assert_eq!(scene.names.record(&name).expires_at, START + 2 * YEAR);
    assert_eq!(scene.names.resolve(&name), scene.target.address);
    scene.bed.pass(2 * YEAR);
    let late = scene.names.try_renew(&scene.owner.address, &name, &1);
    assert_eq!(late, Err(Ok(Error::NameLapsed)));
}

fn anybody_can_pay_for_a_renewal(scene: Scene) {
    let scene = scene.agreed();
    let name = scene.register("mynode");
    scene.names.renew(&scene.stranger.address, &name, &2);
    assert_eq!(scene.bed.balance(&scene.stranger.address), FUNDS - 2 * FEES[2]);
    let record = scene.names.record(&name);
    assert_eq!((record.owner, record.expires_at), (scene.owner.address.clone(), START + 3 * YEAR));
}

fn after_grace_a_name_starts_clean(scene: Scene) {
    let scene = scene.agreed();
    let (names, stranger) = (&scene.names, &scene.stranger.address);
    let name = scene.register("mynode");
    names.map_domain(&name, &scene.text("a.example.org"));
    names.suspend(&name, &scene.text("spam"));
    let before = names.record(&name);
    scene.bed.pass(YEAR + GRACE);
    names.register(stranger, &name, stranger, &1, &None);
    let record = names.record(&name);
    assert!(record.serial > before.serial);
    assert_eq!((record.domains, record.suspended, record.relays.len()), (0, None, 0));
    assert!(names.domains(&name).is_empty());
    assert_eq!(names.count(), 1, "the label keeps its slot");
    assert!(names.owned(&scene.owner.address, &0, &20).is_empty());
    assert_eq!(names.owned(stranger, &0, &20).len(), 1);
}

fn a_shorter_grace_does_not_hurt_registered_names(scene: Scene) {
    let scene = scene.agreed();
    let name = scene.register("mynode");
    scene.names.set_config(&Config { grace: 0, ..scene.names.config() });
    scene.bed.pass(YEAR + GRACE - 5);
    let stranger = &scene.stranger.address;
    let squat = scene.names.try_register(stranger, &name, stranger, &1, &None);
    assert_eq!(squat, Err(Ok(Error::NameTaken)));
    scene.names.renew(&scene.owner.address, &name, &1);
}

fn a_lapsed_name_counts_until_it_is_released(scene: Scene) {
    let scene = scene.agreed();
    let mut config = scene.names.config();
    config.per_owner = 1;
    scene.names.set_config(&config);
    let name = scene.register("first");
    scene.bed.pass(YEAR + GRACE);
    let (owner, target) = (&scene.owner.address, &scene.target.address);
    let second = || scene.names.try_register(owner, &scene.text("second"), target, &1, &None);
    assert_eq!(second(), Err(Ok(Error::OwnerCap)));
    scene.names.release(&name);
    assert!(second().is_ok());
    // Registering the same label again replaces it in the count.
    scene.bed.pass(YEAR + GRACE);
    assert!(second().is_ok());
}
