//! Names that nobody touched for 200 days: archived, still valid, and told from absent ones by their life time.

use tunnel_namespace::{DataKey, Error};
use tunnel_testbed::{DAY, Life, on_both_builds};

use crate::scene::{GRACE, Scene, YEAR};

on_both_builds![
    an_archived_name_is_restored_by_whoever_needs_it,
    an_archived_name_cannot_be_taken,
    an_archived_name_can_be_registered_after_its_lapse,
    archived_holdings_still_count,
];

impl Scene {
    fn life(&self, key: DataKey) -> Life {
        self.bed.life(&self.names.address, key)
    }
}

fn an_archived_name_is_restored_by_whoever_needs_it(scene: Scene) {
    let scene = scene.agreed();
    let name = scene.register("mynode");
    scene.bed.pass(200 * DAY);
    assert_eq!(scene.life(DataKey::Slot(0)), Life::Archived);
    assert_eq!(scene.life(DataKey::Slot(1)), Life::Absent);
    assert_eq!(scene.names.resolve(&name), scene.target.address);
    scene.names.set_target(&name, &Some(scene.stranger.address.clone()));
    assert_eq!(scene.life(DataKey::Slot(0)), Life::Live);
    assert_eq!(scene.life(DataKey::Label(name)), Life::Live);
}

fn an_archived_name_cannot_be_taken(scene: Scene) {
    let scene = scene.agreed();
    let name = scene.register("mynode");
    scene.bed.pass(200 * DAY);
    let stranger = &scene.stranger.address;
    let squat = scene.names.try_register(stranger, &name, stranger, &1, &None);
    assert_eq!(squat, Err(Ok(Error::NameTaken)));
    assert_eq!(scene.names.record(&name).owner, scene.owner.address);
}

fn an_archived_name_can_be_registered_after_its_lapse(scene: Scene) {
    let scene = scene.agreed();
    let name = scene.register("mynode");
    scene.bed.pass(YEAR + GRACE);
    assert_eq!(scene.life(DataKey::Owner(scene.owner.address.clone())), Life::Archived);
    scene.register_for(&scene.stranger.address, "mynode");
    assert_eq!(scene.names.record(&name).owner, scene.stranger.address);
    assert_eq!(scene.life(DataKey::Owner(scene.owner.address.clone())), Life::Absent);
}

fn archived_holdings_still_count(scene: Scene) {
    let scene = scene.agreed();
    scene.register("first");
    scene.bed.pass(200 * DAY);
    scene.register("second");
    assert_eq!(scene.names.owned(&scene.owner.address, &0, &20).len(), 2);
    assert_eq!(scene.names.count(), 2);
}
