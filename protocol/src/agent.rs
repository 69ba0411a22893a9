//! The client's agent: which relays to hold sessions with, when to dial, publish, move and let go. A pure state
//! machine (DESIGN §10): events and `now` go in, actions and the next timeout come out.
//!
//! Invariants: never more than K + 1 sessions (dialling, serving and ending ones together); what was published last is
//! the set that serves; a relay is left only when another one serves, unless it is of no use any more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use words::{Action, Config, DialFailure, Event, Loss, State, Visit};

use crate::address::Address;
use crate::control::AuthFailure;
use crate::directory::{Directory, Relay};
use crate::selection::{self, Exclusion, Experience, Ranked};

mod words;

/// Sessions held by default.
pub const SESSIONS: usize = 2;
/// How long the first dial waits for round-trip times.
const MEASURE_PATIENCE: Duration = Duration::from_millis(600);
/// Most relays measured at once.
const MEASURED: usize = 24;
/// Time between two measurements, and between two looks for a much better relay.
const REVIEW: Duration = Duration::from_secs(300);
/// A presence is renewed at half of its hour.
const RENEWAL: Duration = Duration::from_secs(1800);
/// Time between two visits of one's own name through one relay.
const SELF_VISIT: Duration = Duration::from_secs(60);
/// The first visit comes this long after the session began: DNS and certificate settle meanwhile.
const FIRST_SELF_VISIT: Duration = Duration::from_secs(20);
/// Visits in a row that a relay may swallow.
const SWALLOWED: u32 = 2;
/// How long a relay that swallows visitors, or cannot carry a service, is left alone.
const USELESS_REST: Duration = Duration::from_secs(1800);
/// A session that lasted so long shows that the relay is reachable in principle.
const SETTLED: Duration = Duration::from_secs(10);
/// A session that lasted so long clears the relay of earlier failures.
const STEADY: Duration = Duration::from_secs(60);
/// So many times within this time a relay may say that it knows a newer presence.
const STALE_TIMES: u32 = 4;
const STALE_WITHIN: Duration = Duration::from_secs(60);
/// A session must give a sign of life within this time after the network changed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// How long a session that is left may finish its streams.
const GRACE: Duration = Duration::from_secs(30);

/// The state machine.
#[derive(Debug)]
pub struct Agent {
    config: Config,
    directory: Option<Arc<Directory>>,
    experience: BTreeMap<Address, Experience>,
    slots: BTreeMap<Address, Slot>,
    actions: VecDeque<Action>,
    published: Option<(Vec<Address>, Instant)>,
    measuring: Option<Instant>,
    next_review: Option<Instant>,
    jitter: u64,
    was_connected: bool,
    stopping: bool,
}

#[derive(Debug)]
struct Slot {
    relay: Arc<Relay>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Dialling,
    Serving {
        since: Instant,
        next_visit: Instant,
        swallowed: u32,
        /// How often it knew better lately, and since when that is counted.
        stale: (u32, Instant),
    },
    /// Serves until another one can take over, or at the latest until then.
    Retiring {
        deadline: Instant,
    },
    /// Asked to close.
    Ending,
}

impl Agent {
    /// An agent that knows nothing yet.
    pub fn new(config: Config) -> Self {
        let jitter = config.seed | 1;
        Self {
            config,
            directory: None,
            experience: BTreeMap::new(),
            slots: BTreeMap::new(),
            actions: VecDeque::new(),
            published: None,
            measuring: None,
            next_review: None,
            jitter,
            was_connected: false,
            stopping: false,
        }
    }

    /// Takes in what happened at `now`.
    pub fn handle(&mut self, now: Instant, event: Event) {
        match event {
            Event::Directory(directory) => self.directory_changed(now, directory),
            Event::Measured(relay, rtt) => {
                let learnt = self.experience.entry(relay).or_default();
                learnt.rtt = rtt.or(learnt.rtt);
            }
            Event::Connected(relay) => self.connected(now, relay),
            Event::DialFailed(relay, failure) => self.dial_failed(now, relay, failure),
            Event::Lost(relay, loss) => self.lost(now, relay, loss),
            Event::Draining(relay, deadline) => self.retire(relay, deadline),
            Event::Stale(relay) => self.stale(now, relay),
            Event::Unsuitable(relay) => self.leave(now, relay),
            Event::Visited(relay, visit) => self.visited(now, relay, visit),
            Event::NetworkChanged => {
                for learnt in self.experience.values_mut() {
                    learnt.trouble.forgive();
                }
                self.next_review = Some(now);
                // Better than to wait for silence: what the change has cut is dialled anew within seconds.
                let held = self.slots.iter().filter(|(_, slot)| !matches!(slot.phase, Phase::Dialling));
                self.actions.extend(held.map(|(relay, _)| Action::Check(*relay, SIGN_OF_LIFE)));
            }
            Event::Stop => self.stop(),
        }
        self.settle(now);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.settle(now);
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Agent::handle_timeout`] is to be called at the latest.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if self.stopping {
            return None;
        }
        let slots = self.slots.values().filter_map(|slot| match slot.phase {
            Phase::Serving { next_visit, .. } => Some(next_visit),
            Phase::Retiring { deadline } => Some(deadline),
            Phase::Dialling | Phase::Ending => None,
        });
        let troubles = self.experience.values().filter_map(|learnt| learnt.trouble.remaining(now));
        let troubles = troubles.map(|left| now + left).filter(|_| self.wants_more());
        let renewal = self.published.as_ref().map(|(_, at)| *at + RENEWAL);
        slots.chain(troubles).chain(renewal).chain(self.measuring).chain(self.next_review).min()
    }

    /// The state as users see it.
    pub fn state(&self, now: Instant) -> State {
        let any = |wanted: fn(&Phase) -> bool| self.slots.values().any(|slot| wanted(&slot.phase));
        if self.stopping {
            State::Disconnected
        } else if any(|phase| matches!(phase, Phase::Serving { .. } | Phase::Retiring { .. })) {
            State::Connected
        } else if self.was_connected {
            State::Reconnecting
        } else if any(|phase| matches!(phase, Phase::Dialling)) {
            State::Authenticating
        } else if self.directory.is_some() && self.measuring.is_none() && self.is_hopeless(now) {
            State::Error
        } else {
            State::Connecting
        }
    }

    /// Relays that serve now, in the order in which they are preferred.
    pub fn serving(&self) -> Vec<Address> {
        let mut serving: Vec<(Instant, Address)> = self
            .slots
            .iter()
            .filter_map(|(address, slot)| match slot.phase {
                Phase::Serving { since, .. } => Some((since, *address)),
                _ => None,
            })
            .collect();
        serving.sort_unstable();
        serving.into_iter().map(|(_, address)| address).collect()
    }

    /// What a presence is to list when it is signed now: those that serve, or, when no other is left, those that will
    /// soon not.
    pub fn listed(&self) -> Vec<Address> {
        let serving = self.serving();
        if !serving.is_empty() || self.stopping {
            return serving;
        }
        let retiring = self.slots.iter().filter(|(_, slot)| matches!(slot.phase, Phase::Retiring { .. }));
        retiring.map(|(address, _)| *address).collect()
    }

    /// All relays in order of preference, with reasons.
    pub fn ranking(&self, now: Instant) -> Vec<Ranked> {
        let Some(directory) = &self.directory else { return Vec::new() };
        let held: Vec<Address> = self.slots.keys().copied().collect();
        selection::rank(directory, &self.experience, &held, &self.config.policy, self.config.seed, now)
    }

    fn directory_changed(&mut self, now: Instant, directory: Arc<Directory>) {
        let first = self.directory.replace(directory.clone()).is_none();
        let policy = &self.config.policy;
        let known = |relay: &Address| directory.relays.contains_key(relay) || policy.names(relay);
        self.experience.retain(|relay, _| known(relay) || self.slots.contains_key(relay));
        if first {
            self.measure(now);
        }
        let ranked = self.ranking(now);
        let unusable: Vec<Address> = self
            .slots
            .keys()
            .filter(|held| {
                let found = ranked.iter().find(|ranked| &ranked.relay.address == *held);
                found.is_none_or(|ranked| ranked.excluded.is_some())
            })
            .copied()
            .collect();
        for relay in unusable {
            self.retire(relay, now + GRACE);
        }
    }

    fn measure(&mut self, now: Instant) {
        let ranked = self.ranking(now);
        let usable =
            ranked.iter().filter(|ranked| matches!(ranked.excluded, None | Some(Exclusion::InTrouble(_))));
        let relays: Vec<Arc<Relay>> = usable.take(MEASURED).map(|ranked| ranked.relay.clone()).collect();
        self.measuring = (!relays.is_empty()).then_some(now + MEASURE_PATIENCE);
        self.next_review = Some(now + REVIEW);
        if !relays.is_empty() {
            self.actions.push_back(Action::Measure(relays));
        }
    }

    fn connected(&mut self, now: Instant, relay: Address) {
        self.experience.entry(relay).or_default().proven = true;
        let Some(slot) = self.slots.get_mut(&relay) else {
            self.actions.push_back(Action::Close(relay, Duration::ZERO));
            return;
        };
        if matches!(slot.phase, Phase::Dialling) {
            slot.phase = Phase::Serving {
                since: now,
                next_visit: now + FIRST_SELF_VISIT,
                swallowed: 0,
                stale: (0, now),
            };
            self.was_connected = true;
        }
    }

    fn dial_failed(&mut self, now: Instant, relay: Address, failure: DialFailure) {
        self.slots.remove(&relay);
        let jitter = self.draw();
        let learnt = self.experience.entry(relay).or_default();
        match failure {
            DialFailure::Unreachable => learnt.trouble.failed(now, learnt.proven, jitter),
            DialFailure::Untrusted => learnt.trouble.failed_for(now, Duration::from_secs(600)),
            DialFailure::Refused(code) => match refusal_rest(code) {
                Some(rest) => learnt.trouble.failed_for(now, rest),
                None => learnt.trouble.failed(now, true, jitter),
            },
        }
    }

    fn lost(&mut self, now: Instant, relay: Address, loss: Loss) {
        let held = self.slots.remove(&relay);
        let known = held.is_some();
        let lasted = match held.map(|slot| slot.phase) {
            Some(Phase::Serving { since, .. }) => now.saturating_duration_since(since),
            _ => Duration::ZERO,
        };
        if lasted >= STEADY {
            self.experience.entry(relay).or_default().trouble.forget();
        }
        match loss {
            Loss::Asked => {}
            Loss::Superseded => {
                self.actions.push_back(Action::NewInstance);
                self.published = None;
            }
            Loss::Closed | Loss::Broken if known => {
                let jitter = self.draw();
                let learnt = self.experience.entry(relay).or_default();
                learnt.trouble.failed(now, learnt.proven, jitter);
            }
            Loss::Closed | Loss::Broken => {}
        }
        // Nobody serves any more: relays that worked before are worth another try at once. Not after a session that
        // did not last, or one that always breaks would be dialled without pause.
        if lasted >= SETTLED && self.serving().is_empty() {
            let proven = self.experience.values_mut().filter(|learnt| learnt.proven);
            proven.for_each(|learnt| learnt.trouble.forgive());
        }
    }

    /// The relay says that it knows a newer presence. True once, after another copy of the state was in use; one that
    /// says so again and again only wants to keep us busy.
    fn stale(&mut self, now: Instant, relay: Address) {
        let Some(Slot { phase: Phase::Serving { stale, .. }, .. }) = self.slots.get_mut(&relay) else {
            return;
        };
        let (times, first) = *stale;
        *stale = if now < first + STALE_WITHIN { (times + 1, first) } else { (1, now) };
        if stale.0 > STALE_TIMES {
            self.leave(now, relay);
        } else {
            self.published = None;
        }
    }

    fn retire(&mut self, relay: Address, deadline: Instant) {
        if let Some(slot) = self.slots.get_mut(&relay)
            && matches!(slot.phase, Phase::Serving { .. })
        {
            slot.phase = Phase::Retiring { deadline };
        }
    }

    fn visited(&mut self, now: Instant, relay: Address, visit: Visit) {
        let Some(slot) = self.slots.get_mut(&relay) else { return };
        let Phase::Serving { swallowed, .. } = &mut slot.phase else { return };
        match visit {
            Visit::Untried => return,
            Visit::Arrived => {
                *swallowed = 0;
                return;
            }
            Visit::Swallowed => *swallowed += 1,
        }
        if *swallowed >= SWALLOWED {
            self.leave(now, relay);
        }
    }

    /// Moves away from a relay that is of no use although it answers.
    fn leave(&mut self, now: Instant, relay: Address) {
        let serves = |slot: &Slot| matches!(slot.phase, Phase::Serving { .. });
        if self.slots.get(&relay).is_some_and(serves) {
            self.experience.entry(relay).or_default().trouble.failed_for(now, USELESS_REST);
            self.retire(relay, now + GRACE);
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.actions.clear();
        self.actions.push_back(Action::Publish(Vec::new()));
        for (relay, slot) in &mut self.slots {
            if !matches!(slot.phase, Phase::Dialling | Phase::Ending) {
                self.actions.push_back(Action::Close(*relay, GRACE));
            }
            slot.phase = Phase::Ending;
        }
    }

    /// Everything that follows from the state and the time.
    fn settle(&mut self, now: Instant) {
        if self.stopping {
            return;
        }
        self.end_retired(now);
        if self.measuring.is_some_and(|until| now >= until) || self.is_measured() {
            self.measuring = None;
        }
        if self.next_review.is_some_and(|at| now >= at) {
            self.measure(now);
            self.measuring = None;
            self.look_for_better(now);
        }
        while self.wants_more() && self.dial_next(now) {}
        self.visit_due(now);
        self.publish(now);
    }

    /// Lets retiring sessions go once another one serves, or their time is over.
    fn end_retired(&mut self, now: Instant) {
        let replaced = !self.serving().is_empty();
        for (relay, slot) in &mut self.slots {
            if let Phase::Retiring { deadline } = slot.phase
                && (replaced || now >= deadline)
            {
                let grace = deadline.saturating_duration_since(now).min(GRACE);
                slot.phase = Phase::Ending;
                self.actions.push_back(Action::Close(*relay, grace));
            }
        }
    }

    fn wants_more(&self) -> bool {
        let useful = self.slots.values();
        let useful =
            useful.filter(|slot| matches!(slot.phase, Phase::Dialling | Phase::Serving { .. })).count();
        self.measuring.is_none() && useful < self.config.sessions && self.slots.len() <= self.config.sessions
    }

    /// Dials the best relay that is not in use; false when there is none.
    fn dial_next(&mut self, now: Instant) -> bool {
        let ranked = self.ranking(now);
        let beside: Vec<Arc<Relay>> = self.slots.values().map(|slot| slot.relay.clone()).collect();
        let Some(chosen) = selection::choose(&ranked, &beside) else { return false };
        self.dial(chosen.relay.clone());
        true
    }

    fn dial(&mut self, relay: Arc<Relay>) {
        self.slots.insert(relay.address, Slot { relay: relay.clone(), phase: Phase::Dialling });
        self.actions.push_back(Action::Dial(relay));
    }

    /// When all sessions are there: moves one to a relay that is better beyond doubt, one at a time.
    fn look_for_better(&mut self, now: Instant) {
        let full = self.serving().len() == self.config.sessions && self.slots.len() == self.config.sessions;
        if !full {
            return;
        }
        let ranked = self.ranking(now);
        let slots: Vec<Arc<Relay>> = self.slots.values().map(|slot| slot.relay.clone()).collect();
        let measured = |ranked: &&Ranked| {
            self.experience.get(&ranked.relay.address).is_some_and(|learnt| learnt.rtt.is_some())
        };
        let held = ranked.iter().filter(|ranked| self.slots.contains_key(&ranked.relay.address));
        let Some(worst) = held.filter(measured).max_by_key(|held| selection::cost_beside(held, &slots))
        else {
            return;
        };
        let others: Vec<Arc<Relay>> =
            slots.iter().filter(|relay| relay.address != worst.relay.address).cloned().collect();
        let Some(best) = selection::choose(&ranked, &slots).filter(measured) else { return };
        // The ranking already favours relays in use; half of the cost must be won on top of that.
        if selection::cost_beside(best, &others) * 2 < selection::cost_beside(worst, &others) {
            let (best, worst) = (best.relay.clone(), worst.relay.address);
            self.retire(worst, now + RENEWAL);
            self.dial(best);
        }
    }

    fn visit_due(&mut self, now: Instant) {
        for slot in self.slots.values_mut() {
            if let Phase::Serving { next_visit, .. } = &mut slot.phase
                && now >= *next_visit
            {
                *next_visit = now + SELF_VISIT;
                self.actions.push_back(Action::Visit(slot.relay.clone()));
            }
        }
    }

    fn publish(&mut self, now: Instant) {
        let listed = self.listed();
        let current = self.published.as_ref();
        let fresh = current.is_some_and(|(relays, at)| *relays == listed && now < *at + RENEWAL);
        // Without any session there is nobody to tell; the last presence stands until it expires.
        if !fresh && !listed.is_empty() {
            self.published = Some((listed.clone(), now));
            self.actions.push_back(Action::Publish(listed));
        }
    }

    fn is_measured(&self) -> bool {
        let Some(directory) = &self.directory else { return false };
        let mut relays = directory.relays.keys();
        relays.all(|relay| self.experience.get(relay).is_some_and(|learnt| learnt.rtt.is_some()))
    }

    fn is_hopeless(&self, now: Instant) -> bool {
        self.ranking(now).iter().all(|ranked| ranked.excluded.is_some())
    }

    /// The next of a sequence of pseudo-random bytes (xorshift64).
    fn draw(&mut self) -> u8 {
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        (self.jitter >> 32) as u8
    }
}

/// How long a refusal will last at least; `None`: as any other failure.
fn refusal_rest(code: AuthFailure) -> Option<Duration> {
    match code {
        AuthFailure::Full | AuthFailure::RateLimited => Some(Duration::from_secs(60)),
        AuthFailure::Draining => Some(Duration::from_secs(120)),
        AuthFailure::BadToken | AuthFailure::BadPresence | AuthFailure::Mismatch => {
            Some(Duration::from_secs(300))
        }
        AuthFailure::Replayed | AuthFailure::Timeout | AuthFailure::Unknown => None,
    }
}

#[cfg(test)]
mod tests;
