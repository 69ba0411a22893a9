//! A large zone on a real ledger; by hand (`--features soak-tests`), because filling it takes minutes. Prints figures as
//! JSON: `TUNNLER_NAMES` (default 2,000) names and `TUNNLER_RELAYS` (default 200) relays.

use std::time::{Duration, Instant};

use tunnler_chain::{Chain, ChainConfig, FollowedNames, POLL};
use tunnler_localnet::FaultSwitches;

use crate::costs::crowd::{Crowd, member, named};
use crate::driver::resident;
use crate::meter::Meter;
use crate::world::{World, label, wait_for};

/// Starts with every endpoint down that are timed.
const RESTARTS: usize = 5;
/// Changes whose way to the reader is timed.
const CHANGES: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_zone_is_read_and_followed() {
    let (names, relays) = (number("TUNNLER_NAMES", 2_000), number("TUNNLER_RELAYS", 200));
    let world = World::with_endpoints(3, 2).await;
    let filling = Instant::now();
    {
        let meter = Meter::new(&world).await;
        Crowd::new(&meter).await.grow(relays, names).await;
    }
    println!("{{\"names\":{names},\"relays\":{relays},\"filled_s\":{:.1}}}", filling.elapsed().as_secs_f64());

    let state = tempfile::tempdir().expect("a directory");
    // As programs run it: the poll interval is the real one.
    let config = ChainConfig {
        state: Some(state.path().into()),
        ..ChainConfig::new(world.network.clone(), FollowedNames::All)
    };
    let before = resident("self");
    let started = Instant::now();
    let chain = Chain::start(config.clone()).expect("starts");
    let directory = chain.wait_ready(Duration::from_secs(600)).await.expect("ready");
    let ready = started.elapsed();
    assert_eq!((directory.names.len(), directory.relays.len()), (names, relays));
    let calls: u64 = chain.handle().status().endpoints.iter().map(|endpoint| endpoint.calls.0).sum();
    let memory = resident("self").saturating_sub(before);

    let writer = world.writer(&member(0));
    let mut slowest = Duration::ZERO;
    for turn in 0..CHANGES {
        let name = label(&named(turn));
        let expires = chain.handle().directory().expect("ready").names[&name].expires_at;
        writer.renew_name(&name, 1).send().await.expect("renewed");
        // The ledger closed before the receipt came; from then on.
        let renewed =
            |directory: &tunnler_protocol::directory::Directory| directory.names[&name].expires_at > expires;
        slowest = slowest.max(wait_for(&chain, "the renewal", renewed).await);
    }
    chain.shutdown().await;

    for endpoint in 0..3 {
        world.net.set_faults(endpoint, FaultSwitches { down: true, ..FaultSwitches::default() }).await;
    }
    let size = std::fs::metadata(state.path().join("chain.projection")).expect("kept").len();
    let mut restarts = Vec::new();
    for _ in 0..RESTARTS {
        let started = Instant::now();
        let chain = Chain::start(config.clone()).expect("starts");
        let directory = chain.handle().directory().expect("kept");
        restarts.push(started.elapsed());
        assert_eq!((directory.names.len(), directory.relays.len()), (names, relays));
        assert!(chain.handle().status().ledger.is_some(), "its age is known");
        chain.shutdown().await;
    }
    let first = restarts[0];
    restarts.sort();
    let median = restarts[RESTARTS / 2];
    println!(
        "{{\"ready_ms\":{},\"calls\":{calls},\"bytes_per_record\":{},\"slowest_change_ms\":{},\
         \"first_restart_ms\":{},\"median_restart_ms\":{},\"kept_bytes\":{size}}}",
        ready.as_millis(),
        memory / (names + relays),
        slowest.as_millis(),
        first.as_millis(),
        median.as_millis(),
    );
    assert!(slowest <= POLL + Duration::from_secs(1), "{slowest:?}");
    assert!(first < Duration::from_millis(100), "{first:?}");
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}
