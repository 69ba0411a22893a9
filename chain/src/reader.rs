//! The reader as a pure state machine: which endpoint to ask what, what its answers lead to, and when the next
//! directory is due. No I/O and no clock: [`Reader::next_call`] and [`Reader::handle`] are driven by `chain`.
//!
//! How it stays right: every entry has a [cell](cell) that changes by quorum only. When an endpoint quorum tells of a
//! higher revision, the events since the last complete revision name the slots to read again; `quorum` endpoints must
//! have told an unbroken row of them. If they cannot (retention, a gap, a liar), everything is read again. Each demand
//! carries the ledger from which on answers count, so no order of answers can bring an older state back.

mod answers;
pub(crate) mod cell;
pub(crate) mod endpoint;
pub(crate) mod hints;
mod progress;
mod projection;
mod round;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use tunnler_protocol::directory::Directory;
use tunnler_protocol::name::Label;
use tunnler_protocol::time::LedgerTime;

use self::cell::{Cells, EndpointId, Value};
use self::endpoint::{ContractHead, Endpoint};
use self::hints::Hint;
use self::projection::Projection;
use self::round::Round;
use crate::chain::FollowedNames;
use crate::contract::Key;
use crate::rpc::{CALL_TIMEOUT, EventsFrom, Failure, Health, NetworkInfo};

/// Keys of a head call besides heartbeats: two instances and the publication.
const HEAD_KEYS: usize = 3;
/// How long a batch of related changes is waited for before it is published in part.
const GATHER: Duration = Duration::from_secs(1);
/// Ledgers by which an endpoint may differ from the median of all.
const DRIFT: u32 = 12;
/// More slots than this are not believed: at 1 KiB an entry they would not fit in memory.
const MOST_SLOTS: u32 = 10_000_000;
/// The least protocol version that runs the contracts (their SDK's).
const PROTOCOL: u32 = 28;
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
    Events(Page),
}

/// A page of events.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) hints: Vec<Hint>,
    /// Where the next page starts.
    pub(crate) cursor: String,
    /// Whether the page is full, so that more may follow even in the newest ledger.
    pub(crate) full: bool,
    /// The newest ledger of the endpoint.
    pub(crate) latest: u32,
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
    /// Since when changes are held back because more of them are to be expected.
    gathering_since: Option<Instant>,
    ready: bool,
    random: StdRng,
}

impl Reader {
    pub(crate) fn new(policy: Policy, kept: Option<Kept>, seed: u64, now: Instant) -> Self {
        let endpoints = (0..policy.endpoints).map(|_| Endpoint::new(policy.poll, now)).collect();
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
            gathering_since: None,
            ready: false,
            random: StdRng::seed_from_u64(seed),
        };
        if let Some(kept) = kept {
            reader.restore(kept);
        }
        reader
    }

    fn restore(&mut self, kept: Kept) {
        for Agreement { key, floor, value, open } in kept.agreements {
            self.projection.apply(&key, value.as_ref());
            match &key {
                Key::Label(label) => drop(self.followed.insert(label.clone(), 0)),
                Key::RelaySlot(slot) => self.covered[0] = self.covered[0].max(slot.saturating_add(1)),
                Key::NameSlot(slot) => self.covered[1] = self.covered[1].max(slot.saturating_add(1)),
                _ => {}
            }
            self.cells.restore(key.clone(), floor, value);
            if open {
                self.demand(&key, floor);
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
    pub(crate) fn due_at(&self, now: Instant) -> Option<Instant> {
        let calls = self.endpoints.iter().filter_map(Endpoint::due_at).min();
        let patience = (self.cells.open() > 0 || self.round.is_some()).then(|| now + GATHER / 4);
        calls.into_iter().chain(patience).min()
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
                    Answer::Events(page) => self.take_events(endpoint, &page),
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
    pub(crate) fn follow(&mut self, label: Label) {
        if self.policy.names == FollowedNames::All {
            return;
        }
        *self.followed.entry(label.clone()).or_insert(0) += 1;
        let key = Key::Label(label);
        if !self.cells.contains(&key) {
            let floor = self.ledger.map_or(0, |ledger| ledger.sequence);
            self.demand(&key, floor);
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
    pub(crate) fn has_read(&self, label: &Label, now: Instant) -> bool {
        if self.policy.names == FollowedNames::All {
            return self.ready;
        }
        let key = Key::Label(label.clone());
        let is_read = |key: &Key| self.cells.is_read(key, CALL_TIMEOUT, now);
        is_read(&key) && self.slot_of(label).is_none_or(|slot| is_read(&Key::NameSlot(slot)))
    }

    /// The next directory, if there is something new to publish.
    pub(crate) fn snapshot(&mut self, now: Instant) -> Option<Arc<Directory>> {
        let (ledger, complete) = (self.ledger?, self.complete?);
        if !self.ready {
            self.ready = !self.cells.is_waiting(CALL_TIMEOUT, now) && self.projection.is_complete();
        }
        let news = self.changed || self.published_ledger != Some(ledger);
        let gathered = if self.round.is_some() || self.cells.is_waiting(GATHER, now) {
            now >= *self.gathering_since.get_or_insert(now) + GATHER
        } else {
            true
        };
        if !self.ready || !news || (self.changed && !gathered) {
            return None;
        }
        let directory = self.projection.snapshot(ledger, complete.revisions)?;
        self.changed = false;
        self.gathering_since = None;
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

/// What every head call reads anyway.
fn is_polled(key: &Key) -> bool {
    matches!(key, Key::RegistryConfig | Key::Zone | Key::Terms | Key::Publication)
}

fn behind(complete: [u64; 2], agreed: [u64; 2]) -> bool {
    agreed[0] > complete[0] || agreed[1] > complete[1]
}

#[cfg(test)]
mod tests;
