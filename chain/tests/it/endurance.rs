//! Faults in any order, and two programs with one key.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tunnler_chain::{FollowedNames, read_account, read_directory};
use tunnler_localnet::{Closing, FaultSwitches};

use crate::quorum::name_slot;
use crate::world::{POLL, World, label, wait_for};

/// Faults in the schedule.
const FAULTS: usize = 500;
/// Faults between two quiet periods.
const BATCH: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_500_faults_everything_is_true_and_nothing_was_done_twice() {
    let seed = 20_261_120;
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::with_endpoints(3, 2).await;
    let (alice, bob) = (world.account(2).await, world.account(3).await);
    let writer = world.writer(&alice);
    let names: Vec<_> = (0..4).map(|i| label(&format!("name{i}"))).collect();
    for name in &names {
        writer.register_name(name, &alice.address(), 1, None).send().await.expect("registered");
    }
    let state = tempfile::tempdir().expect("a directory");
    let mut chain = world.reader_kept(FollowedNames::All, Some(state.path().into()));
    wait_for(&chain, "the names", |directory| directory.names.len() == 4).await;
    let first = chain.handle().directory().unwrap().namespace_revision;
    let mut targets = vec![alice.address(); 4];
    let mut sent = 0;
    for fault in 1..=FAULTS {
        let endpoint = random.random_range(0..3);
        world.net.set_faults(endpoint, draw(&mut random, endpoint, &world)).await;
        // Long enough for the reader to meet it.
        tokio::time::sleep(POLL / 10).await;
        if fault % 10 == 0 {
            let which = random.random_range(0..4);
            targets[which] = if targets[which] == alice.address() { bob.address() } else { alice.address() };
            // At least one endpoint works, so that the writer has a chance.
            world.net.set_faults(0, FaultSwitches::default()).await;
            let sending = Instant::now();
            let result = writer.set_target(&names[which], Some(&targets[which])).send().await;
            result.unwrap_or_else(|error| panic!("fault {fault}: {error} after {:?}", sending.elapsed()));
            sent += 1;
        }
        if fault % BATCH == 0 {
            for endpoint in 0..3 {
                world.net.set_faults(endpoint, FaultSwitches::default()).await;
            }
            wait_for(&chain, "the true state", |directory| {
                directory.namespace_revision == first + sent
                    && names
                        .iter()
                        .zip(&targets)
                        .all(|(name, target)| directory.names[name].target == Some(*target))
            })
            .await;
            if fault % (2 * BATCH) == 0 {
                chain.shutdown().await;
                chain = world.reader_kept(FollowedNames::All, Some(state.path().into()));
            }
        }
    }
    // The revision counts every transaction once.
    let directory = read_directory(&world.network).await.expect("read");
    assert_eq!(directory.namespace_revision, first + sent);
    chain.shutdown().await;
}

fn draw(random: &mut StdRng, endpoint: usize, world: &World) -> FaultSwitches {
    let none = FaultSwitches::default();
    match random.random_range(0..10) {
        0 => FaultSwitches { down: true, ..none },
        1 => FaultSwitches { slow_ms: random.random_range(50..300), ..none },
        2 => FaultSwitches { http_status: NonZeroU16::new(429), ..none },
        3 => FaultSwitches { http_status: NonZeroU16::new(503), ..none },
        4 => FaultSwitches { garbage: true, ..none },
        5 => FaultSwitches { passphrase: Some("Another Network".into()), ..none },
        6 => FaultSwitches { stale: true, ..none },
        7 => FaultSwitches { try_again_later_every: NonZeroU32::new(2), ..none },
        8 => FaultSwitches { retention: NonZeroU32::new(3), ..none },
        _ if endpoint == 2 => {
            let slot = random.random_range(0..4);
            FaultSwitches { forged: [(name_slot(world, slot), String::new())].into(), ..none }
        }
        _ => none,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_programs_with_one_key_lose_and_double_nothing() {
    const EACH: i64 = 200;
    let world = World::new().await;
    let alice = world.account(2).await;
    let sequence = async || read_account(&world.network, &alice.address()).await.unwrap().unwrap().sequence;
    let before = sequence().await;
    let started = Instant::now();
    let program = |which: &'static str| {
        // Writers of their own: they share nothing but the key.
        let writer = world.writer(&alice);
        tokio::spawn(async move {
            for turn in 0..EACH {
                let domain = format!("{which}{turn}.test").parse().unwrap();
                writer.set_home_domain(Some(&domain)).send().await.expect("sent");
            }
        })
    };
    let (one, two) = (program("one"), program("two"));
    one.await.expect("ends");
    two.await.expect("ends");
    assert_eq!(sequence().await - before, 2 * EACH, "each transaction took one sequence number");
    println!("{} transactions of one key in {:?}", 2 * EACH, started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_at_the_same_moment_do_not_collide() {
    let world = World::new().await;
    let accounts = [world.account(2).await, world.account(3).await, world.account(4).await];
    let register = async |seed: usize| {
        let writer = world.writer(&accounts[seed]);
        let name = label(&format!("together{seed}"));
        writer.register_name(&name, &accounts[seed].address(), 1, None).send().await
    };
    let (a, b, c) = tokio::join!(register(0), register(1), register(2));
    for result in [a, b, c] {
        result.expect("registered");
    }
    assert_eq!(read_directory(&world.network).await.expect("read").names.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_takes_one_transaction_a_ledger_is_waited_for() {
    const EACH: i64 = 5;
    let world = World::with_endpoints(2, 2).await;
    let alice = world.account(2).await;
    let sequence = async || read_account(&world.network, &alice.address()).await.unwrap().unwrap().sequence;
    let before = sequence().await;
    world.net.set_closing(Closing::Interval);
    let program = async |which: &str| {
        let writer = world.writer(&alice);
        for turn in 0..EACH {
            let domain = format!("{which}{turn}.test").parse().unwrap();
            writer.set_home_domain(Some(&domain)).send().await.expect("sent");
        }
    };
    let ledgers = async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            world.net.advance(1).await.expect("closed");
        }
    };
    tokio::select! {
        _ = async { tokio::join!(program("one"), program("two")) } => {}
        () = ledgers => {}
    }
    assert_eq!(sequence().await - before, 2 * EACH);
}
