//! Events for people.

use tunnler_chain::{EventFeed, Since, history};

use crate::world::{STAKE, World, label, record};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_of_a_name_and_of_a_relay() {
    let world = World::new().await;
    let alice = world.account(2).await;
    let writer = world.writer(&alice);
    let mut feed = EventFeed::open(&world.network, Since::Now).await.expect("opens");
    assert_eq!(feed.next().await.expect("read"), []);
    writer.register_name(&label("mynode"), &alice.address(), 1, None).send().await.expect("registered");
    writer.register_name(&label("other"), &alice.address(), 1, None).send().await.expect("registered");
    let renewal = writer.renew_name(&label("mynode"), 1).send().await.expect("renewed");
    writer.register_relay(&alice, &record(1), STAKE).send().await.expect("registered");

    let events = history(&world.network, "mynode").await.expect("read");
    let what: Vec<&str> = events.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(what, ["name_registered", "name_renewed"]);
    assert_eq!(events[0].subjects, ["mynode", &alice.address().to_string()]);
    assert_eq!(events[0].details["target"], alice.address().to_string());
    assert_eq!(events[1].transaction.as_deref(), Some(renewal.hash.as_str()));
    assert_eq!(events[1].ledger, renewal.ledger);
    let events = history(&world.network, &alice.address().to_string()).await.expect("read");
    assert!(events.iter().any(|event| event.event == "relay_registered"), "{events:#?}");

    let mut seen = Vec::new();
    while seen.len() < 4 {
        let events = feed.next().await.expect("read");
        assert!(!events.is_empty(), "only {seen:?}");
        seen.extend(events.into_iter().map(|event| event.event));
    }
    assert_eq!(seen, ["name_registered", "name_registered", "name_renewed", "relay_registered"]);
    assert_eq!(feed.next().await.expect("read"), [], "nothing twice");
}
