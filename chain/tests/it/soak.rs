//! A large zone on a real ledger; by hand (`--features soak-tests`), because filling it takes minutes. Prints figures as
//! JSON: `TUNNLER_NAMES` (default 2,000) names and `TUNNLER_RELAYS` (default 200) relays.

use std::time::{Duration, Instant};

use futures::StreamExt;
use tunnler_chain::{FollowedNames, Writer};
use tunnler_protocol::SecretKey;

use crate::world::{POLL, STAKE, World, label, record, wait_for};

/// Accounts that register at the same time.
const AT_ONCE: usize = 4;
/// Names that one account may hold.
const PER_OWNER: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_zone_is_read_and_followed() {
    let (names, relays) = (number("TUNNLER_NAMES", 2_000), number("TUNNLER_RELAYS", 200));
    let world = World::with_endpoints(3, 2).await;
    let filling = Instant::now();
    let accounts = names.div_ceil(PER_OWNER).max(relays);
    // A few at a time: registrations that are built on one state take the same slot.
    let work = (0..accounts).map(|account| fill(&world, account, names, relays));
    futures::stream::iter(work).buffer_unordered(AT_ONCE).collect::<()>().await;
    let filled = filling.elapsed();

    let state = tempfile::tempdir().expect("a directory");
    let before = resident();
    let started = Instant::now();
    let chain = world.reader_kept(FollowedNames::All, Some(state.path().into()));
    let directory = chain.wait_ready(Duration::from_secs(600)).await.expect("ready");
    let ready = started.elapsed();
    assert_eq!((directory.names.len(), directory.relays.len()), (names, relays));
    let calls: u64 = chain.handle().status().endpoints.iter().map(|endpoint| endpoint.calls.0).sum();
    let memory = resident().saturating_sub(before);
    let writer = Writer::new(world.network.clone(), owner(0)).expect("writer");
    let expires = directory.names[&label("soak0")].expires_at;
    writer.renew_name(&label("soak0"), 1).send().await.expect("renewed");
    let noticed =
        wait_for(&chain, "the renewal", |directory| directory.names[&label("soak0")].expires_at > expires)
            .await;
    chain.shutdown().await;
    let started = Instant::now();
    let chain = world.reader_kept(FollowedNames::All, Some(state.path().into()));
    assert_eq!(chain.handle().directory().expect("kept").names.len(), names);
    let restarted = started.elapsed();
    chain.shutdown().await;
    println!(
        "{{\"names\":{names},\"relays\":{relays},\"filled_s\":{:.1},\"ready_ms\":{},\"calls\":{calls},\
         \"bytes_per_record\":{},\"change_noticed_ms\":{},\"restarted_ms\":{}}}",
        filled.as_secs_f64(),
        ready.as_millis(),
        memory / (names + relays),
        noticed.as_millis(),
        restarted.as_millis(),
    );
    assert!(noticed <= POLL + Duration::from_secs(1), "{noticed:?}");
}

async fn fill(world: &World, account: usize, names: usize, relays: usize) {
    let key = owner(account);
    world.net.fund(*key.address().as_bytes()).await.expect("funded");
    let writer = world.writer(&key);
    for name in account * PER_OWNER..names.min((account + 1) * PER_OWNER) {
        let name = label(&format!("soak{name}"));
        writer.register_name(&name, &key.address(), 1, None).send().await.expect("registered");
    }
    if account < relays {
        writer.register_relay(&key, &record(1), STAKE).send().await.expect("registered");
    }
}

fn owner(account: usize) -> SecretKey {
    let mut seed = [77; 32];
    seed[..8].copy_from_slice(&(account as u64).to_be_bytes());
    SecretKey::from_seed(&seed)
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Resident memory of this process in bytes, the ledger in it included.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}
