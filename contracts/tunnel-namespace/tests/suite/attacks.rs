//! What an attacker tries, and the documented error each attempt ends in.

use soroban_sdk::testutils::Address as _;
use soroban_sdk::{Address, String, Vec, vec};
use tunnel_namespace::{Config, Error, Fees, ZoneServer};
use tunnel_testbed::{DAY, FUNDS, on_both_builds};

use crate::scene::{PER_OWNER, Scene, config, server, text};

on_both_builds![
    one_owner_cannot_take_thousands,
    labels_of_strangers_are_checked,
    a_name_has_one_owner,
    nobody_transfers_to_oneself,
    the_cap_holds_for_gifts,
    targets_are_keys,
    allowed_relays_are_bounded,
    who_cannot_pay_gets_nothing,
    pages_end_where_the_list_ends,
    configurations_are_bounded,
    unknown_names_get_nowhere,
];

fn one_owner_cannot_take_thousands(scene: Scene) {
    let scene = scene.agreed();
    let mut taken = 0;
    for number in 0..10_000 {
        let name = scene.text(&format!("squat{number}"));
        match scene.names.try_register(&scene.owner.address, &name, &scene.target.address, &1, &None) {
            Ok(_) => taken += 1,
            Err(refused) => {
                assert_eq!(refused, Ok(Error::OwnerCap));
                break;
            }
        }
    }
    assert_eq!((taken, scene.names.count()), (PER_OWNER, PER_OWNER));
}

fn labels_of_strangers_are_checked(scene: Scene) {
    let scene = scene.agreed();
    let register = |name: &String| {
        scene.names.try_register(&scene.owner.address, name, &scene.target.address, &1, &None)
    };
    for (label, error) in [
        ("MyNode", Error::LabelCharacter),
        ("my_node", Error::LabelCharacter),
        ("_acme-challenge", Error::LabelCharacter),
        ("münchen", Error::LabelCharacter),
        ("раураl", Error::LabelCharacter),
        ("my\u{200b}node", Error::LabelCharacter),
        ("my.node", Error::LabelCharacter),
        ("xn--mnchen-3ya", Error::LabelHyphen),
        ("-node", Error::LabelHyphen),
        ("no", Error::LabelTooShort),
        ("", Error::LabelTooShort),
        ("www", Error::LabelReserved),
        ("ns17", Error::LabelReserved),
        ("gcfiry65oqe7dfp5klns2pf2lvzmuzyjx4ozieq36n2iqanub5xvyojr", Error::LabelAddress),
        ("gcfiry65oqe7dfp5klns2pf2lvzmuzyjx4ozieq36n2iqanub5xvyojx", Error::LabelAddress),
    ] {
        assert_eq!(register(&scene.text(label)), Err(Ok(error)), "{label:?}");
    }
    for length in [64, 1_000, 30_000] {
        let endless = String::from_bytes(scene.env(), &std::vec![b'a'; length]);
        assert_eq!(register(&endless), Err(Ok(Error::LabelTooLong)));
    }
    assert_eq!((scene.names.count(), scene.names.revision()), (0, 0));
}

fn a_name_has_one_owner(scene: Scene) {
    let scene = scene.agreed();
    let name = scene.register("mynode");
    for thief in [&scene.owner.address, &scene.stranger.address] {
        let again = scene.names.try_register(thief, &name, thief, &1, &None);
        assert_eq!(again, Err(Ok(Error::NameTaken)));
    }
    assert_eq!(scene.names.record(&name).owner, scene.owner.address);
}

fn nobody_transfers_to_oneself(scene: Scene) {
    let scene = scene.agreed();
    let name = scene.register("mynode");
    let refused = scene.names.try_transfer(&name, &scene.owner.address);
    assert_eq!(refused, Err(Ok(Error::SelfTransfer)));
}

fn the_cap_holds_for_gifts(scene: Scene) {
    let scene = scene.agreed();
    for number in 0..PER_OWNER {
        scene.register(&format!("name{number}"));
    }
    let gift = scene.register_for(&scene.stranger.address, "gift");
    assert_eq!(scene.names.try_transfer(&gift, &scene.owner.address), Err(Ok(Error::OwnerCap)));
    assert_eq!(scene.names.record(&gift).owner, scene.stranger.address);
}

fn targets_are_keys(scene: Scene) {
    let scene = scene.agreed();
    let contract = Address::generate(scene.env());
    let owner = &scene.owner.address;
    let refused = scene.names.try_register(owner, &scene.text("mynode"), &contract, &1, &None);
    assert_eq!(refused, Err(Ok(Error::NotAnAccount)));
    let name = scene.register("mynode");
    assert_eq!(scene.names.try_set_target(&name, &Some(contract.clone())), Err(Ok(Error::NotAnAccount)));
    let relays = vec![scene.env(), contract];
    assert_eq!(scene.names.try_set_relays(&name, &relays), Err(Ok(Error::NotAnAccount)));
}

fn allowed_relays_are_bounded(scene: Scene) {
    let scene = scene.agreed();
    let name = scene.register("mynode");
    let nine = Vec::from_iter(scene.env(), (60..69).map(|seed| scene.bed.account(seed).address));
    assert_eq!(scene.names.try_set_relays(&name, &nine), Err(Ok(Error::BadRelays)));
    let twice = vec![scene.env(), scene.target.address.clone(), scene.target.address.clone()];
    assert_eq!(scene.names.try_set_relays(&name, &twice), Err(Ok(Error::BadRelays)));
}

fn who_cannot_pay_gets_nothing(scene: Scene) {
    let scene = scene.agreed();
    let mut dear = config(scene.env(), &scene.bed.token);
    dear.fees.longer = FUNDS + 1;
    scene.names.set_config(&dear);
    let name = scene.text("mynode");
    let refused = scene.names.try_register(&scene.owner.address, &name, &scene.target.address, &1, &None);
    assert!(refused.is_err());
    assert_eq!(scene.names.try_record(&name).err(), Some(Ok(Error::UnknownName)));
    assert!(scene.names.owned(&scene.owner.address, &0, &1).is_empty());
}

fn pages_end_where_the_list_ends(scene: Scene) {
    let scene = scene.agreed();
    scene.register("mynode");
    let owner = &scene.owner.address;
    assert!(scene.names.names(&1, &20).is_empty());
    assert!(scene.names.owned(owner, &1, &20).is_empty());
    for (start, limit, error) in [
        (2, 1, Error::PageStart),
        (u32::MAX, 20, Error::PageStart),
        (0, 0, Error::PageLimit),
        (0, 21, Error::PageLimit),
        (0, u32::MAX, Error::PageLimit),
    ] {
        assert_eq!(scene.names.try_names(&start, &limit).err(), Some(Ok(error)));
        assert_eq!(scene.names.try_owned(owner, &start, &limit).err(), Some(Ok(error)));
    }
}

fn configurations_are_bounded(scene: Scene) {
    let scene = scene.agreed();
    let env = scene.env();
    let good = config(env, &scene.bed.token);
    let fees = |three: i128| Fees { three, ..good.fees.clone() };
    let host = |host: &str| ZoneServer { host: text(env, host), ..server(env, 1) };
    let servers = |servers: &[ZoneServer]| Vec::from_slice(env, servers);
    let issuers = |issuers: &[&str]| Vec::from_iter(env, issuers.iter().map(|issuer| text(env, issuer)));
    for bad in [
        Config { fees: fees(-1), ..good.clone() },
        Config { fees: fees(i128::MAX), ..good.clone() },
        Config { grace: 90 * DAY + 1, ..good.clone() },
        Config { grace: u64::MAX, ..good.clone() },
        Config { per_owner: 0, ..good.clone() },
        Config { per_owner: 65, ..good.clone() },
        Config { acme_issuers: issuers(&["a.example;x=y"]), ..good.clone() },
        Config { acme_issuers: issuers(&["a"; 5]), ..good.clone() },
        Config { servers: servers(&[host("DNS.example")]), ..good.clone() },
        Config { servers: servers(&[host("dns")]), ..good.clone() },
        Config { servers: servers(&[ZoneServer { ipv4: None, ..server(env, 1) }]), ..good.clone() },
        Config { servers: servers(&[1; 6].map(|number| server(env, number))), ..good.clone() },
    ] {
        assert_eq!(scene.names.try_set_config(&bad), Err(Ok(Error::BadConfig)), "{bad:?}");
    }
    scene.names.set_config(&Config { servers: Vec::new(env), acme_issuers: Vec::new(env), ..good });
}

fn unknown_names_get_nowhere(scene: Scene) {
    let scene = scene.agreed();
    let (names, owner) = (&scene.names, &scene.owner.address);
    let name = scene.text("nothing");
    let unknown = Err(Ok(Error::UnknownName));
    assert_eq!(names.try_renew(owner, &name, &1), unknown);
    assert_eq!(names.try_transfer(&name, owner), unknown);
    assert_eq!(names.try_set_target(&name, &None), unknown);
    assert_eq!(names.try_set_relays(&name, &Vec::new(scene.env())), unknown);
    assert_eq!(names.try_set_primary(owner, &name), unknown);
    assert_eq!(names.try_release(&name), unknown);
    assert_eq!(names.try_map_domain(&name, &scene.text("a.example.org")), unknown);
    assert_eq!(names.try_unmap_domain(&name, &scene.text("a.example.org")), unknown);
    assert_eq!(names.try_suspend(&name, &scene.text("spam")), unknown);
    assert_eq!(names.try_unsuspend(&name), unknown);
    assert_eq!(names.try_record(&name).err(), Some(Ok(Error::UnknownName)));
    assert_eq!(names.primary(owner), None);
}
