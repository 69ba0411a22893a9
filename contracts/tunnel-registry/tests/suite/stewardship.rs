//! Power: what the admin can do only after seven days of notice. The namespace's calls are the same code.

use tunnel_stewardship::{NOTICE, PendingAdmin, PendingUpgrade, StewardError};
use tunnel_testbed::{START, on_both_builds, wasm};

use crate::scene::{Scene, upload};

on_both_builds![
    an_upgrade_waits_for_its_notice,
    an_upgrade_can_be_taken_back,
    announcing_again_begins_the_notice_anew,
    a_new_admin_waits_for_its_notice,
    a_hand_over_can_be_taken_back,
    announcements_are_counted,
];

fn an_upgrade_waits_for_its_notice(scene: Scene) {
    let scene = scene.agreed();
    scene.register();
    let before = scene.registry.relay(&scene.relay.address);
    let hash = upload(scene.env(), &wasm("tunnel_registry.wasm"));
    assert_eq!(scene.registry.try_upgrade(), Err(Ok(StewardError::NothingAnnounced)));
    scene.registry.announce_upgrade(&hash);
    let announced = PendingUpgrade { hash, from: START + NOTICE };
    assert_eq!(scene.registry.announced_upgrade(), Some(announced));
    assert_eq!(scene.registry.try_upgrade(), Err(Ok(StewardError::NoticeNotOver)));
    scene.bed.pass(NOTICE - 5);
    assert_eq!(scene.registry.try_upgrade(), Err(Ok(StewardError::NoticeNotOver)));
    scene.bed.pass(5);
    scene.registry.upgrade();
    assert_eq!(scene.registry.announced_upgrade(), None);
    assert_eq!(scene.registry.try_upgrade(), Err(Ok(StewardError::NothingAnnounced)));
    assert_eq!(scene.registry.relay(&scene.relay.address), before);
}

fn an_upgrade_can_be_taken_back(scene: Scene) {
    let scene = scene.agreed();
    assert_eq!(scene.registry.try_cancel_upgrade(), Err(Ok(StewardError::NothingAnnounced)));
    scene.registry.announce_upgrade(&upload(scene.env(), &wasm("tunnel_registry.wasm")));
    scene.registry.cancel_upgrade();
    scene.bed.pass(NOTICE);
    assert_eq!(scene.registry.try_upgrade(), Err(Ok(StewardError::NothingAnnounced)));
}

fn announcing_again_begins_the_notice_anew(scene: Scene) {
    let scene = scene.agreed();
    let hash = upload(scene.env(), &wasm("tunnel_registry.wasm"));
    scene.registry.announce_upgrade(&hash);
    scene.bed.pass(NOTICE - 5);
    scene.registry.announce_upgrade(&hash);
    scene.bed.pass(NOTICE - 5);
    assert_eq!(scene.registry.try_upgrade(), Err(Ok(StewardError::NoticeNotOver)));
}

fn a_new_admin_waits_for_its_notice(scene: Scene) {
    let scene = scene.agreed();
    let heir = scene.bed.account(60).address;
    assert_eq!(scene.registry.try_accept_admin(), Err(Ok(StewardError::NothingAnnounced)));
    scene.registry.announce_admin(&heir);
    let announced = PendingAdmin { admin: heir.clone(), from: START + NOTICE };
    assert_eq!(scene.registry.announced_admin(), Some(announced));
    scene.bed.pass(NOTICE - 5);
    assert_eq!(scene.registry.try_accept_admin(), Err(Ok(StewardError::NoticeNotOver)));
    assert_eq!(scene.registry.admin(), scene.admin.address);
    scene.bed.pass(5);
    scene.registry.accept_admin();
    assert_eq!((scene.registry.admin(), scene.registry.announced_admin()), (heir, None));
}

fn a_hand_over_can_be_taken_back(scene: Scene) {
    let scene = scene.agreed();
    assert_eq!(scene.registry.try_cancel_admin(), Err(Ok(StewardError::NothingAnnounced)));
    scene.registry.announce_admin(&scene.stranger.address);
    scene.registry.cancel_admin();
    scene.bed.pass(NOTICE);
    assert_eq!(scene.registry.try_accept_admin(), Err(Ok(StewardError::NothingAnnounced)));
    assert_eq!(scene.registry.admin(), scene.admin.address);
}

fn announcements_are_counted(scene: Scene) {
    let scene = scene.agreed();
    scene.registry.pause();
    scene.registry.unpause();
    scene.registry.announce_admin(&scene.stranger.address);
    scene.registry.cancel_admin();
    scene.registry.announce_upgrade(&upload(scene.env(), &wasm("tunnel_registry.wasm")));
    scene.registry.cancel_upgrade();
    assert_eq!(scene.registry.revision(), 6);
}
