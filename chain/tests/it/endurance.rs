//! Faults in any order, and two programs with one key: nothing lost, nothing doubled, nothing that grows.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tunnler_chain::{FollowedNames, history, read_account, read_directory};
use tunnler_localnet::{Closing, FaultSwitches};
use tunnler_protocol::Address;
use tunnler_protocol::name::Label;

use crate::driver::{Program, Role, resident};
use crate::quorum::name_slot;
use crate::world::{POLL, World, label, wait_for};

/// Faults in the schedule.
const FAULTS: usize = 500;
/// Faults between two quiet periods.
const BATCH: usize = 50;
/// By how much a reader's process may grow between the first half of the schedule and the second, in bytes: what an
/// allocator keeps varies by less.
const GROWTH: usize = 2 << 20;

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
    // One that is never restarted, in a process whose memory is its own.
    let mut follower = Program::start(Role::Follow, &world.network, state.path());
    let mut memory = Vec::new();
    let first = chain.handle().directory().unwrap().namespace_revision;
    let mut targets = vec![alice.address(); 4];
    let mut sent = 0;
    follows(&mut follower, &names, &targets, first).await;
    let sequence = async || read_account(&world.network, &alice.address()).await.unwrap().unwrap().sequence;
    let sequence_before = sequence().await;
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
            let changes = follows(&mut follower, &names, &targets, first + sent).await;
            assert!(changes <= sent, "{changes} changes of {sent} transactions: something was applied twice");
            memory.push(resident(&follower.id().to_string()));
            if fault % (2 * BATCH) == 0 {
                chain.shutdown().await;
                chain = world.reader_kept(FollowedNames::All, Some(state.path().into()));
            }
        }
    }
    // The revision counts every transaction once, and so do the account and the events.
    let directory = read_directory(&world.network).await.expect("read");
    assert_eq!(directory.namespace_revision, first + sent);
    assert_eq!(sequence().await - sequence_before, i64::try_from(sent).unwrap());
    let mut told = 0;
    for name in &names {
        let events = history(&world.network, name.as_str()).await.expect("read");
        told += events.iter().filter(|event| event.event != "name_registered").count() as u64;
    }
    assert_eq!(told, sent);
    chain.shutdown().await;
    let (early, late) = memory.split_at(memory.len() / 2);
    println!("resident memory of the follower after each quiet period: {memory:?}");
    assert!(late.iter().max() <= early.iter().max().map(|most| most + GROWTH).as_ref(), "{memory:?}");
}

/// Waits until the follower's directory is the true one, and tells how many changes it has seen so far.
async fn follows(follower: &mut Program, names: &[Label], targets: &[Address], revision: u64) -> u64 {
    let targets: BTreeMap<String, Address> =
        names.iter().map(Label::to_string).zip(targets.iter().copied()).collect();
    let wanted = (serde_json::json!(revision), serde_json::json!(targets));
    let started = Instant::now();
    loop {
        let told = follower.ask().await;
        if (&told["revision"], &told["targets"]) == (&wanted.0, &wanted.1) {
            return told["changes"].as_u64().expect("a number");
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{wanted:?} was not seen: {told}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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
async fn two_processes_with_one_key_lose_and_double_nothing() {
    const EACH: usize = 200;
    let world = World::new().await;
    let alice = world.account(2).await;
    let sequence = async || read_account(&world.network, &alice.address()).await.unwrap().unwrap().sequence;
    let before = sequence().await;
    let started = Instant::now();
    let directory = tempfile::tempdir().expect("a directory");
    // Processes of their own: they share nothing but the key.
    let program = || Program::start(Role::Send(EACH), &world.network, directory.path());
    let (mut one, mut two) = (program(), program());
    let (one, two) = tokio::join!(one.answer(), two.answer());
    assert_eq!([&one["sent"], &two["sent"]], [EACH, EACH], "all succeed");
    let taken = sequence().await - before;
    assert_eq!(taken, 2 * i64::try_from(EACH).unwrap(), "each transaction took one sequence number");
    println!("{taken} transactions of one key in {:?}", started.elapsed());
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
