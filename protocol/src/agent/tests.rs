//! The agent among many relays on virtual time: they crash, hang, refuse, drain and swallow visitors, and the chain
//! stalls. Seeded; invariants are checked after every step, and each of them is shown to catch a bug.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::*;
use crate::directory::RelayStatus;
use crate::selection::tests::{directory, policy, relay};

const RELAYS: u8 = 50;
const CLIENTS: usize = 200;
const LENGTH: Duration = Duration::from_secs(420);
/// A client must be connected when some relay has been healthy for this long.
const RECONNECT: Duration = Duration::from_secs(60);
/// A relay that swallows visitors must be gone by then (three visits), where others exist.
const EXPOSED: Duration = Duration::from_secs(181);

/// A deliberate bug in the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sabotage {
    None,
    ForgetsToPublish,
    DialsTwoAtOnce,
    NeverDialsAgain,
    TrustsSwallowers,
    LeavesForNothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Up,
    Down,
    Hangs,
    Full,
    Swallows,
}

struct World {
    random: u64,
    start: Instant,
    now: Instant,
    relays: Vec<Arc<Relay>>,
    health: BTreeMap<Address, (Health, Instant)>,
    queue: BinaryHeap<Reverse<(Instant, u64, usize, Happening)>>,
    number: u64,
    sabotage: Sabotage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Turn,
    DialDone(Address),
    Measured(Address),
    Visited(Address),
    Noticed(Address),
    Closed(Address),
    Drains(Address),
}

struct Client {
    agent: Agent,
    dialling: BTreeSet<Address>,
    connected: BTreeMap<Address, Instant>,
    closing: BTreeSet<Address>,
    published: Vec<Address>,
    dials: usize,
    left_healthy: usize,
    alone_since: Option<Instant>,
    turn: Option<Instant>,
}

impl World {
    fn new(seed: u64, sabotage: Sabotage) -> Self {
        let start = Instant::now();
        let relays: Vec<Arc<Relay>> = (1..=RELAYS).map(|seed| Arc::new(relay(seed))).collect();
        let health = relays.iter().map(|relay| (relay.address, (Health::Up, start))).collect();
        let queue = BinaryHeap::new();
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { random, start, now: start, relays, health, queue, number: 0, sabotage }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % below
    }

    fn after(&mut self, wait: Duration, client: usize, happening: Happening) {
        self.number += 1;
        self.queue.push(Reverse((self.now + wait, self.number, client, happening)));
    }

    fn health(&self, relay: Address) -> Health {
        self.health[&relay].0
    }

    /// Since when at least one relay has been up without a break.
    fn healthy_since(&self) -> Option<Instant> {
        self.health.values().filter(|(health, _)| *health == Health::Up).map(|(_, since)| *since).min()
    }

    /// Carries out what the agent wants.
    fn act(&mut self, id: usize, client: &mut Client) {
        while let Some(action) = client.agent.poll_action() {
            match action {
                Action::Measure(relays) => {
                    for relay in relays {
                        let wait = Duration::from_millis(5 + self.draw(200));
                        self.after(wait, id, Happening::Measured(relay.address));
                    }
                }
                Action::Dial(relay) => self.dial(id, client, relay.address),
                Action::Publish(relays) if self.sabotage != Sabotage::ForgetsToPublish => {
                    client.published = relays;
                }
                Action::Publish(_) => {}
                Action::Close(relay, grace) => {
                    let state = client.agent.ranking(self.now);
                    let usable = state.iter().any(|r| r.relay.address == relay && r.excluded.is_none());
                    if self.health(relay) == Health::Up && usable {
                        client.left_healthy += 1;
                    }
                    client.closing.insert(relay);
                    let wait = Duration::from_millis(self.draw(1 + grace.as_millis() as u64));
                    self.after(wait, id, Happening::Closed(relay));
                }
                Action::Visit(relay) => {
                    self.after(Duration::from_millis(50), id, Happening::Visited(relay.address))
                }
                Action::Check(..) | Action::NewInstance => {}
            }
        }
        if let Some(next) = client.agent.poll_timeout(self.now)
            && client.turn.is_none_or(|turn| next < turn)
        {
            client.turn = Some(next);
            self.after(next.saturating_duration_since(self.now), id, Happening::Turn);
        }
    }

    fn dial(&mut self, id: usize, client: &mut Client, relay: Address) {
        client.dials += 1;
        if self.sabotage == Sabotage::NeverDialsAgain && client.dials > 2 {
            return;
        }
        client.dialling.insert(relay);
        let wait = match self.health(relay) {
            Health::Hangs => Duration::from_secs(10),
            _ => Duration::from_millis(20 + self.draw(300)),
        };
        self.after(wait, id, Happening::DialDone(relay));
        if self.sabotage == Sabotage::DialsTwoAtOnce {
            let others: Vec<Address> = self.relays.iter().map(|relay| relay.address).take(2).collect();
            client.dialling.extend(others);
        }
    }

    fn happen(&mut self, id: usize, client: &mut Client, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Turn => {
                client.turn = None;
                client.agent.handle_timeout(now);
            }
            Happening::Measured(relay) => {
                let rtt = Duration::from_millis(5 + u64::from(relay.as_bytes()[3]));
                let answered = !matches!(self.health(relay), Health::Down | Health::Hangs);
                client.agent.handle(now, Event::Measured(relay, answered.then_some(rtt)));
            }
            Happening::DialDone(relay) => {
                client.dialling.remove(&relay);
                match self.health(relay) {
                    Health::Up | Health::Swallows => {
                        client.connected.insert(relay, now);
                        client.agent.handle(now, Event::Connected(relay));
                    }
                    Health::Full => {
                        let failure = DialFailure::Refused(AuthFailure::Full);
                        client.agent.handle(now, Event::DialFailed(relay, failure));
                    }
                    Health::Down | Health::Hangs => {
                        client.agent.handle(now, Event::DialFailed(relay, DialFailure::Unreachable));
                    }
                }
            }
            Happening::Visited(relay) => {
                let honest = self.health(relay) == Health::Up || self.sabotage == Sabotage::TrustsSwallowers;
                let visit = if honest { Visit::Arrived } else { Visit::Swallowed };
                client.agent.handle(now, Event::Visited(relay, visit));
                let flap = self.sabotage == Sabotage::LeavesForNothing;
                if flap && client.connected.contains_key(&relay) {
                    client.left_healthy += 1;
                }
            }
            Happening::Noticed(relay) | Happening::Closed(relay) => {
                let known = client.connected.remove(&relay).is_some();
                let asked = client.closing.remove(&relay);
                if known || asked {
                    let loss = if asked { Loss::Asked } else { Loss::Broken };
                    client.agent.handle(now, Event::Lost(relay, loss));
                }
            }
            Happening::Drains(relay) => {
                if client.connected.contains_key(&relay) {
                    client.agent.handle(now, Event::Draining(relay, now + Duration::from_secs(20)));
                }
            }
        }
        self.act(id, client);
    }

    /// Something goes wrong with a relay, or right again.
    fn disturb(&mut self, clients: &mut [Client]) {
        let index = self.draw(u64::from(RELAYS)) as usize;
        let relay = self.relays[index].address;
        let health = match self.draw(10) {
            0..=3 => Health::Down,
            4 => Health::Hangs,
            5 => Health::Full,
            6 => Health::Swallows,
            _ => Health::Up,
        };
        self.health.insert(relay, (health, self.now));
        let wait = match health {
            // A reset is noticed at once, silence after ten seconds.
            Health::Down => Duration::from_millis(10),
            Health::Hangs => Duration::from_secs(10),
            Health::Up | Health::Full | Health::Swallows => {
                if self.draw(4) == 0 {
                    for id in 0..clients.len() {
                        self.after(Duration::ZERO, id, Happening::Drains(relay));
                    }
                }
                return;
            }
        };
        for (id, client) in clients.iter().enumerate() {
            if client.connected.contains_key(&relay) {
                self.after(wait, id, Happening::Noticed(relay));
            }
        }
    }

    /// The invariants, after each step of one client. An error names the one that does not hold.
    fn check(&self, client: &mut Client) -> Result<(), String> {
        let sessions: BTreeSet<&Address> = client.dialling.iter().chain(client.connected.keys()).collect();
        if sessions.len() > SESSIONS + 1 {
            return Err(format!("{} sessions", sessions.len()));
        }
        let listed = client.agent.listed();
        if !listed.is_empty() && client.published != listed {
            return Err(format!("published {:?}, serves from {listed:?}", client.published));
        }
        if let Some(absent) = listed.iter().find(|relay| !client.connected.contains_key(relay)) {
            return Err(format!("lists {absent} without a session"));
        }
        if client.connected.is_empty() {
            let since = *client.alone_since.get_or_insert(self.now);
            let healthy = self.healthy_since().unwrap_or(self.now);
            if self.now.saturating_duration_since(since.max(healthy)) > RECONNECT {
                return Err("not connected although a relay is healthy".into());
            }
        } else {
            client.alone_since = None;
        }
        for (relay, since) in &client.connected {
            let (health, changed) = self.health[relay];
            let exposed = self.now.saturating_duration_since(changed.max(*since));
            if health == Health::Swallows && exposed > EXPOSED && !client.closing.contains(relay) {
                return Err(format!("holds on to {relay}, which swallows visitors"));
            }
        }
        if client.left_healthy > 4 {
            return Err("flaps".into());
        }
        let minutes = (self.now - self.start).as_secs() as usize / 60 + 1;
        if client.dials > 20 * minutes + 10 {
            return Err(format!("{} dials in {minutes} minutes", client.dials));
        }
        Ok(())
    }
}

fn simulate(seed: u64, clients: usize, sabotage: Sabotage) -> Result<(), String> {
    let mut world = World::new(seed, sabotage);
    let chain = Arc::new(directory(world.relays.iter().map(|relay| Relay::clone(relay))));
    let mut draining = Directory::clone(&chain);
    for relay in draining.relays.values_mut().take(3) {
        Arc::make_mut(relay).status = RelayStatus::Draining;
    }
    let draining = Arc::new(draining);
    let mut policy = policy();
    policy.ingress_port = 443;
    let mut all: Vec<Client> = (0..clients)
        .map(|id| Client {
            agent: Agent::new(Config {
                sessions: SESSIONS,
                policy: policy.clone(),
                seed: seed.wrapping_mul(1000) + id as u64,
            }),
            dialling: BTreeSet::new(),
            connected: BTreeMap::new(),
            closing: BTreeSet::new(),
            published: Vec::new(),
            dials: 0,
            left_healthy: 0,
            alone_since: None,
            turn: None,
        })
        .collect();
    for (id, client) in all.iter_mut().enumerate() {
        client.agent.handle(world.now, Event::Directory(chain.clone()));
        world.act(id, client);
    }
    let mut next_disturbance = world.now;
    let mut next_ledger = world.now + Duration::from_secs(90);
    while let Some(Reverse((at, _, id, happening))) = world.queue.pop() {
        if at > world.start + LENGTH {
            break;
        }
        world.now = at;
        if at >= next_disturbance {
            next_disturbance = at + Duration::from_millis(1500);
            world.disturb(&mut all);
        }
        if at >= next_ledger {
            // Some relays start to drain on chain; then the chain is silent for the rest of the time.
            next_ledger = at + LENGTH;
            for (id, client) in all.iter_mut().enumerate() {
                client.agent.handle(at, Event::Directory(draining.clone()));
                world.act(id, client);
            }
        }
        let client = &mut all[id];
        world.happen(id, client, happening);
        world
            .check(client)
            .map_err(|broken| format!("seed {seed}, client {id}, {:?}: {broken}", at - world.start))?;
    }
    Ok(())
}

/// Seeds to run; `scripts/soak` asks for more.
fn seeds() -> u64 {
    std::env::var("TUNNLER_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(200)
}

#[test]
fn the_invariants_hold_whatever_happens() {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for seed in (0..seeds()).filter(|seed| seed % threads == thread) {
                    // The whole population in a few seeds, a sample in the others: clients do not see each other.
                    let clients = if seed % 50 == 0 { CLIENTS } else { 12 };
                    simulate(seed, clients, Sabotage::None).unwrap();
                }
            });
        }
    });
}

#[test]
fn each_invariant_catches_its_bug() {
    for (sabotage, says) in [
        (Sabotage::ForgetsToPublish, "serves from"),
        (Sabotage::DialsTwoAtOnce, "sessions"),
        (Sabotage::NeverDialsAgain, "not connected"),
        (Sabotage::TrustsSwallowers, "swallows"),
        (Sabotage::LeavesForNothing, "flaps"),
    ] {
        let caught = (0..40).find_map(|seed| simulate(seed, 20, sabotage).err());
        let caught = caught.unwrap_or_else(|| panic!("{sabotage:?} went unnoticed"));
        assert!(caught.contains(says), "{sabotage:?}: {caught}");
    }
}

#[test]
fn a_client_alone_with_one_relay_keeps_it_while_it_drains_and_comes_back() {
    let start = Instant::now();
    let only = relay(1);
    let mut agent = Agent::new(Config { sessions: 2, policy: policy(), seed: 1 });
    assert_eq!(agent.state(start), State::Connecting);
    agent.handle(start, Event::Directory(Arc::new(directory([only.clone()]))));
    let drain = |agent: &mut Agent| std::iter::from_fn(|| agent.poll_action()).collect::<Vec<_>>();
    assert!(matches!(drain(&mut agent)[..], [Action::Measure(_)]));
    agent.handle(start, Event::Measured(only.address, Some(Duration::from_millis(3))));
    assert!(matches!(drain(&mut agent)[..], [Action::Dial(_)]));
    assert_eq!(agent.state(start), State::Authenticating);
    agent.handle(start, Event::Connected(only.address));
    assert_eq!(drain(&mut agent), [Action::Publish(vec![only.address])]);
    assert_eq!(agent.state(start), State::Connected);
    let later = start + Duration::from_secs(5);
    agent.handle(later, Event::Draining(only.address, later + Duration::from_secs(60)));
    assert_eq!(drain(&mut agent), [], "the only relay is kept and stays published");
    agent.handle(later, Event::Lost(only.address, Loss::Closed));
    assert_eq!(agent.state(later), State::Reconnecting);
    let again = agent.poll_timeout(later).unwrap();
    assert!(again <= later + Duration::from_secs(1));
    agent.handle_timeout(again);
    assert!(matches!(drain(&mut agent)[..], [Action::Dial(_)]));
    agent.handle(again, Event::Connected(only.address));
    assert!(drain(&mut agent).is_empty(), "the presence it already knows still says the same");
    agent.handle(again + Duration::from_secs(1801), Event::Stop);
    assert_eq!(
        drain(&mut agent),
        [Action::Publish(vec![]), Action::Close(only.address, Duration::from_secs(30))]
    );
    assert_eq!(agent.state(again), State::Disconnected);
}

#[test]
fn the_presence_is_renewed_at_half_life_and_after_a_newer_one_was_seen() {
    let start = Instant::now();
    let one = relay(1);
    let mut agent = Agent::new(Config { sessions: 1, policy: policy(), seed: 1 });
    agent.handle(start, Event::Directory(Arc::new(directory([one.clone()]))));
    agent.handle(start, Event::Measured(one.address, None));
    agent.handle_timeout(start + MEASURE_PATIENCE);
    agent.handle(start + MEASURE_PATIENCE, Event::Connected(one.address));
    let published = |agent: &mut Agent| {
        std::iter::from_fn(|| agent.poll_action()).filter(|a| matches!(a, Action::Publish(_))).count()
    };
    assert_eq!(published(&mut agent), 1);
    agent.handle_timeout(start + Duration::from_secs(1700));
    assert_eq!(published(&mut agent), 0);
    agent.handle_timeout(start + Duration::from_secs(1802));
    assert_eq!(published(&mut agent), 1);
    agent.handle(start + Duration::from_secs(1803), Event::Stale(one.address));
    assert_eq!(published(&mut agent), 1);
}
