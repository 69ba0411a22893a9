//! The agent among many relays on virtual time: they crash, hang, are slow, refuse, drain, swallow visitors and lie about
//! presences; links lose and part; clients crash; the chain stalls. Seeded; invariants are checked after every step, and
//! each of them is shown to catch a bug.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::*;
use crate::directory::RelayStatus;

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
    HidesLosses,
    ForgetsFailures,
    BelievesLiars,
    ForgetsSequence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Up,
    Down,
    Hangs,
    Full,
    /// Takes its time, and is far away.
    Slow,
    /// Claims to serve, swallows visitors, and claims to know newer presences.
    Lies,
}

struct World {
    random: u64,
    start: Instant,
    now: Instant,
    relays: Vec<Arc<Relay>>,
    chain: Arc<Directory>,
    health: BTreeMap<Address, (Health, Instant)>,
    queue: BinaryHeap<Reverse<(Instant, u64, usize, Happening)>>,
    number: u64,
    parted: Option<Parted>,
    parted_at: Instant,
    sabotage: Sabotage,
}

/// Some clients cannot reach some relays.
#[derive(Clone, Copy)]
struct Parted {
    clients: usize,
    relays: u8,
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
    Stale(Address),
}

struct Client {
    agent: Agent,
    dialling: BTreeSet<Address>,
    connected: BTreeMap<Address, Instant>,
    closing: BTreeSet<Address>,
    drained: BTreeSet<Address>,
    published: Vec<Address>,
    publications: usize,
    seq: u64,
    crashes: u64,
    went_back: bool,
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
        let chain = Arc::new(directory(relays.iter().map(|relay| Relay::clone(relay))));
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let parted = None;
        Self {
            random,
            start,
            now: start,
            relays,
            chain,
            health,
            queue,
            number: 0,
            parted,
            parted_at: start,
            sabotage,
        }
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

    /// What the relay is to this client.
    fn health(&self, id: usize, relay: Address) -> Health {
        let cut = |parted: &Parted| id % 4 == parted.clients && relay.as_bytes()[7] % 3 == parted.relays;
        if self.parted.is_some_and(|parted| cut(&parted)) { Health::Hangs } else { self.health[&relay].0 }
    }

    /// Since when at least one relay has been up for this client without a break.
    fn healthy_since(&self, id: usize) -> Option<Instant> {
        let up = self.health.iter().filter(|(relay, _)| self.health(id, **relay) == Health::Up);
        up.map(|(_, (_, since))| (*since).max(self.parted_at)).min()
    }

    /// Whether a message is lost on its way.
    fn loses(&mut self) -> bool {
        self.draw(50) == 0
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
                Action::Publish(relays) => self.publish(id, client, relays),
                Action::Close(relay, grace) => {
                    let state = client.agent.ranking(self.now);
                    let usable = state.iter().any(|r| r.relay.address == relay && r.excluded.is_none());
                    let told_to = client.drained.remove(&relay);
                    if self.health(id, relay) == Health::Up && usable && !told_to {
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

    fn publish(&mut self, id: usize, client: &mut Client, relays: Vec<Address>) {
        if self.sabotage == Sabotage::ForgetsToPublish {
            return;
        }
        client.published = relays;
        client.publications += 1;
        // The clock of a machine that crashed may be wrong afterwards.
        let clock = (self.now - self.start).as_millis() as u64 + 1_000_000 - 100_000 * client.crashes.min(9);
        let kept = if self.sabotage == Sabotage::ForgetsSequence { 0 } else { client.seq + 1 };
        let next = clock.max(kept);
        client.went_back |= next <= client.seq;
        client.seq = next;
        for relay in client.connected.keys().copied().collect::<Vec<_>>() {
            if self.health(id, relay) == Health::Lies {
                self.after(Duration::from_millis(40), id, Happening::Stale(relay));
            }
        }
    }

    fn dial(&mut self, id: usize, client: &mut Client, relay: Address) {
        client.dials += 1;
        if self.sabotage == Sabotage::NeverDialsAgain && client.dials > 2 {
            return;
        }
        client.dialling.insert(relay);
        let wait = match self.health(id, relay) {
            Health::Hangs => Duration::from_secs(10),
            Health::Slow => Duration::from_millis(4000 + self.draw(5500)),
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
                let health = self.health(id, relay);
                let far = if health == Health::Slow { 1500 } else { u64::from(relay.as_bytes()[3]) };
                let rtt = Duration::from_millis(5 + far);
                let answered = !matches!(health, Health::Down | Health::Hangs) && !self.loses();
                client.agent.handle(now, Event::Measured(relay, answered.then_some(rtt)));
            }
            Happening::DialDone(relay) => {
                client.dialling.remove(&relay);
                match self.health(id, relay) {
                    _ if self.loses() => {
                        client.agent.handle(now, Event::DialFailed(relay, DialFailure::Unreachable));
                    }
                    Health::Up | Health::Slow | Health::Lies => {
                        client.connected.insert(relay, now);
                        client.agent.handle(now, Event::Connected(relay));
                    }
                    Health::Full => {
                        let failure = DialFailure::Refused(AuthFailure::Full);
                        client.agent.handle(now, Event::DialFailed(relay, failure));
                    }
                    Health::Down | Health::Hangs if self.sabotage == Sabotage::ForgetsFailures => {
                        client.agent.handle(now, Event::Lost(relay, Loss::Asked));
                    }
                    Health::Down | Health::Hangs => {
                        client.agent.handle(now, Event::DialFailed(relay, DialFailure::Unreachable));
                    }
                }
            }
            Happening::Visited(relay) => {
                let honest = matches!(self.health(id, relay), Health::Up | Health::Slow);
                let honest = honest && !self.loses() || self.sabotage == Sabotage::TrustsSwallowers;
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
                let told = asked || self.sabotage != Sabotage::HidesLosses;
                if (known || asked) && told {
                    let loss = if asked { Loss::Asked } else { Loss::Broken };
                    client.agent.handle(now, Event::Lost(relay, loss));
                }
            }
            Happening::Stale(relay) => {
                if client.connected.contains_key(&relay) {
                    let relay = if self.sabotage == Sabotage::BelievesLiars { None } else { Some(relay) };
                    match relay {
                        Some(relay) => client.agent.handle(now, Event::Stale(relay)),
                        None => self.publish(id, client, client.agent.listed()),
                    }
                }
            }
            Happening::Drains(relay) => {
                if client.connected.contains_key(&relay) {
                    client.drained.insert(relay);
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
        let health = match self.draw(12) {
            0..=3 => Health::Down,
            4 => Health::Hangs,
            5 => Health::Full,
            6 => Health::Lies,
            7 => Health::Slow,
            8 => return self.part(clients),
            9 => return self.crash(clients),
            _ => Health::Up,
        };
        self.health.insert(relay, (health, self.now));
        let wait = match health {
            // A reset is noticed at once, silence after ten seconds.
            Health::Down => Duration::from_millis(10),
            Health::Hangs => Duration::from_secs(10),
            Health::Up | Health::Full | Health::Slow | Health::Lies => {
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

    /// Links part, or come together again.
    fn part(&mut self, clients: &mut [Client]) {
        self.parted_at = self.now;
        self.parted = match self.parted {
            Some(_) => None,
            None => Some(Parted { clients: self.draw(4) as usize, relays: self.draw(3) as u8 }),
        };
        for (id, client) in clients.iter().enumerate() {
            for relay in client.connected.keys() {
                if self.parted.is_some() && self.health(id, *relay) == Health::Hangs {
                    self.after(Duration::from_secs(10), id, Happening::Noticed(*relay));
                }
            }
        }
    }

    /// A client's machine crashes; the program starts anew with what is on disk. Its sessions are gone.
    fn crash(&mut self, clients: &mut [Client]) {
        let id = self.draw(clients.len() as u64) as usize;
        let client = &mut clients[id];
        client.crashes += 1;
        client.agent = Agent::new(Config { seed: self.draw(u64::MAX), ..client.agent.config.clone() });
        let (seq, crashes, went_back, dials) = (client.seq, client.crashes, client.went_back, client.dials);
        let agent = std::mem::replace(
            &mut client.agent,
            Agent::new(Config { sessions: 1, policy: policy(), seed: 0 }),
        );
        *client = Client { seq, crashes, went_back, dials, ..Client::new(agent) };
        client.agent.handle(self.now, Event::Directory(self.chain.clone()));
        // What was under way before the crash concerns nobody any more.
        let queue = std::mem::take(&mut self.queue);
        self.queue = queue.into_iter().filter(|Reverse((_, _, whose, _))| *whose != id).collect();
        self.act(id, client);
    }

    /// The invariants, after each step of one client. An error names the one that does not hold.
    fn check(&self, id: usize, client: &mut Client) -> Result<(), String> {
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
            let healthy = self.healthy_since(id).unwrap_or(self.now);
            if self.now.saturating_duration_since(since.max(healthy)) > RECONNECT {
                return Err("not connected although a relay is healthy".into());
            }
        } else {
            client.alone_since = None;
        }
        for (relay, since) in &client.connected {
            let (health, changed) = self.health[relay];
            let exposed = self.now.saturating_duration_since(changed.max(*since));
            let exposed = exposed.min(self.now.saturating_duration_since(self.parted_at));
            if health == Health::Lies
                && self.health(id, *relay) == health
                && exposed > EXPOSED
                && !client.closing.contains(relay)
            {
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
        if client.publications > 120 * minutes {
            return Err(format!("{} presences in {minutes} minutes", client.publications));
        }
        if client.went_back {
            return Err("seq went back".into());
        }
        Ok(())
    }
}

impl Client {
    fn new(agent: Agent) -> Self {
        Self {
            agent,
            dialling: BTreeSet::new(),
            connected: BTreeMap::new(),
            closing: BTreeSet::new(),
            drained: BTreeSet::new(),
            published: Vec::new(),
            publications: 0,
            seq: 0,
            crashes: 0,
            went_back: false,
            dials: 0,
            left_healthy: 0,
            alone_since: None,
            turn: None,
        }
    }
}

fn simulate(seed: u64, clients: usize, sabotage: Sabotage) -> Result<(), String> {
    let mut world = World::new(seed, sabotage);
    let chain = world.chain.clone();
    let mut draining = Directory::clone(&chain);
    for relay in draining.relays.values_mut().take(3) {
        Arc::make_mut(relay).status = RelayStatus::Draining;
    }
    let draining = Arc::new(draining);
    let mut policy = policy();
    policy.ingress_port = 443;
    let seed_of = |id: usize| seed.wrapping_mul(1000) + id as u64;
    let config = |id| Config { sessions: SESSIONS, policy: policy.clone(), seed: seed_of(id) };
    let mut all: Vec<Client> = (0..clients).map(|id| Client::new(Agent::new(config(id)))).collect();
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
            world.chain = draining.clone();
            for (id, client) in all.iter_mut().enumerate() {
                client.agent.handle(at, Event::Directory(draining.clone()));
                world.act(id, client);
            }
        }
        let client = &mut all[id];
        world.happen(id, client, happening);
        world
            .check(id, client)
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
        (Sabotage::HidesLosses, "without a session"),
        (Sabotage::ForgetsFailures, "dials in"),
        (Sabotage::BelievesLiars, "presences in"),
        (Sabotage::ForgetsSequence, "seq went back"),
    ] {
        let caught = (0..40).find_map(|seed| simulate(seed, 20, sabotage).err());
        let caught = caught.unwrap_or_else(|| panic!("{sabotage:?} went unnoticed"));
        assert!(caught.contains(says), "{sabotage:?}: {caught}");
    }
}

#[test]
fn a_day_with_a_relay_dying_every_ten_minutes_never_loses_the_name() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const DEATHS: Duration = Duration::from_secs(600);
    let mut world = World::new(7, Sabotage::None);
    let mut policy = policy();
    policy.ingress_port = 443;
    let mut client = Client::new(Agent::new(Config { sessions: SESSIONS, policy, seed: 7 }));
    client.agent.handle(world.now, Event::Directory(world.chain.clone()));
    world.act(0, &mut client);
    let (mut next_death, mut dead, mut deaths, mut served) = (world.now + DEATHS, None, 0, false);
    while let Some(Reverse((at, _, _, happening))) = world.queue.pop() {
        if at > world.start + DAY {
            break;
        }
        world.now = at;
        if at >= next_death {
            next_death += DEATHS;
            if let Some(relay) = dead.take() {
                world.health.insert(relay, (Health::Up, at));
            }
            // Always one in use, and every other time it only falls silent.
            let relay = client.published[deaths % client.published.len()];
            let (health, noticed) = if deaths % 2 == 0 { (Health::Down, 0) } else { (Health::Hangs, 10) };
            world.health.insert(relay, (health, at));
            world.after(Duration::from_secs(noticed), 0, Happening::Noticed(relay));
            dead = Some(relay);
            deaths += 1;
        }
        world.happen(0, &mut client, happening);
        let alive = client.published.iter().any(|relay| world.health(0, *relay) == Health::Up);
        assert!(alive || !served, "{:?}: DNS names none that lives", at - world.start);
        served |= alive;
    }
    assert!(deaths >= 140 && served, "{deaths} deaths");
    assert!(client.dials < 2 * deaths, "{} dials for {deaths} deaths", client.dials);
}
