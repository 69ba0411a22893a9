//! The state machine against a model of the chain: any order of mutations, ledgers, answers, failures and restarts, with
//! lagging endpoints and a liar, ends in the true state.

mod model;

use std::time::{Duration, Instant};

use proptest::prelude::*;

use self::model::{Lie, Model, Mutation};
use super::*;

const POLL: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
enum Step {
    Mutate(Mutation),
    Close,
    /// An endpoint learns of up to so many ledgers.
    CatchUp(usize, usize),
    /// An endpoint makes the calls the reader wants.
    Call(usize),
    /// One of an endpoint's answers arrives.
    Answer(usize, usize),
    /// One of an endpoint's calls fails.
    Fail(usize, usize),
    Wait(u64),
    /// All endpoints are at the newest ledger and answer everything.
    Flush,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let endpoint = 0..3_usize;
    let mutation = prop_oneof![
        3 => Just(Mutation::RegisterRelay),
        2 => any::<u8>().prop_map(Mutation::UpdateRelay),
        2 => any::<u8>().prop_map(Mutation::WithdrawRelay),
        1 => any::<u8>().prop_map(Mutation::RotateRelay),
        1 => any::<u8>().prop_map(Mutation::Heartbeat),
        3 => Just(Mutation::RegisterName),
        3 => any::<u8>().prop_map(Mutation::UpdateName),
        2 => any::<u8>().prop_map(Mutation::ToggleDomain),
        1 => Just(Mutation::Pause),
    ];
    let step = prop_oneof![
        6 => mutation.prop_map(Step::Mutate),
        3 => Just(Step::Close),
        4 => (endpoint.clone(), 1..4_usize).prop_map(|(endpoint, by)| Step::CatchUp(endpoint, by)),
        8 => endpoint.clone().prop_map(Step::Call),
        12 => (endpoint.clone(), any::<usize>()).prop_map(|(endpoint, nth)| Step::Answer(endpoint, nth)),
        1 => (endpoint, any::<usize>()).prop_map(|(endpoint, nth)| Step::Fail(endpoint, nth)),
        3 => (1..6000_u64).prop_map(Step::Wait),
        1 => Just(Step::Flush),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..150)
}

struct World {
    model: Model,
    reader: Reader,
    policy: Policy,
    now: Instant,
    /// Calls under way, each with the ledger its endpoint was at.
    under_way: Vec<Vec<(Call, usize)>>,
    /// How far each endpoint has come.
    ledgers: Vec<usize>,
    lie: Lie,
    directory: Option<Arc<Directory>>,
    calls: usize,
}

impl World {
    fn new(endpoints: usize, quorum: usize, lie: Lie) -> Self {
        Self::following(FollowedNames::All, endpoints, quorum, lie)
    }

    fn following(names: FollowedNames, endpoints: usize, quorum: usize, lie: Lie) -> Self {
        let policy = Policy { endpoints, quorum, passphrase: "test".into(), poll: POLL, names };
        let now = Instant::now();
        let reader = Reader::new(policy.clone(), None, 7, now);
        let under_way = vec![Vec::new(); endpoints];
        let ledgers = vec![0; endpoints];
        let mut this = Self {
            model: Model::new(),
            reader,
            policy,
            now,
            under_way,
            ledgers,
            lie,
            directory: None,
            calls: 0,
        };
        this.follow();
        this
    }

    /// Every other name, registered or not.
    fn follow(&mut self) {
        (0..20).step_by(2).for_each(|slot| self.reader.follow(model::label(slot)));
    }

    fn take(&mut self, step: Step) {
        let count = self.policy.endpoints;
        match step {
            Step::Mutate(mutation) => self.model.mutate(mutation),
            Step::Close => self.model.close(),
            Step::CatchUp(endpoint, by) => {
                let ledger = &mut self.ledgers[endpoint % count];
                *ledger = (*ledger + by).min(self.model.tip());
            }
            Step::Call(endpoint) => self.call(endpoint % count),
            Step::Answer(endpoint, nth) => self.answer(endpoint % count, nth),
            Step::Fail(endpoint, nth) => {
                let endpoint = endpoint % count;
                if let Some((call, _)) = self.pick(endpoint, nth) {
                    let failure = Err(Failure("down".into()));
                    self.reader.handle(endpoint, call, failure, self.now);
                }
            }
            Step::Wait(milliseconds) => self.now += Duration::from_millis(milliseconds),
            Step::Flush => self.flush(),
            Step::Restart => self.restart(),
        }
        self.publish();
    }

    fn call(&mut self, endpoint: usize) {
        while let Some(call) = self.reader.next_call(endpoint, self.now) {
            self.calls += 1;
            self.under_way[endpoint].push((call, self.ledgers[endpoint]));
        }
    }

    fn pick(&mut self, endpoint: usize, nth: usize) -> Option<(Call, usize)> {
        let calls = &mut self.under_way[endpoint];
        (!calls.is_empty()).then(|| calls.remove(nth % calls.len()))
    }

    fn answer(&mut self, endpoint: usize, nth: usize) {
        let Some((call, ledger)) = self.pick(endpoint, nth) else { return };
        let lie = if endpoint == 2 { self.lie } else { Lie::None };
        let answer = self.model.answer(&call, ledger, lie);
        self.reader.handle(endpoint, call, Ok(answer), self.now);
    }

    fn publish(&mut self) {
        if let Some(directory) = self.reader.snapshot(self.now) {
            let before = self.directory.replace(directory.clone());
            if let Some(before) = before {
                assert!(directory.ledger >= before.ledger, "the ledger of the directory went back");
            }
        }
    }

    fn restart(&mut self) {
        let kept = self.reader.keep();
        self.reader = Reader::new(self.policy.clone(), kept, 8, self.now);
        self.follow();
        self.under_way.iter_mut().for_each(Vec::clear);
        self.directory = None;
    }

    fn flush(&mut self) {
        self.ledgers.fill(self.model.tip());
        for endpoint in 0..self.policy.endpoints {
            self.call(endpoint);
            while !self.under_way[endpoint].is_empty() {
                self.answer(endpoint, 0);
            }
        }
    }

    /// Everything works from now on (the liar apart), for long enough.
    fn settle(&mut self) {
        self.model.close();
        let end = self.now + Duration::from_secs(150);
        while self.now < end {
            self.flush();
            self.publish();
            let due = self.reader.due_at(self.now).unwrap_or(end);
            self.now = due.max(self.now + Duration::from_millis(10));
        }
    }

    fn assert_true(&self) {
        let directory = self.directory.as_ref().expect("a directory");
        assert_eq!(self.model.relays(), model::relays_of(directory));
        let mut names = self.model.names();
        if self.policy.names == FollowedNames::Chosen {
            names.retain(|name, _| (0..20).step_by(2).any(|slot| *name == model::label(slot).to_string()));
        }
        assert_eq!(names, model::names_of(directory));
        assert_eq!(directory.registry_revision, self.model.revisions()[0]);
        assert_eq!(directory.namespace_revision, self.model.revisions()[1]);
    }
}

fn run(endpoints: usize, quorum: usize, lie: Lie, steps: Vec<Step>) {
    run_in(World::new(endpoints, quorum, lie), steps);
}

fn run_in(mut world: World, steps: Vec<Step>) {
    for _ in 0..4 {
        world.model.mutate(Mutation::RegisterRelay);
        world.model.mutate(Mutation::RegisterName);
    }
    world.settle();
    steps.into_iter().for_each(|step| world.take(step));
    world.settle();
    world.assert_true();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_endpoint_ends_in_the_true_state(steps in steps()) {
        run(1, 1, Lie::None, steps);
    }

    #[test]
    fn two_that_must_agree_end_in_the_true_state(steps in steps()) {
        run(2, 2, Lie::None, steps);
    }

    #[test]
    fn chosen_names_end_in_the_true_state(steps in steps(), lie in model::lies()) {
        run_in(World::following(FollowedNames::Chosen, 3, 2, lie), steps);
    }

    #[test]
    fn three_with_a_liar_end_in_the_true_state(steps in steps(), lie in model::lies()) {
        run(3, 2, lie, steps);
    }
}

#[test]
fn nothing_is_read_again_while_nothing_changes() {
    let mut world = World::new(3, 2, Lie::None);
    for _ in 0..50 {
        world.model.mutate(Mutation::RegisterName);
    }
    world.settle();
    let (entries, calls) = (world.model.entries_read(), world.calls);
    world.settle();
    let polls = 3 * 150 / 5;
    assert!(world.calls - calls <= polls + 3, "{} calls for {polls} polls", world.calls - calls);
    assert_eq!(world.model.entries_read(), entries);
    // One change costs one entry and one page of events at each endpoint.
    world.model.mutate(Mutation::UpdateName(0));
    let calls = world.calls;
    world.settle();
    assert!(world.model.entries_read() - entries <= 3, "{}", world.model.entries_read() - entries);
    assert!(world.calls - calls <= polls + 3 * 3);
    world.assert_true();
}

#[test]
fn a_large_zone_is_read_in_pages() {
    // More of them by hand, for figures.
    let names = std::env::var("TUNNLER_SCALE").map_or(20_000, |names| names.parse().expect("a number"));
    let mut world = World::new(1, 1, Lie::None);
    for _ in 0..names {
        world.model.mutate(Mutation::RegisterName);
    }
    let started = Instant::now();
    world.model.close();
    world.ledgers.fill(world.model.tip());
    while world.directory.is_none() {
        world.call(0);
        while !world.under_way[0].is_empty() {
            world.answer(0, 0);
        }
        world.publish();
        world.now += Duration::from_millis(10);
    }
    world.assert_true();
    let snapshot = Instant::now();
    let kept = world.reader.keep().expect("ready");
    let size: usize =
        kept.agreements.iter().filter_map(|kept| kept.value.as_ref()).map(|value| value.bytes.len()).sum();
    println!(
        "{names} names: {} calls, {:?} without the network, {} bytes of entries a name, {:?} to keep",
        world.calls,
        started.elapsed(),
        size / names,
        snapshot.elapsed(),
    );
    let started = Instant::now();
    let mut reader = Reader::new(world.policy.clone(), Some(kept), 8, world.now);
    assert_eq!(reader.snapshot(world.now).expect("served at once").names.len(), names);
    println!("restored in {:?}", started.elapsed());
    assert!(world.calls <= names / 200 + 5, "{} calls", world.calls);
}

#[test]
fn a_withdrawal_is_noticed_without_reading_everything_again() {
    for (endpoints, quorum, lie) in
        [(1, 1, Lie::None), (3, 2, Lie::None), (3, 2, Lie::Withholds), (3, 2, Lie::Denies)]
    {
        let mut world = World::new(endpoints, quorum, lie);
        for _ in 0..100 {
            world.model.mutate(Mutation::RegisterRelay);
        }
        world.settle();
        let entries = world.model.entries_read();
        world.model.mutate(Mutation::WithdrawRelay(3));
        world.settle();
        world.assert_true();
        let read = world.model.entries_read() - entries;
        assert!(read <= 3 * endpoints, "{read} entries read again ({lie:?})");
    }
}
