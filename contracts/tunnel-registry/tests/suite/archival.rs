//! Records that nobody touched for 200 days: archived, still valid, and told from absent ones by their life time.

use tunnel_registry::DataKey;
use tunnel_testbed::{DAY, Life, on_both_builds};

use crate::scene::{Scene, UNBONDING, record};

on_both_builds![an_archived_relay_is_restored_by_whoever_needs_it, removal_copes_with_archived_neighbours];

impl Scene {
    fn life(&self, key: DataKey) -> Life {
        self.bed.life(&self.registry.address, key)
    }
}

fn an_archived_relay_is_restored_by_whoever_needs_it(scene: Scene) {
    let scene = scene.agreed();
    scene.register();
    assert_eq!(scene.life(DataKey::Slot(0)), Life::Live);
    scene.bed.pass(200 * DAY);
    assert_eq!(scene.life(DataKey::Slot(0)), Life::Archived);
    assert_eq!(scene.life(DataKey::Slot(1)), Life::Absent);
    assert_eq!(scene.registry.relay(&scene.relay.address).relay, scene.relay.address);
    scene.registry.update(&scene.relay.address, &record(scene.env()));
    for key in [DataKey::Slot(0), DataKey::Relay(scene.relay.address.clone())] {
        assert_eq!(scene.life(key), Life::Live);
    }
}

fn removal_copes_with_archived_neighbours(scene: Scene) {
    let scene = scene.agreed();
    let relays = scene.register_more(5);
    scene.registry.deregister(&relays[1]);
    scene.bed.pass(UNBONDING + 200 * DAY);
    assert_eq!(scene.life(DataKey::Slot(4)), Life::Archived);
    scene.registry.withdraw(&relays[1]);
    assert_eq!(scene.listed(), [0, 4, 2, 3].map(|i| relays[i].clone()));
    for (relay, expected) in relays.iter().zip([true, false, true, true, true]) {
        assert_eq!(scene.registry.try_relay(relay).is_ok(), expected);
    }
    assert_eq!(scene.life(DataKey::Slot(4)), Life::Absent);
    assert_eq!(scene.life(DataKey::Relay(relays[1].clone())), Life::Absent);
}
