//! What each call does when all is well.

use soroban_sdk::testutils::Events as _;
use soroban_sdk::{Event as _, vec};
use tunnel_registry::{
    Error, Heartbeat, RegistryConfigured, RelayDelisted, RelayDeregistered, RelayEntry, RelayRecord,
    RelayRegistered, RelayRelisted, RelayRotated, RelayStatus, RelayStatusSet, RelayUpdated, RelayWithdrawn,
};
use tunnel_testbed::{DAY, FUNDS, START, on_both_builds};

use crate::scene::{PER_OPERATOR, STAKE, Scene, UNBONDING, config, keys, record, text};

on_both_builds![
    a_relay_is_registered_with_its_stake,
    a_relay_publishes_another_record,
    a_relay_gets_another_key,
    a_heartbeat_leaves_no_trace_but_itself,
    a_relay_drains,
    a_stake_comes_back_after_unbonding,
    removal_moves_the_last_relay,
    a_delisted_relay_keeps_its_stake_and_can_leave,
    a_new_configuration_touches_only_new_relays,
    pages_show_every_relay_once,
    one_key_can_be_operator_and_relay,
    a_free_registry_moves_no_money,
    every_change_has_an_event,
];

fn a_relay_is_registered_with_its_stake(scene: Scene) {
    let scene = scene.agreed();
    scene.register();
    let expected = RelayEntry {
        operator: scene.operator.address.clone(),
        relay: scene.relay.address.clone(),
        record: record(scene.env()),
        stake: STAKE,
        status: RelayStatus::Active,
        registered_at: START,
        unbonding: UNBONDING,
        unbonding_until: None,
        delisted: None,
    };
    assert_eq!(scene.registry.relay(&scene.relay.address), expected);
    assert_eq!(scene.registry.relays(&0, &20), vec![scene.env(), expected]);
    assert_eq!((scene.registry.count(), scene.registry.revision()), (1, 1));
    assert_eq!(scene.bed.balance(&scene.operator.address), FUNDS - STAKE);
    assert_eq!(scene.bed.balance(&scene.registry.address), STAKE);
}

fn a_relay_publishes_another_record(scene: Scene) {
    let scene = scene.agreed();
    scene.register();
    let moved = RelayRecord { ipv6: None, host: None, acme: vec![scene.env()], ..record(scene.env()) };
    scene.registry.update(&scene.relay.address, &moved);
    assert_eq!(scene.registry.relay(&scene.relay.address).record, moved);
    assert_eq!(scene.registry.revision(), 2);
}

fn a_relay_gets_another_key(scene: Scene) {
    let scene = scene.agreed();
    scene.register();
    let fresh = scene.bed.account(50).address;
    scene.registry.rotate(&scene.relay.address, &fresh);
    assert_eq!(scene.registry.try_relay(&scene.relay.address), Err(Ok(Error::UnknownRelay)));
    assert_eq!(scene.registry.relay(&fresh).relay, fresh);
    assert_eq!((scene.listed(), scene.registry.count()), ([fresh].to_vec(), 1));
    // The old key is free again.
    scene.register();
    assert_eq!(scene.registry.count(), 2);
}

fn a_heartbeat_leaves_no_trace_but_itself(scene: Scene) {
    let scene = scene.agreed();
    scene.register();
    let relay = &scene.relay.address;
    assert_eq!(scene.registry.last_heartbeat(relay), None);
    scene.bed.pass(60);
    scene.registry.heartbeat(relay, &17);
    assert_eq!(scene.env().events().all().events().len(), 0);
    assert_eq!(scene.registry.revision(), 1);
    assert_eq!(scene.registry.last_heartbeat(relay), Some(Heartbeat { time: START + 60, load: 17 }));
    // The ledger forgets it after it counts no more, not before.
    scene.bed.pass(DAY);
    assert!(scene.registry.last_heartbeat(relay).is_some());
    scene.bed.pass(2 * DAY);
    assert_eq!(scene.registry.last_heartbeat(relay), None);
}

fn a_relay_drains(scene: Scene) {
    let scene = scene.agreed();
    scene.register();
    scene.registry.set_status(&scene.relay.address, &RelayStatus::Draining);
    assert_eq!(scene.registry.relay(&scene.relay.address).status, RelayStatus::Draining);
    scene.registry.set_status(&scene.relay.address, &RelayStatus::Active);
    assert_eq!(scene.registry.relay(&scene.relay.address).status, RelayStatus::Active);
}

fn a_stake_comes_back_after_unbonding(scene: Scene) {
    let scene = scene.agreed();
    scene.register();
    let (registry, relay) = (&scene.registry, &scene.relay.address);
    assert_eq!(registry.try_withdraw(relay), Err(Ok(Error::NotUnbonding)));
    registry.deregister(relay);
    assert_eq!(registry.relay(relay).unbonding_until, Some(START + UNBONDING));
    assert_eq!(registry.try_deregister(relay), Err(Ok(Error::Unbonding)));
    assert_eq!(registry.try_update(relay, &record(scene.env())), Err(Ok(Error::Unbonding)));
    assert_eq!(registry.try_rotate(relay, &scene.stranger.address), Err(Ok(Error::Unbonding)));
    assert_eq!(registry.try_set_status(relay, &RelayStatus::Active), Err(Ok(Error::Unbonding)));
    scene.bed.pass(UNBONDING - 5);
    assert_eq!(registry.try_withdraw(relay), Err(Ok(Error::StakeLocked)));
    scene.bed.pass(5);
    registry.withdraw(relay);
    assert_eq!(registry.try_relay(relay), Err(Ok(Error::UnknownRelay)));
    assert_eq!(registry.count(), 0);
    assert_eq!(scene.bed.balance(&scene.operator.address), FUNDS);
    assert_eq!(scene.bed.balance(&registry.address), 0);
    // Nothing is left behind that would be in the way.
    for _ in 0..PER_OPERATOR {
        scene.register();
        registry.deregister(relay);
        scene.bed.pass(UNBONDING);
        registry.withdraw(relay);
    }
}

fn removal_moves_the_last_relay(scene: Scene) {
    let scene = scene.agreed();
    let relays = scene.register_more(4);
    let leave = |relay| {
        scene.registry.deregister(relay);
        scene.bed.pass(UNBONDING);
        scene.registry.withdraw(relay);
    };
    leave(&relays[1]);
    assert_eq!(scene.listed(), [0, 3, 2].map(|i| relays[i].clone()));
    leave(&relays[2]);
    assert_eq!(scene.listed(), [0, 3].map(|i| relays[i].clone()));
    for relay in scene.listed() {
        assert_eq!(scene.registry.relay(&relay).relay, relay);
    }
    leave(&relays[0]);
    leave(&relays[3]);
    assert_eq!(scene.registry.count(), 0);
}

fn a_delisted_relay_keeps_its_stake_and_can_leave(scene: Scene) {
    let scene = scene.agreed();
    scene.register();
    let (registry, relay) = (&scene.registry, &scene.relay.address);
    let reason = text(scene.env(), "malware");
    assert_eq!(registry.try_relist(relay), Err(Ok(Error::NotDelisted)));
    registry.delist(relay, &reason);
    assert_eq!(registry.relay(relay).delisted, Some(reason.clone()));
    assert_eq!(registry.try_delist(relay, &reason), Err(Ok(Error::AlreadyDelisted)));
    registry.relist(relay);
    assert_eq!(registry.relay(relay).delisted, None);
    registry.delist(relay, &reason);
    registry.update(relay, &record(scene.env()));
    assert_eq!(registry.relay(relay).delisted, Some(reason), "an update does not relist");
    registry.deregister(relay);
    scene.bed.pass(UNBONDING);
    registry.withdraw(relay);
    assert_eq!(scene.bed.balance(&scene.operator.address), FUNDS);
}

fn a_new_configuration_touches_only_new_relays(scene: Scene) {
    let scene = scene.agreed();
    scene.register();
    let mut stricter = config(&scene.bed.token);
    stricter.min_stake = 5 * STAKE;
    stricter.unbonding = 30 * DAY;
    scene.registry.set_config(&stricter);
    assert_eq!(scene.registry.config(), stricter);
    scene.registry.deregister(&scene.relay.address);
    scene.bed.pass(UNBONDING);
    scene.registry.withdraw(&scene.relay.address);
    let again = scene.registry.try_register(
        &scene.operator.address,
        &scene.relay.address,
        &record(scene.env()),
        &STAKE,
    );
    assert_eq!(again, Err(Ok(Error::StakeTooSmall)));
}

fn pages_show_every_relay_once(scene: Scene) {
    let scene = scene.agreed();
    let relays = scene.register_more(23);
    let elsewhere = RelayRecord { region: text(scene.env(), "asia"), ..record(scene.env()) };
    for relay in [&relays[3], &relays[21]] {
        scene.registry.update(relay, &elsewhere);
    }
    assert_eq!(scene.listed(), relays);
    assert_eq!(keys(&scene.registry.relays(&20, &20)), relays[20..]);
    assert_eq!(keys(&scene.registry.relays(&5, &3)), relays[5..8]);
    let first = scene.registry.relays_in(&text(scene.env(), "asia"), &0, &20);
    assert_eq!((keys(&first.relays), first.next), (relays[3..4].to_vec(), Some(20)));
    let second = scene.registry.relays_in(&text(scene.env(), "asia"), &20, &20);
    assert_eq!((keys(&second.relays), second.next), (relays[21..22].to_vec(), None));
}

fn one_key_can_be_operator_and_relay(scene: Scene) {
    let scene = scene.agreed();
    let [relay] = &scene.register_more(1)[..] else { panic!("one relay") };
    let entry = scene.registry.relay(relay);
    assert_eq!((entry.operator, entry.relay), (relay.clone(), relay.clone()));
}

fn a_free_registry_moves_no_money(scene: Scene) {
    let scene = scene.agreed();
    let mut free = config(&scene.bed.token);
    free.min_stake = 0;
    scene.registry.set_config(&free);
    let (operator, relay) = (&scene.operator.address, &scene.relay.address);
    scene.registry.register(operator, relay, &record(scene.env()), &0);
    scene.registry.deregister(relay);
    scene.bed.pass(UNBONDING);
    scene.registry.withdraw(relay);
    assert_eq!(scene.bed.balance(operator), FUNDS);
}

fn every_change_has_an_event(scene: Scene) {
    let scene = scene.agreed();
    let (registry, id) = (&scene.registry, &scene.registry.address);
    let (operator, relay) = (scene.operator.address.clone(), scene.relay.address.clone());
    let env = scene.env();
    macro_rules! emitted {
        ($event:expr) => {
            assert_eq!(env.events().all().filter_by_contract(id).events(), [$event.to_xdr(env, id)])
        };
    }
    scene.register();
    emitted!(RelayRegistered { relay: relay.clone(), operator: operator.clone(), slot: 0, revision: 1 });
    registry.update(&relay, &record(env));
    emitted!(RelayUpdated { relay: relay.clone(), slot: 0, revision: 2 });
    registry.set_status(&relay, &RelayStatus::Draining);
    emitted!(RelayStatusSet { relay: relay.clone(), slot: 0, status: RelayStatus::Draining, revision: 3 });
    let reason = text(env, "spam");
    registry.delist(&relay, &reason);
    emitted!(RelayDelisted { relay: relay.clone(), slot: 0, reason, revision: 4 });
    registry.relist(&relay);
    emitted!(RelayRelisted { relay: relay.clone(), slot: 0, revision: 5 });
    let new_relay = scene.bed.account(50).address;
    registry.rotate(&relay, &new_relay);
    emitted!(RelayRotated { relay, new_relay: new_relay.clone(), slot: 0, revision: 6 });
    let relay = new_relay;
    registry.deregister(&relay);
    let until = START + UNBONDING;
    emitted!(RelayDeregistered {
        relay: relay.clone(),
        operator: operator.clone(),
        slot: 0,
        until,
        revision: 7
    });
    registry.set_config(&config(&scene.bed.token));
    emitted!(RegistryConfigured { revision: 8 });
    let [last] = &scene.register_more(1)[..] else { panic!("one relay") };
    scene.bed.pass(UNBONDING);
    registry.withdraw(&relay);
    emitted!(RelayWithdrawn {
        relay,
        operator,
        slot: 0,
        stake: STAKE,
        moved: Some(last.clone()),
        revision: 10
    });
}
