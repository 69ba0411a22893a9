//! Every verb of the writer, seen through the reader.

use std::time::Duration;

use tunnler_chain::{FollowedNames, RelayRegistration, WriteError, read_account, read_directory, read_name};
use tunnler_protocol::directory::{AccountHosts, AcmeIdentity, Change, RelayStatus};
use tunnler_protocol::time::UnixSeconds;

use crate::world::{STAKE, World, label, record, wait_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_come_change_and_go() {
    let world = World::new().await;
    let chain = world.reader(FollowedNames::Chosen);
    let empty = chain.wait_ready(Duration::from_secs(10)).await.expect("ready");
    assert!(empty.relays.is_empty());
    let zone = &empty.zone;
    assert_eq!((zone.zone.as_str(), zone.account_hosts), ("tunnler.test", AccountHosts::Owners));
    assert_eq!((zone.grace, empty.heartbeat_ttl), (Duration::from_secs(86_400), Duration::from_secs(86_400)));
    assert_eq!((zone.issuers.as_slice(), zone.servers.len()), (["pebble.test".to_owned()].as_slice(), 1));
    assert_eq!(zone.servers[0].host.as_str(), "ns1.tunnler.test");
    assert_eq!(zone.servers[0].ipv4, Some([127, 0, 0, 53].into()));
    assert_eq!(zone.servers[0].key, crate::world::key(200).address());

    let (operator, relay) = (world.account(2).await, world.account(3).await);
    let (owner, other) = (world.writer(&operator), world.writer(&relay));
    let address = relay.address();

    let cost = owner.register_relay(&relay, &record(1), STAKE).quote().await.expect("priced");
    assert!(cost.fee > cost.resource_fee && cost.resource_fee > 0 && !cost.restores);
    let receipt = owner.register_relay(&relay, &record(1), STAKE).send().await.expect("registered");
    assert!(receipt.fee_charged > 0 && u64::try_from(receipt.fee_charged).unwrap() <= cost.fee);
    wait_for(&chain, "the relay", |directory| directory.relays.contains_key(&address)).await;

    // Operator and relay may be one key.
    let both = world.account(4).await;
    world.writer(&both).register_relay(&both, &record(2), STAKE).send().await.expect("registered");
    wait_for(&chain, "the second relay", |directory| directory.relays.len() == 2).await;

    other.heartbeat(7).send().await.expect("heartbeat");
    wait_for(&chain, "the heartbeat", |directory| {
        directory.relays[&address].heartbeat.is_some_and(|beat| beat.load == 7)
    })
    .await;
    other.set_status(RelayStatus::Draining).send().await.expect("drains");
    wait_for(&chain, "draining", |directory| directory.relays[&address].status == RelayStatus::Draining)
        .await;
    // Every field of the record arrives as it was sent, through the real contract.
    let full = RelayRegistration {
        host: Some("relay.example.org".parse().unwrap()),
        control_port: 7001,
        ingress_port: 8443,
        ipv4: Some([127, 0, 0, 9].into()),
        ipv6: Some("2001:db8::9".parse().unwrap()),
        region: "eu-west".into(),
        capacity: 12_345,
        acme: Some(AcmeIdentity { issuer: "ca.example".into(), account: "https://ca.example/acct/1".into() }),
        terms: Some("https://relay.example.org/terms".into()),
    };
    other.update_relay(&full).send().await.expect("updated");
    wait_for(&chain, "the update", |directory| directory.relays[&address].capacity == 12_345).await;
    let seen = chain.handle().directory().unwrap().relays[&address].clone();
    assert_eq!(seen.operator, operator.address().to_string());
    assert_eq!((&seen.host, &seen.region, &seen.acme), (&full.host, &full.region, &full.acme));
    assert_eq!((seen.control_port, seen.ingress_port), (full.control_port, full.ingress_port));
    assert_eq!((seen.ipv4, seen.ipv6), (full.ipv4, full.ipv6));
    assert!(seen.registered_at > UnixSeconds(1_700_000_000));
    assert!(seen.heartbeat.unwrap().at >= seen.registered_at);

    let before = chain.handle().directory().expect("directory");
    owner.deregister(&address).send().await.expect("deregistered");
    wait_for(&chain, "unbonding", |directory| directory.relays[&address].status == RelayStatus::Unbonding)
        .await;
    let after = chain.handle().directory().expect("directory");
    let changes = after.changes_since(&before);
    assert!(matches!(&changes[..], [Change::RelayChanged { .. }]), "{changes:?}");
    assert!(
        std::sync::Arc::ptr_eq(&before.relays[&both.address()], &after.relays[&both.address()]),
        "an unchanged record keeps its Arc"
    );

    let early = owner.withdraw(&address).send().await.expect_err("the stake is locked");
    assert!(matches!(early, WriteError::Contract(error) if error.code == 107), "{early}");
    world.net.move_clock(3601);
    world.net.advance(1).await.expect("advanced");
    owner.withdraw(&address).send().await.expect("withdrawn");
    // The second relay moves into the freed slot and stays visible throughout.
    wait_for(&chain, "the withdrawal", |directory| {
        assert!(directory.relays.contains_key(&both.address()), "the moved relay was lost");
        !directory.relays.contains_key(&address)
    })
    .await;
    chain.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_come_change_and_go() {
    let world = World::new().await;
    let chain = world.reader(FollowedNames::All);
    let (alice, bob) = (world.account(2).await, world.account(3).await);
    let (writer, name) = (world.writer(&alice), label("mynode"));
    writer.register_name(&name, &alice.address(), 1, None).send().await.expect("registered");
    wait_for(&chain, "the name", |directory| {
        directory.target(&name, directory.ledger.closed_at) == Some(alice.address())
    })
    .await;

    let taken = world.writer(&bob).register_name(&name, &bob.address(), 1, None).send().await;
    assert_eq!(
        taken.expect_err("taken").to_string(),
        "the name is taken; choose another (contract error 201)"
    );
    let unknown = writer.renew_name(&label("nobody"), 1).quote().await.expect_err("unknown");
    assert!(matches!(unknown, WriteError::Contract(error) if error.code == 200), "{unknown}");

    writer.set_target(&name, Some(&bob.address())).send().await.expect("target");
    writer.set_relays(&name, &[bob.address()]).send().await.expect("relays");
    writer.map_domain(&name, &"www.example.org".parse().unwrap()).send().await.expect("mapped");
    wait_for(&chain, "target, relays and domain", |directory| {
        let record = &directory.names[&name];
        record.target == Some(bob.address()) && record.relays == [bob.address()] && record.domains.len() == 1
    })
    .await;
    world.writer(&bob).set_primary(&name).send().await.expect("primary");
    let before = read_name(&world.network, &name).await.expect("read").expect("registered").expires_at;
    world.writer(&bob).renew_name(&name, 2).send().await.expect("anybody renews");
    wait_for(&chain, "the renewal", |directory| directory.names[&name].expires_at > before).await;

    writer.transfer(&name, &bob).send().await.expect("transferred");
    wait_for(&chain, "the transfer", |directory| {
        let record = &directory.names[&name];
        record.owner == bob.address().to_string() && record.target.is_none() && record.domains.is_empty()
    })
    .await;
    world.writer(&bob).release(&name).send().await.expect("released");
    wait_for(&chain, "the release", |directory| {
        directory.names[&name].expires_at <= directory.ledger.closed_at
    })
    .await;
    assert_eq!(read_directory(&world.network).await.expect("read").names.len(), 1);
    assert_eq!(read_name(&world.network, &label("nobody")).await.expect("read"), None);
    chain.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_are_followed_as_chosen() {
    let world = World::new().await;
    let chain = world.reader(FollowedNames::Chosen);
    let alice = world.account(2).await;
    let writer = world.writer(&alice);
    for name in ["one", "two"] {
        writer.register_name(&label(name), &alice.address(), 1, None).send().await.expect("registered");
    }
    let handle = chain.handle();
    let directory = handle.follow_and_wait([label("one"), label("three")], Duration::from_secs(10)).await;
    let directory = directory.expect("read");
    assert_eq!(directory.names.keys().collect::<Vec<_>>(), [&label("one")]);
    writer.register_name(&label("three"), &alice.address(), 1, None).send().await.expect("registered");
    wait_for(&chain, "a name that was followed before it existed", |directory| directory.names.len() == 2)
        .await;
    handle.unfollow([label("one")]).await;
    wait_for(&chain, "the end of following", |directory| directory.names.len() == 1).await;
    chain.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_home_domain_is_set_and_cleared() {
    let world = World::new().await;
    let alice = world.account(2).await;
    let writer = world.writer(&alice);
    let read = async || read_account(&world.network, &alice.address()).await.expect("read").expect("exists");
    assert_eq!(read().await.home_domain, None);
    writer.set_home_domain(Some(&"mynode.tunnler.test".parse().unwrap())).send().await.expect("set");
    assert_eq!(read().await.home_domain.as_deref(), Some("mynode.tunnler.test"));
    writer.set_home_domain(None).send().await.expect("cleared");
    assert_eq!(read().await.home_domain, None);
    let long = "a-name-that-does-not-fit.tunnler.test".parse().unwrap();
    let error = writer.set_home_domain(Some(&long)).send().await.expect_err("too long");
    assert!(error.to_string().contains("has 37 bytes; a home_domain has at most 32"), "{error}");
    let stranger = crate::world::key(99);
    let error = world.writer(&stranger).set_home_domain(None).send().await.expect_err("no such account");
    assert!(error.to_string().contains("does not exist on this network; fund it first"), "{error}");
    assert_eq!(read_account(&world.network, &stranger.address()).await.expect("read"), None);
}
