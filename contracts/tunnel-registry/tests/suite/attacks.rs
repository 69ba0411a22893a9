//! What an attacker tries, and the documented error each attempt ends in.

use soroban_sdk::testutils::Address as _;
use soroban_sdk::{Address, BytesN, InvokeError, String, vec};
use tunnel_registry::{AcmeIdentity, Config, Error, RelayRecord, RelayStatus};
use tunnel_testbed::{DAY, FUNDS, on_both_builds};

use crate::scene::{PER_OPERATOR, STAKE, Scene, UNBONDING, acme, config, largest_record, record, text};

on_both_builds![
    a_stake_cannot_be_drained_twice,
    a_stake_cannot_be_too_small,
    one_operator_cannot_fill_the_list,
    a_key_registers_once,
    a_relay_key_cannot_be_a_contract,
    records_are_bounded,
    strings_from_outside_are_bounded,
    pages_end_where_the_list_ends,
    configurations_are_bounded,
    unknown_relays_get_nowhere,
    pause_stops_what_is_new_and_nothing_else,
];

fn a_stake_cannot_be_drained_twice(scene: Scene) {
    let scene = scene.agreed();
    let (registry, relay) = (&scene.registry, &scene.relay.address);
    // Somebody else's stake is there to be taken.
    scene.register_more(1);
    scene.register();
    registry.deregister(relay);
    scene.bed.pass(UNBONDING);
    registry.withdraw(relay);
    assert_eq!(registry.try_withdraw(relay), Err(Ok(Error::UnknownRelay)));
    assert_eq!(registry.try_deregister(relay), Err(Ok(Error::UnknownRelay)));
    assert_eq!(scene.bed.balance(&scene.operator.address), FUNDS);
    assert_eq!(scene.bed.balance(&registry.address), STAKE);
}

fn a_stake_cannot_be_too_small(scene: Scene) {
    let scene = scene.agreed();
    for stake in [STAKE - 1, 0, -1, i128::MIN] {
        let refused = scene.registry.try_register(
            &scene.operator.address,
            &scene.relay.address,
            &record(scene.env()),
            &stake,
        );
        assert_eq!(refused, Err(Ok(Error::StakeTooSmall)));
    }
    let unaffordable = scene.registry.try_register(
        &scene.operator.address,
        &scene.relay.address,
        &record(scene.env()),
        &(FUNDS + 1),
    );
    assert!(unaffordable.is_err());
    assert_eq!((scene.registry.count(), scene.registry.revision()), (0, 0));
}

fn one_operator_cannot_fill_the_list(scene: Scene) {
    let scene = scene.agreed();
    let register = |seed: u8| {
        let relay = scene.bed.account(seed).address;
        scene.registry.try_register(&scene.operator.address, &relay, &record(scene.env()), &STAKE)
    };
    for seed in 0..PER_OPERATOR as u8 {
        assert!(register(100 + seed).is_ok());
    }
    assert_eq!(register(200), Err(Ok(Error::OperatorCap)));
    // Leaving counts only when it is complete.
    let first = scene.bed.account(100).address;
    scene.registry.deregister(&first);
    assert_eq!(register(200), Err(Ok(Error::OperatorCap)));
    scene.bed.pass(UNBONDING);
    scene.registry.withdraw(&first);
    assert!(register(200).is_ok());
}

fn a_key_registers_once(scene: Scene) {
    let scene = scene.agreed();
    scene.register();
    let (stranger, relay) = (&scene.stranger.address, &scene.relay.address);
    let again = scene.registry.try_register(stranger, relay, &record(scene.env()), &STAKE);
    assert_eq!(again, Err(Ok(Error::RelayTaken)));
    let [other] = &scene.register_more(1)[..] else { panic!("one relay") };
    assert_eq!(scene.registry.try_rotate(other, relay), Err(Ok(Error::RelayTaken)));
    assert_eq!(scene.registry.try_rotate(relay, relay), Err(Ok(Error::RelayTaken)));
}

fn a_relay_key_cannot_be_a_contract(scene: Scene) {
    let scene = scene.agreed();
    let contract = Address::generate(scene.env());
    let operator = &scene.operator.address;
    let refused = scene.registry.try_register(operator, &contract, &record(scene.env()), &STAKE);
    assert_eq!(refused, Err(Ok(Error::NotAnAccount)));
    scene.register();
    assert_eq!(scene.registry.try_rotate(&scene.relay.address, &contract), Err(Ok(Error::NotAnAccount)));
}

fn records_are_bounded(scene: Scene) {
    let scene = scene.agreed();
    let env = scene.env();
    scene.register();
    let good = record(env);
    let identity = |issuer: &str, account: &str| {
        vec![env, AcmeIdentity { issuer: text(env, issuer), account: text(env, account) }]
    };
    let uri = "https://a.example/1";
    let host = |host: &str| RelayRecord { host: Some(text(env, host)), ..good.clone() };
    let bad = [
        (RelayRecord { control_port: 0, ..good.clone() }, Error::BadPort),
        (RelayRecord { ingress_port: 65_536, ..good.clone() }, Error::BadPort),
        (RelayRecord { control_port: u32::MAX, ..good.clone() }, Error::BadPort),
        (RelayRecord { ipv4: None, ipv6: None, ..good.clone() }, Error::BadAddress),
        (RelayRecord { ipv4: Some(BytesN::from_array(env, &[0; 4])), ..good.clone() }, Error::BadAddress),
        (RelayRecord { ipv6: Some(BytesN::from_array(env, &[0; 16])), ..good.clone() }, Error::BadAddress),
        (host(""), Error::BadHost),
        (host("localhost"), Error::BadHost),
        (host("Relay.example"), Error::BadHost),
        (host("203.0.113.7"), Error::BadHost),
        (host("relay.example."), Error::BadHost),
        (host("rélay.example"), Error::BadHost),
        (host(&format!("{}.org", ["a".repeat(38), "b".repeat(39)].join("."))), Error::BadHost),
        (RelayRecord { region: text(env, ""), ..good.clone() }, Error::BadRegion),
        (RelayRecord { region: text(env, "EU"), ..good.clone() }, Error::BadRegion),
        (RelayRecord { region: text(env, &"r".repeat(17)), ..good.clone() }, Error::BadRegion),
        (RelayRecord { capacity: 0, ..good.clone() }, Error::BadCapacity),
        (RelayRecord { capacity: 1_000_001, ..good.clone() }, Error::BadCapacity),
        (RelayRecord { acme: identity("ca.example;x=y", uri), ..good.clone() }, Error::BadIssuer),
        (RelayRecord { acme: identity("", uri), ..good.clone() }, Error::BadIssuer),
        (
            RelayRecord { acme: identity("ca.example", "https://a/1; validationmethods=x"), ..good.clone() },
            Error::BadAccount,
        ),
        (
            RelayRecord { acme: identity("ca.example", "http://a.example/1"), ..good.clone() },
            Error::BadAccount,
        ),
        (
            RelayRecord {
                acme: identity("ca.example", &format!("https://{}", "a".repeat(89))),
                ..good.clone()
            },
            Error::BadAccount,
        ),
        (RelayRecord { acme: vec![env, acme(env), acme(env)], ..good.clone() }, Error::BadAccount),
        (RelayRecord { terms: Some(text(env, "javascript:alert(1)")), ..good.clone() }, Error::BadTerms),
        (
            RelayRecord { terms: Some(text(env, &format!("https://{}", "a".repeat(25)))), ..good.clone() },
            Error::BadTerms,
        ),
    ];
    for (record, error) in bad {
        assert_eq!(scene.registry.try_update(&scene.relay.address, &record), Err(Ok(error)), "{record:?}");
        let (operator, relay) = (&scene.operator.address, &scene.stranger.address);
        assert_eq!(scene.registry.try_register(operator, relay, &record, &STAKE), Err(Ok(error)));
    }
    scene.registry.update(&scene.relay.address, &largest_record(env));
}

fn strings_from_outside_are_bounded(scene: Scene) {
    let scene = scene.agreed();
    let env = scene.env();
    scene.register();
    for reason in ["", "two\nlines", "\u{1b}[2J", "€", &"x".repeat(33), &"x".repeat(5_000)] {
        let refused = scene.registry.try_delist(&scene.relay.address, &text(env, reason));
        assert_eq!(refused, Err(Ok(Error::BadReason)));
    }
    let endless = String::from_bytes(env, &[b'a'; 20_000]);
    let huge = RelayRecord { host: Some(endless), ..record(env) };
    assert_eq!(scene.registry.try_update(&scene.relay.address, &huge), Err(Ok(Error::BadHost)));
}

fn pages_end_where_the_list_ends(scene: Scene) {
    let scene = scene.agreed();
    let region = text(scene.env(), "eu-central");
    scene.register();
    assert!(scene.registry.relays(&1, &20).is_empty());
    assert_eq!(scene.registry.relays_in(&region, &1, &20).next, None);
    for (start, limit, error) in [
        (2, 1, Error::PageStart),
        (u32::MAX, 20, Error::PageStart),
        (0, 0, Error::PageLimit),
        (0, 21, Error::PageLimit),
        (0, u32::MAX, Error::PageLimit),
    ] {
        assert_eq!(scene.registry.try_relays(&start, &limit), Err(Ok(error)));
        assert_eq!(scene.registry.try_relays_in(&region, &start, &limit), Err(Ok(error)));
    }
}

fn configurations_are_bounded(scene: Scene) {
    let scene = scene.agreed();
    let good = config(&scene.bed.token);
    for bad in [
        Config { min_stake: -1, ..good.clone() },
        Config { unbonding: 30 * DAY + 1, ..good.clone() },
        Config { unbonding: u64::MAX, ..good.clone() },
        Config { heartbeat_ttl: 59 * 60, ..good.clone() },
        Config { heartbeat_ttl: 8 * DAY, ..good.clone() },
        Config { per_operator: 0, ..good.clone() },
        Config { per_operator: 1_001, ..good.clone() },
    ] {
        assert_eq!(scene.registry.try_set_config(&bad), Err(Ok(Error::BadConfig)));
    }
    let other_token = Config { token: scene.stranger.address.clone(), ..good };
    assert_eq!(scene.registry.try_set_config(&other_token), Err(Ok(Error::TokenFixed)));
}

fn unknown_relays_get_nowhere(scene: Scene) {
    let scene = scene.agreed();
    let (registry, nobody) = (&scene.registry, &scene.stranger.address);
    let unknown = Err(Ok(Error::UnknownRelay));
    assert_eq!(registry.try_update(nobody, &record(scene.env())), unknown);
    assert_eq!(registry.try_rotate(nobody, &scene.relay.address), unknown);
    assert_eq!(registry.try_heartbeat(nobody, &0), unknown);
    assert_eq!(registry.try_set_status(nobody, &RelayStatus::Active), unknown);
    assert_eq!(registry.try_deregister(nobody), unknown);
    assert_eq!(registry.try_withdraw(nobody), unknown);
    assert_eq!(registry.try_delist(nobody, &text(scene.env(), "spam")), unknown);
    assert_eq!(registry.try_relist(nobody), unknown);
    assert_eq!(registry.try_relay(nobody).err(), Some(Ok(Error::UnknownRelay)));
}

fn pause_stops_what_is_new_and_nothing_else(scene: Scene) {
    let scene = scene.agreed();
    scene.register();
    let (registry, relay) = (&scene.registry, &scene.relay.address);
    registry.pause();
    assert!(registry.paused());
    // OpenZeppelin's code for "is paused".
    let paused = Err(Err(InvokeError::Contract(1_000)));
    let stranger = &scene.stranger.address;
    let register = registry.try_register(stranger, stranger, &record(scene.env()), &STAKE);
    assert_eq!(register, paused);
    let update = registry.try_update(relay, &record(scene.env()));
    assert_eq!(update, paused);
    let rotate = registry.try_rotate(relay, stranger);
    assert_eq!(rotate, paused);

    registry.heartbeat(relay, &1);
    registry.set_status(relay, &RelayStatus::Draining);
    registry.delist(relay, &text(scene.env(), "spam"));
    registry.relist(relay);
    registry.relay(relay);
    registry.relays(&0, &1);
    registry.deregister(relay);
    scene.bed.pass(UNBONDING);
    registry.withdraw(relay);
    registry.unpause();
    scene.register();
}
