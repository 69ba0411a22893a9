//! The reader as a pure state machine: which endpoint to ask what, what its answers lead to, and when the next
//! directory is due. No I/O and no clock: [`Reader::next_call`] and [`Reader::handle`] are driven by `chain`.
//!
//! How it stays right: every entry has a [cell](cell) that changes by quorum only. When an endpoint quorum tells of a
//! higher revision, the events since the last complete revision name the slots to read again; `quorum` endpoints must
//! have told an unbroken row of them. If they cannot (retention, a gap, a liar), everything is read again. Each demand
//! carries the ledger from which on answers count, so no order of answers can bring an older state back.

pub(crate) mod cell;
pub(crate) mod endpoint;
pub(crate) mod hints;
pub(crate) mod projection;
mod round;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use tunnler_protocol::Address;
use tunnler_protocol::directory::Directory;
use tunnler_protocol::name::Label;
use tunnler_protocol::time::{LedgerTime, UnixSeconds};

use self::cell::{Cells, EndpointId, Value, Verdict};
use self::endpoint::{ContractHead, Endpoint, Heads};
use self::hints::Hint;
use self::projection::{Implies, Projection};
use self::round::{Round, Told};
use crate::chain::FollowedNames;
use crate::contract::Key;
use crate::rpc::{EventsFrom, Failure, Health, KEYS_PER_CALL, NetworkInfo};

/// Keys of a head call besides heartbeats: two instances and the publication.
const HEAD_KEYS: usize = 3;
/// How long a batch of related changes is waited for before it is published in part.
const GATHER: Duration = Duration::from_secs(1);
/// Ledgers by which an endpoint may differ from the median of all.
const DRIFT: u32 = 12;
/// How often everything is read again, whatever the events said.
const RESCAN: Duration = Duration::from_secs(3600);

/// Policy of a reader.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) endpoints: usize,
    pub(crate) quorum: usize,
    pub(crate) passphrase: String,
    pub(crate) poll: Duration,
    pub(crate) names: FollowedNames,
}

/// A call to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Which network is this?
    Network,
    /// Health, both instances, the publication, and these.
    Head(Vec<Key>),
    /// These entries.
    Entries(Vec<Key>),
    /// Events.
    Events(EventsFrom),
}

/// An answer to a call of the same name.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Network(NetworkInfo),
    Head(Box<Head>),
    Entries { ledger: u32, values: Vec<(Key, Option<Value>)> },
    Events { hints: Vec<Hint>, cursor: String, latest: u32 },
}

/// Answer to a head call.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) health: Health,
    /// The ledger of the entries.
    pub(crate) ledger: u32,
    /// Both contracts; `None` when one of them does not exist.
    pub(crate) contracts: Option<[ContractHead; 2]>,
    /// What the instances hold, the publication, and the keys asked for.
    pub(crate) values: Vec<(Key, Option<Value>)>,
}

/// What is kept across restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) ledger: LedgerTime,
    pub(crate) complete: Complete,
    pub(crate) agreements: Vec<Agreement>,
}

/// One cell as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agreement {
    pub(crate) key: Key,
    pub(crate) floor: u32,
    pub(crate) value: Option<Value>,
    /// Whether it was waiting for answers: the change that asked for them is not noticed a second time.
    pub(crate) open: bool,
}

/// Up to where every change has been noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Complete {
    /// Revisions of Registry and Namespace.
    pub(crate) revisions: [u64; 2],
    /// A ledger at which those were the revisions.
    pub(crate) ledger: u32,
}

/// The reader.
pub(crate) struct Reader {
    policy: Policy,
    endpoints: Vec<Endpoint>,
    cells: Cells,
    projection: Projection,
    /// Followed labels and by how many; unused when all are.
    followed: BTreeMap<Label, usize>,
    ledger: Option<LedgerTime>,
    complete: Option<Complete>,
    round: Option<Round>,
    rescan_at: Instant,
    heartbeat_turn: usize,
    /// Slots of relays and names below these have been asked for.
    covered: [u32; 2],
    /// Something agreed on since the last snapshot.
    changed: bool,
    published_ledger: Option<LedgerTime>,
    ready: bool,
    random: StdRng,
}

impl Reader {
    pub(crate) fn new(policy: Policy, kept: Option<Kept>, seed: u64, now: Instant) -> Self {
        let endpoints = (0..policy.endpoints).map(|_| Endpoint::new(now)).collect();
        let mut reader = Self {
            cells: Cells::new(policy.quorum),
            projection: Projection::default(),
            endpoints,
            policy,
            followed: BTreeMap::new(),
            ledger: None,
            complete: None,
            round: None,
            rescan_at: now + RESCAN,
            heartbeat_turn: 0,
            covered: [0, 0],
            changed: false,
            published_ledger: None,
            ready: false,
            random: StdRng::seed_from_u64(seed),
        };
        if let Some(kept) = kept {
            reader.restore(kept, now);
        }
        reader
    }

    fn restore(&mut self, kept: Kept, now: Instant) {
        for Agreement { key, floor, value, open } in kept.agreements {
            self.projection.apply(&key, value.as_ref());
            match &key {
                Key::Label(label) => drop(self.followed.insert(label.clone(), 0)),
                Key::RelaySlot(slot) => self.covered[0] = self.covered[0].max(slot + 1),
                Key::NameSlot(slot) => self.covered[1] = self.covered[1].max(slot + 1),
                _ => {}
            }
            self.cells.restore(key.clone(), floor, value);
            if open {
                self.demand(&key, floor, now);
            }
        }
        self.ledger = Some(kept.ledger);
        self.complete = Some(kept.complete);
        self.changed = true;
        self.ready = true;
    }

    /// The next call `endpoint` is to make now, if any. Every call that is handed out must come back to
    /// [`handle`](Self::handle).
    pub(crate) fn next_call(&mut self, endpoint: EndpointId, now: Instant) -> Option<Call> {
        let this = &mut self.endpoints[endpoint];
        if !this.is_callable(now) {
            return None;
        }
        if !this.under_way.head && now >= this.head_due {
            this.under_way.head = true;
            this.head_due = now + self.policy.poll;
            if !this.verified {
                return Some(Call::Network);
            }
            return Some(Call::Head(self.heartbeat_window()));
        }
        if let Some(from) = self.next_events(endpoint) {
            self.endpoints[endpoint].under_way.events = true;
            return Some(Call::Events(from));
        }
        let cells = &self.cells;
        let keys = self.endpoints[endpoint].take_keys(now, |key| cells.is_open(key));
        if keys.is_empty() {
            return None;
        }
        self.endpoints[endpoint].under_way.entries += 1;
        Some(Call::Entries(keys))
    }

    /// When [`next_call`](Self::next_call) or [`snapshot`](Self::snapshot) may have something, if nothing else happens.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        let calls = self.endpoints.iter().filter_map(Endpoint::due_at).min();
        let gathered =
            self.cells.waiting_since().filter(|_| self.changed && self.ready).map(|since| since + GATHER);
        calls.into_iter().chain(gathered).min()
    }

    /// Takes the outcome of a call in.
    pub(crate) fn handle(
        &mut self,
        endpoint: EndpointId,
        call: Call,
        outcome: Result<Answer, Failure>,
        now: Instant,
    ) {
        let this = &mut self.endpoints[endpoint];
        match call {
            Call::Network | Call::Head(_) => this.under_way.head = false,
            Call::Entries(_) => this.under_way.entries -= 1,
            Call::Events(_) => this.under_way.events = false,
        }
        match outcome {
            Err(Failure(problem)) => self.failed(endpoint, &call, problem, now),
            Ok(answer) => {
                this.succeeded();
                match answer {
                    Answer::Network(info) => self.verify(endpoint, &info, now),
                    Answer::Head(head) => self.take_head(endpoint, *head, now),
                    Answer::Entries { ledger, values } => self.take_entries(endpoint, ledger, values, now),
                    Answer::Events { hints, cursor, latest } => {
                        self.take_events(endpoint, &hints, cursor, latest, now);
                    }
                }
            }
        }
        self.advance(now);
    }

    /// Polls all endpoints now.
    pub(crate) fn refresh(&mut self, now: Instant) {
        for endpoint in &mut self.endpoints {
            endpoint.head_due = now;
        }
    }

    /// Follows one more user of `label`.
    pub(crate) fn follow(&mut self, label: Label, now: Instant) {
        if self.policy.names == FollowedNames::All {
            return;
        }
        *self.followed.entry(label.clone()).or_insert(0) += 1;
        let key = Key::Label(label);
        if !self.cells.contains(&key) {
            let floor = self.ledger.map_or(0, |ledger| ledger.sequence);
            self.demand(&key, floor, now);
        }
    }

    /// One user of `label` less; without any, it is forgotten.
    pub(crate) fn unfollow(&mut self, label: &Label) {
        let Some(users) = self.followed.get_mut(label) else { return };
        *users = users.saturating_sub(1);
        if *users == 0 {
            self.forget(label);
        }
    }

    /// Whether all there is to know about `label` has been read (or is disputed).
    pub(crate) fn has_read(&self, label: &Label) -> bool {
        if self.policy.names == FollowedNames::All {
            return self.ready;
        }
        let key = Key::Label(label.clone());
        let slot = self.slot_of(label);
        self.cells.is_read(&key) && slot.is_none_or(|slot| self.cells.is_read(&Key::NameSlot(slot)))
    }

    /// The next directory, if there is something new to publish.
    pub(crate) fn snapshot(&mut self, now: Instant) -> Option<Arc<Directory>> {
        let (ledger, complete) = (self.ledger?, self.complete?);
        let waiting = self.cells.waiting_since();
        if !self.ready {
            self.ready = waiting.is_none() && self.projection.is_complete();
        }
        let news = self.changed || self.published_ledger != Some(ledger);
        let gathered = waiting.is_none_or(|since| now >= since + GATHER);
        if !self.ready || !news || (self.changed && !gathered) {
            return None;
        }
        let directory = self.projection.snapshot(ledger, complete.revisions)?;
        self.changed = false;
        self.published_ledger = Some(ledger);
        Some(directory)
    }

    /// Whether something agreed on is not published yet.
    pub(crate) fn has_news(&self) -> bool {
        self.changed
    }

    /// What to keep across restarts; `None` before the first snapshot is complete.
    pub(crate) fn keep(&self) -> Option<Kept> {
        if !self.ready {
            return None;
        }
        let agreement = |(key, floor, value): (&Key, u32, Option<&Value>)| Agreement {
            key: key.clone(),
            floor,
            value: value.cloned(),
            open: self.cells.is_open(key),
        };
        let agreements = self.cells.agreements().map(agreement).collect();
        Some(Kept { ledger: self.ledger?, complete: self.complete?, agreements })
    }

    /// The endpoints, for the status.
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Whether `endpoint` counts now.
    pub(crate) fn is_usable(&self, endpoint: EndpointId, now: Instant) -> bool {
        let this = &self.endpoints[endpoint];
        let patience = (self.policy.poll * 3).max(Duration::from_secs(15));
        let fresh = this.seen.is_some_and(|seen| now.duration_since(seen) <= patience);
        this.verified && fresh && this.set_aside.is_none()
    }

    /// Ledger, complete revisions, pending, disputed and ignored entries, for the status.
    pub(crate) fn progress(&self) -> (Option<LedgerTime>, Option<[u64; 2]>, usize, usize, usize) {
        let revisions = self.complete.map(|complete| complete.revisions);
        let disputed = self.cells.disputed();
        (self.ledger, revisions, self.cells.open() - disputed, disputed, self.projection.ignored())
    }
}

/// Answers.
impl Reader {
    fn failed(&mut self, endpoint: EndpointId, call: &Call, problem: String, now: Instant) {
        let this = &mut self.endpoints[endpoint];
        tracing::debug!(endpoint, %problem, "call failed");
        this.failed(problem, now, &mut self.random);
        match call {
            Call::Entries(keys) => keys.iter().for_each(|key| this.enqueue(key)),
            Call::Network | Call::Head(_) => this.head_due = now,
            Call::Events(_) => {
                if let Some(round) = &mut self.round {
                    round.failed(endpoint);
                }
            }
        }
    }

    fn verify(&mut self, endpoint: EndpointId, info: &NetworkInfo, now: Instant) {
        let this = &mut self.endpoints[endpoint];
        if info.passphrase == self.policy.passphrase {
            this.verified = true;
            this.head_due = now;
            return;
        }
        let problem = format!("serves another network: {:?}", info.passphrase);
        this.failed(problem, now, &mut self.random);
    }

    fn take_head(&mut self, endpoint: EndpointId, head: Head, now: Instant) {
        let this = &mut self.endpoints[endpoint];
        let before = this.head.map_or(0, |heads| heads.ledger);
        if head.ledger < before {
            this.last_error = Some(format!("went back from ledger {before} to {}", head.ledger));
            return;
        }
        let Some(contracts) = head.contracts else {
            this.last_error = Some("has no such contracts; check `registry` and `namespace`".into());
            return;
        };
        this.ledger = Some(head.health.ledger);
        this.oldest = head.health.oldest;
        this.head = Some(Heads { ledger: head.ledger, contracts });
        this.seen = Some(now);
        self.judge_drift(now);
        if self.endpoints[endpoint].set_aside.is_none() {
            self.take_values(endpoint, head.ledger, head.values, now);
        }
    }

    fn take_entries(
        &mut self,
        endpoint: EndpointId,
        ledger: u32,
        values: Vec<(Key, Option<Value>)>,
        now: Instant,
    ) {
        let this = &mut self.endpoints[endpoint];
        let head = this.head.map_or(0, |heads| heads.ledger);
        if ledger > head.saturating_add(DRIFT) || this.set_aside.is_some() {
            values.iter().for_each(|(key, _)| this.enqueue(key));
            if this.set_aside.is_none() {
                let problem = format!("answers from ledger {ledger}, though it was at {head} just now");
                this.failed(problem, now, &mut self.random);
            }
            this.head_due = now;
            return;
        }
        self.take_values(endpoint, ledger, values, now);
    }

    /// Sets endpoints aside whose ledger is far from the median: stale, or running ahead of the network.
    fn judge_drift(&mut self, now: Instant) {
        let patience = (self.policy.poll * 3).max(Duration::from_secs(15));
        let fresh = |endpoint: &&Endpoint| endpoint.seen.is_some_and(|seen| now - seen <= patience);
        let mut ledgers: Vec<u32> = self
            .endpoints
            .iter()
            .filter(fresh)
            .filter_map(|endpoint| endpoint.head.map(|heads| heads.ledger))
            .collect();
        ledgers.sort_unstable();
        // With two there is no majority: the lower one counts, because running ahead is the more dangerous lie.
        let Some(median) = ledgers.get(ledgers.len().saturating_sub(1) / 2).copied() else { return };
        for endpoint in &mut self.endpoints {
            let ledger = endpoint.head.map_or(median, |heads| heads.ledger);
            endpoint.set_aside = if ledger > median.saturating_add(DRIFT) {
                Some(format!("is at ledger {ledger}, far ahead of the others at {median}"))
            } else if ledger.saturating_add(DRIFT) < median {
                Some(format!("is at ledger {ledger}, behind the others at {median}"))
            } else {
                None
            };
        }
    }

    fn take_values(
        &mut self,
        endpoint: EndpointId,
        ledger: u32,
        values: Vec<(Key, Option<Value>)>,
        now: Instant,
    ) {
        let again_at = now + (self.policy.poll / 8).clamp(Duration::from_millis(20), Duration::from_secs(1));
        let mut again = Vec::new();
        for (key, value) in values {
            let polled = is_polled(&key) || matches!(key, Key::Heartbeat(_));
            if !polled && !self.cells.contains(&key) {
                continue; // No longer followed.
            }
            match self.cells.vote(&key, endpoint, ledger, value, now) {
                Verdict::TooOld => {
                    if self.cells.is_open(&key) {
                        again.push(key);
                    }
                }
                Verdict::Undecided => again.push(key),
                Verdict::Agreed { changed, contradicted } => {
                    self.note_contradictions(&key, &contradicted);
                    if changed {
                        self.changed = true;
                        self.apply(&key, now);
                    }
                    if self.cells.is_open(&key) {
                        again.push(key);
                    }
                }
            }
        }
        for (id, other) in self.endpoints.iter_mut().enumerate() {
            if id == endpoint {
                other.enqueue_again(again.iter().cloned(), again_at);
            } else {
                again.iter().for_each(|key| other.enqueue(key));
            }
        }
    }

    fn note_contradictions(&mut self, key: &Key, endpoints: &[EndpointId]) {
        for endpoint in endpoints {
            self.endpoints[*endpoint].contradictions += 1;
            tracing::warn!(endpoint, ?key, "an RPC endpoint contradicts what the others agree on");
        }
    }

    /// Brings the agreed value of `key` into the directory and demands what belongs to it.
    fn apply(&mut self, key: &Key, now: Instant) {
        let floor = self.ledger.map_or(0, |ledger| ledger.sequence);
        match self.projection.apply(key, self.cells.value(key)) {
            Implies::Nothing => {}
            Implies::Key(implied @ Key::Heartbeat(_)) => {
                if !self.cells.contains(&implied) {
                    self.demand(&implied, floor, now);
                }
            }
            Implies::Key(implied) => self.demand(&implied, floor, now),
        }
    }

    fn demand(&mut self, key: &Key, floor: u32, now: Instant) {
        self.cells.demand(key, floor, now);
        for endpoint in &mut self.endpoints {
            endpoint.enqueue(key);
        }
    }

    fn forget(&mut self, label: &Label) {
        self.followed.remove(label);
        let slot = self.slot_of(label);
        let keys = slot.map(|slot| [Key::NameSlot(slot), Key::Domains(slot)]);
        for key in keys.into_iter().flatten().chain([Key::Label(label.clone())]) {
            self.cells.remove(&key);
            self.projection.apply(&key, None);
        }
        self.changed = true;
    }

    fn slot_of(&self, label: &Label) -> Option<u32> {
        let value = self.cells.value(&Key::Label(label.clone()))?;
        let entry: crate::contract::namespace::LabelEntry = crate::value::from_xdr(&value.bytes).ok()?;
        entry.slot
    }
}

/// Progress: the agreed ledger, and making sure that every change is noticed.
impl Reader {
    fn usable(&self, now: Instant) -> Vec<EndpointId> {
        (0..self.endpoints.len()).filter(|endpoint| self.is_usable(*endpoint, now)).collect()
    }

    /// The `quorum`-th largest of what usable endpoints say: at least `quorum` of them have come that far.
    fn agreed<T: Ord + Copy>(&self, usable: &[EndpointId], of: impl Fn(&Endpoint) -> Option<T>) -> Option<T> {
        let mut values: Vec<T> =
            usable.iter().filter_map(|endpoint| of(&self.endpoints[*endpoint])).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        values.get(self.policy.quorum - 1).copied()
    }

    fn advance(&mut self, now: Instant) {
        let usable = self.usable(now);
        let Some((sequence, revisions, slots)) = self.agreed_heads(&usable) else { return };
        let closed_at = self.agreed(&usable, |endpoint| endpoint.ledger.map(|ledger| ledger.closed_at));
        let closed_at = closed_at.unwrap_or(UnixSeconds(0));
        if self.ledger.is_none_or(|known| sequence > known.sequence) {
            let closed_at = self.ledger.map_or(closed_at, |known| known.closed_at.max(closed_at));
            self.ledger = Some(LedgerTime { sequence, closed_at });
        }
        match self.complete {
            None => self.scan(revisions, slots, sequence, now),
            Some(_) if now >= self.rescan_at => self.scan(revisions, slots, sequence, now),
            Some(complete) if behind(complete.revisions, revisions) => {
                let usable = usable.clone();
                self.pursue(revisions, slots, sequence, &usable, now);
            }
            Some(complete) => {
                self.round = None;
                self.confirm(complete, &usable);
            }
        }
        self.cover_slots(slots, sequence, now);
        self.retry_disputed(now);
    }

    fn agreed_heads(&self, usable: &[EndpointId]) -> Option<(u32, [u64; 2], [u32; 2])> {
        let sequence = self.agreed(usable, |endpoint| endpoint.head.map(|heads| heads.ledger))?;
        let head = |contract: usize| {
            let revision =
                self.agreed(usable, |endpoint| endpoint.head.map(|heads| heads.contracts[contract].revision));
            let slots =
                self.agreed(usable, |endpoint| endpoint.head.map(|heads| heads.contracts[contract].slots));
            revision.zip(slots)
        };
        let ((registry, relays), (namespace, names)) = head(0).zip(head(1))?;
        Some((sequence, [registry, namespace], [relays, names]))
    }

    /// Nothing changed up to the ledger of every endpoint that says so: events before it need never be read.
    fn confirm(&mut self, complete: Complete, usable: &[EndpointId]) {
        let same = usable
            .iter()
            .filter_map(|endpoint| self.endpoints[*endpoint].head)
            .filter(|heads| [heads.contracts[0].revision, heads.contracts[1].revision] == complete.revisions);
        let mut ledgers: Vec<u32> = same.map(|heads| heads.ledger).collect();
        ledgers.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(ledger) = ledgers.get(self.policy.quorum - 1) {
            let ledger = complete.ledger.max(*ledger);
            self.complete = Some(Complete { ledger, ..complete });
        }
    }

    /// Reads the events up to `target`, or everything when they are not to be had.
    fn pursue(
        &mut self,
        target: [u64; 2],
        slots: [u32; 2],
        sequence: u32,
        usable: &[EndpointId],
        now: Instant,
    ) {
        let Some(complete) = self.complete else { return };
        let round = self.round.get_or_insert_with(|| Round::new(complete, target, now));
        let patience = (self.policy.poll * 3).max(Duration::from_secs(15));
        if round.witnesses() >= self.policy.quorum {
            let ledger = complete.ledger.max(round.ledger());
            self.complete = Some(Complete { revisions: round.target(), ledger });
            self.changed = true;
            self.round = None;
        } else if round.is_hopeless(usable) || now - round.started() > patience {
            tracing::info!("events do not tell all changes: reading everything again");
            self.scan(target, slots, sequence, now);
        }
    }

    /// Which events `endpoint` is to be asked for.
    fn next_events(&mut self, endpoint: EndpointId) -> Option<EventsFrom> {
        let this = &self.endpoints[endpoint];
        if this.under_way.events || !this.verified || this.set_aside.is_some() {
            return None;
        }
        let (heads, oldest) = (this.head?, this.oldest);
        self.round.as_mut()?.next(endpoint, &heads, oldest)
    }

    fn take_events(
        &mut self,
        endpoint: EndpointId,
        hints: &[Hint],
        cursor: String,
        latest: u32,
        now: Instant,
    ) {
        let Some(round) = &mut self.round else { return };
        let told = round.take(endpoint, hints, cursor, latest);
        if told == Told::Gap {
            let this = &mut self.endpoints[endpoint];
            this.last_error = Some("its events do not add up to its revision".into());
        }
        let newest = self.endpoints[endpoint].head.map_or(0, |heads| heads.ledger).saturating_add(DRIFT);
        for hint in hints {
            for key in &hint.keys {
                if self.follows(key) {
                    self.demand(key, hint.ledger.min(newest), now);
                }
            }
        }
    }

    /// Whether `key` belongs to what this reader keeps.
    fn follows(&self, key: &Key) -> bool {
        match (self.policy.names, key) {
            (FollowedNames::All, Key::Label(_)) => false,
            (FollowedNames::All, _) => true,
            (FollowedNames::Chosen, Key::Label(label)) => self.followed.contains_key(label),
            (FollowedNames::Chosen, Key::NameSlot(slot) | Key::Domains(slot)) => {
                self.cells.contains(&Key::NameSlot(*slot))
            }
            (FollowedNames::Chosen, _) => true,
        }
    }

    /// Demands everything again, as of the agreed heads.
    fn scan(&mut self, revisions: [u64; 2], slots: [u32; 2], sequence: u32, now: Instant) {
        self.round = None;
        self.rescan_at = now + RESCAN;
        self.complete = Some(Complete { revisions, ledger: sequence });
        self.changed = true;
        let unused: Vec<Label> =
            self.followed.iter().filter(|(_, users)| **users == 0).map(|(label, _)| label.clone()).collect();
        if self.ready && self.policy.names == FollowedNames::Chosen {
            unused.iter().for_each(|label| self.forget(label));
        }
        self.forget_heartbeats();
        let kept = self.cells.keys().filter(|key| !matches!(key, Key::Heartbeat(_)));
        let mut keys: Vec<Key> = kept.cloned().collect();
        keys.extend((0..slots[0]).map(Key::RelaySlot));
        if self.policy.names == FollowedNames::All {
            keys.extend((0..slots[1]).map(Key::NameSlot));
        }
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            if !is_polled(&key) {
                self.demand(&key, sequence, now);
            }
        }
        self.covered = [self.covered[0].max(slots[0]), self.covered[1].max(slots[1])];
    }

    /// Slots that came into use are read, and those of relays beyond the count are read again: withdrawal moves the
    /// last relay into the freed slot.
    fn cover_slots(&mut self, slots: [u32; 2], sequence: u32, now: Instant) {
        let mut keys: Vec<Key> = (self.covered[0]..slots[0]).map(Key::RelaySlot).collect();
        if self.policy.names == FollowedNames::All {
            keys.extend((self.covered[1]..slots[1]).map(Key::NameSlot));
        }
        self.covered = [self.covered[0].max(slots[0]), self.covered[1].max(slots[1])];
        keys.extend(self.projection.relay_slots_from(slots[0]).map(Key::RelaySlot));
        for key in keys {
            if !self.cells.is_open(&key) {
                self.demand(&key, sequence, now);
            }
        }
    }

    /// Forgets the heartbeats of keys that are no longer registered.
    fn forget_heartbeats(&mut self) {
        let relays: HashSet<Address> = self.projection.relay_addresses().collect();
        let gone = |key: &&Key| matches!(key, Key::Heartbeat(relay) if !relays.contains(relay));
        let gone: Vec<Key> = self.cells.keys().filter(gone).cloned().collect();
        for key in gone {
            self.cells.remove(&key);
            self.projection.apply(&key, None);
        }
    }

    fn retry_disputed(&mut self, now: Instant) {
        let disputed: Vec<Key> = self.cells.disputed_keys().cloned().collect();
        for endpoint in &mut self.endpoints {
            endpoint.enqueue_again(disputed.iter().cloned(), now + self.policy.poll);
        }
    }

    /// The heartbeats to read with the next head, in turns when there are many.
    fn heartbeat_window(&mut self) -> Vec<Key> {
        let relays: Vec<Address> = self.projection.relay_addresses().collect();
        let room = KEYS_PER_CALL - HEAD_KEYS;
        if relays.len() <= room {
            return relays.into_iter().map(Key::Heartbeat).collect();
        }
        let start = self.heartbeat_turn % relays.len();
        self.heartbeat_turn = (start + room / self.policy.endpoints.max(1)) % relays.len();
        relays.iter().cycle().skip(start).take(room).map(|relay| Key::Heartbeat(*relay)).collect()
    }
}

/// What every head call reads anyway.
fn is_polled(key: &Key) -> bool {
    matches!(key, Key::RegistryConfig | Key::Zone | Key::Terms | Key::Publication)
}

fn behind(complete: [u64; 2], agreed: [u64; 2]) -> bool {
    agreed[0] > complete[0] || agreed[1] > complete[1]
}
