//! Custom domains.

use soroban_sdk::Event as _;
use soroban_sdk::testutils::Events as _;
use tunnel_namespace::{DomainMapped, DomainUnmapped, Error};
use tunnel_testbed::on_both_builds;

use crate::scene::{Scene, ZONE};

on_both_builds![
    a_name_claims_domains,
    nobody_can_block_a_domain,
    domains_are_bounded,
    claims_end_with_their_owner,
    claims_have_events,
];

fn a_name_claims_domains(scene: Scene) {
    let scene = scene.agreed();
    let name = scene.register("mynode");
    let [first, second] = ["a.example.org", "b.example.org"].map(|domain| scene.text(domain));
    scene.names.map_domain(&name, &first);
    scene.names.map_domain(&name, &second);
    assert_eq!(scene.names.domains(&name), soroban_sdk::vec![scene.env(), first.clone(), second.clone()]);
    assert_eq!(scene.names.record(&name).domains, 2);
    assert_eq!(scene.names.try_map_domain(&name, &first), Err(Ok(Error::DomainTaken)));
    scene.names.unmap_domain(&name, &first);
    assert_eq!(scene.names.domains(&name), soroban_sdk::vec![scene.env(), second]);
    assert_eq!(scene.names.record(&name).domains, 1);
    assert_eq!(scene.names.try_unmap_domain(&name, &first), Err(Ok(Error::UnknownDomain)));
}

fn nobody_can_block_a_domain(scene: Scene) {
    let scene = scene.agreed();
    let domain = scene.text("victim.example.org");
    let squatter = scene.register_for(&scene.stranger.address, "squatter");
    scene.names.map_domain(&squatter, &domain);
    let name = scene.register("mynode");
    scene.names.map_domain(&name, &domain);
    scene.names.unmap_domain(&squatter, &domain);
    assert_eq!(scene.names.domains(&name).len(), 1);
}

fn domains_are_bounded(scene: Scene) {
    let scene = scene.agreed();
    let name = scene.register("mynode");
    let longest = [["a".repeat(62), "b".repeat(30)].join("."), "d".to_owned()].join(".");
    for bad in [
        "",
        "example",
        "Example.org",
        "*.example.org",
        "example.org.",
        "203.0.113.7",
        "münchen.de",
        "_acme-challenge.example.org",
        ZONE,
        &format!("other.{ZONE}"),
        &format!("{longest}de"),
        &"x.".repeat(5_000),
    ] {
        assert_eq!(scene.names.try_map_domain(&name, &scene.text(bad)), Err(Ok(Error::BadDomain)), "{bad}");
    }
    // Ends like the zone, and is not in it.
    scene.names.map_domain(&name, &scene.text(&format!("my{ZONE}")));
    scene.names.map_domain(&name, &scene.text(&longest));
    scene.names.map_domain(&name, &scene.text("c.example.org"));
    scene.names.map_domain(&name, &scene.text("d.example.org"));
    let fifth = scene.names.try_map_domain(&name, &scene.text("e.example.org"));
    assert_eq!(fifth, Err(Ok(Error::DomainCap)));
}

fn claims_end_with_their_owner(scene: Scene) {
    let scene = scene.agreed();
    let name = scene.register("mynode");
    let domain = scene.text("a.example.org");
    scene.names.map_domain(&name, &domain);
    scene.names.transfer(&name, &scene.stranger.address);
    assert!(scene.names.domains(&name).is_empty());
    assert_eq!(scene.names.try_unmap_domain(&name, &domain), Err(Ok(Error::UnknownDomain)));
    let other = scene.text("b.example.org");
    scene.names.map_domain(&name, &other);
    assert_eq!(scene.names.domains(&name), soroban_sdk::vec![scene.env(), other]);
}

fn claims_have_events(scene: Scene) {
    let scene = scene.agreed();
    let (id, env) = (&scene.names.address, scene.env());
    let name = scene.register("mynode");
    let domain = scene.text("a.example.org");
    scene.names.map_domain(&name, &domain);
    let mapped = DomainMapped { name: name.clone(), slot: 0, domain: domain.clone(), revision: 2 };
    assert_eq!(env.events().all().events(), [mapped.to_xdr(env, id)]);
    scene.names.unmap_domain(&name, &domain);
    let unmapped = DomainUnmapped { name, slot: 0, domain, revision: 3 };
    assert_eq!(env.events().all().events(), [unmapped.to_xdr(env, id)]);
}
