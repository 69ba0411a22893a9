//! Agreement on single entries: each [`Key`] has a cell with the value that a quorum of endpoints last agreed on, and the
//! votes that may replace it. Knows neither what the values mean nor whom to ask next.
//!
//! A vote is what one endpoint said about the key at one ledger. A value is agreed on when `quorum` endpoints give the
//! same bytes with the same ledger of last modification, none of them from before the cell's *floor*: the ledger from
//! which on answers count. The floor only rises, so nothing older comes back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::contract::Key;

/// Position of an endpoint in the network descriptor.
pub(crate) type EndpointId = usize;

/// The content of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Value {
    /// The ledger that last modified it; 0 for what lives inside an instance entry, where nobody can tell.
    pub(crate) modified: u32,
    /// XDR of the contract value.
    pub(crate) bytes: Arc<[u8]>,
}

/// What a vote led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The endpoint has not come as far as the floor: ask it again.
    TooOld,
    /// No agreement yet: ask again, this endpoint and the others.
    Undecided,
    /// There is agreement.
    Agreed {
        /// Whether the agreed value is another one than before.
        changed: bool,
        /// Endpoints that said something which cannot be true if the agreed value is.
        contradicted: Vec<EndpointId>,
    },
}

#[derive(Clone, Debug, Default)]
struct Cell {
    value: Option<Value>,
    floor: u32,
    votes: Vec<Vote>,
}

#[derive(Clone, Debug)]
struct Vote {
    endpoint: EndpointId,
    ledger: u32,
    value: Option<Value>,
}

/// All cells.
#[derive(Debug)]
pub(crate) struct Cells {
    quorum: usize,
    cells: HashMap<Key, Cell>,
    /// Cells without agreement.
    open: HashSet<Key>,
    /// Open cells whose votes contradict each other, and since when.
    disputed: HashMap<Key, Instant>,
}

impl Cells {
    pub(crate) fn new(quorum: usize) -> Self {
        Self { quorum, cells: HashMap::new(), open: HashSet::new(), disputed: HashMap::new() }
    }

    /// Takes over an agreement of an earlier run.
    pub(crate) fn restore(&mut self, key: Key, floor: u32, value: Option<Value>) {
        self.cells.insert(key, Cell { value, floor, votes: Vec::new() });
    }

    /// The agreed value.
    pub(crate) fn value(&self, key: &Key) -> Option<&Value> {
        self.cells.get(key)?.value.as_ref()
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.cells.contains_key(key)
    }

    pub(crate) fn is_open(&self, key: &Key) -> bool {
        self.open.contains(key)
    }

    /// Whether there is nothing to be learnt about `key` for now: agreed, or disputed for longer than `patience`.
    pub(crate) fn is_read(&self, key: &Key, patience: Duration, now: Instant) -> bool {
        self.cells.contains_key(key) && (!self.is_open(key) || self.is_stuck(key, patience, now))
    }

    /// Cells without agreement.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    /// Cells whose votes contradict each other.
    pub(crate) fn disputed(&self) -> usize {
        self.disputed.len()
    }

    /// Whether agreement on some cell is still to be expected, as it is not for those that have been disputed for longer
    /// than `patience`: a third endpoint may settle a younger dispute.
    pub(crate) fn is_waiting(&self, patience: Duration, now: Instant) -> bool {
        let stuck = self.disputed.keys().filter(|key| self.is_stuck(key, patience, now)).count();
        self.open.len() > stuck
    }

    fn is_stuck(&self, key: &Key, patience: Duration, now: Instant) -> bool {
        self.disputed.get(key).is_some_and(|since| now.duration_since(*since) >= patience)
    }

    /// Keys of the cells that are disputed.
    pub(crate) fn disputed_keys(&self) -> impl Iterator<Item = &Key> {
        self.disputed.keys()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.cells.keys()
    }

    /// All agreements, for keeping.
    pub(crate) fn agreements(&self) -> impl Iterator<Item = (&Key, u32, Option<&Value>)> {
        self.cells.iter().map(|(key, cell)| (key, cell.floor, cell.value.as_ref()))
    }

    /// Demands answers from `floor` on: the entry may have changed there.
    pub(crate) fn demand(&mut self, key: &Key, floor: u32) {
        let cell = self.cells.entry(key.clone()).or_default();
        cell.floor = cell.floor.max(floor);
        cell.votes.retain(|vote| vote.ledger >= cell.floor);
        self.open.insert(key.clone());
    }

    /// Forgets `key`.
    pub(crate) fn remove(&mut self, key: &Key) {
        self.cells.remove(key);
        self.close(key);
    }

    /// Counts what `endpoint` said about `key` at `ledger`.
    pub(crate) fn vote(
        &mut self,
        key: &Key,
        endpoint: EndpointId,
        ledger: u32,
        value: Option<Value>,
        now: Instant,
    ) -> Verdict {
        let cell = self.cells.entry(key.clone()).or_default();
        if ledger < cell.floor {
            return Verdict::TooOld;
        }
        cell.votes.retain(|vote| vote.endpoint != endpoint);
        let open = self.open.contains(key);
        if !open && cell.floor > 0 {
            if value == cell.value {
                return Verdict::Agreed { changed: false, contradicted: Vec::new() };
            }
            if !may_follow(&value, ledger, cell.floor) {
                return Verdict::Agreed { changed: false, contradicted: vec![endpoint] };
            }
        }
        cell.votes.push(Vote { endpoint, ledger, value });
        let Some(agreed) = cell.quorate(self.quorum) else {
            if cell.is_disputed() {
                self.disputed.entry(key.clone()).or_insert(now);
            } else {
                self.disputed.remove(key);
            }
            self.open.insert(key.clone());
            return Verdict::Undecided;
        };
        let (changed, contradicted) = cell.settle(agreed);
        if cell.votes.is_empty() {
            self.close(key);
        } else {
            self.disputed.remove(key);
            self.open.insert(key.clone());
        }
        Verdict::Agreed { changed, contradicted }
    }

    fn close(&mut self, key: &Key) {
        self.open.remove(key);
        self.disputed.remove(key);
    }
}

impl Cell {
    /// The newest value that `quorum` votes agree on, with the ledger up to which they vouch for it.
    fn quorate(&self, quorum: usize) -> Option<(u32, Option<Value>)> {
        let vouched = self.votes.iter().filter_map(|vote| {
            let same: Vec<u32> = self
                .votes
                .iter()
                .filter(|other| other.value == vote.value)
                .map(|other| other.ledger)
                .collect();
            (same.len() >= quorum).then(|| (same.into_iter().min().unwrap_or(0), vote.value.clone()))
        });
        vouched.max_by_key(|(ledger, _)| *ledger)
    }

    /// Makes `agreed` the value. Votes for something newer stay; the others go, and those of them that cannot be true
    /// beside it are told.
    fn settle(&mut self, (ledger, value): (u32, Option<Value>)) -> (bool, Vec<EndpointId>) {
        self.floor = self.floor.max(ledger);
        let mut contradicted = Vec::new();
        let floor = self.floor;
        self.votes.retain(|vote| {
            if vote.value == value || vote.ledger < floor {
                return false;
            }
            let newer = may_follow(&vote.value, vote.ledger, floor);
            if !newer {
                contradicted.push(vote.endpoint);
            }
            newer
        });
        self.votes.shrink_to_fit();
        let changed = self.value != value;
        self.value = value;
        (changed, contradicted)
    }

    /// Whether two votes cannot both be true.
    fn is_disputed(&self) -> bool {
        let contradict = |a: &Vote, b: &Vote| {
            let (earlier, later) = if a.ledger <= b.ledger { (a, b) } else { (b, a) };
            a.value != b.value && !may_follow(&later.value, later.ledger, earlier.ledger)
        };
        self.votes.iter().enumerate().any(|(i, a)| self.votes[i + 1..].iter().any(|b| contradict(a, b)))
    }
}

/// Whether an entry that had other content at ledger `before` can be `value` at `ledger`.
fn may_follow(value: &Option<Value>, ledger: u32, before: u32) -> bool {
    match value {
        Some(Value { modified, .. }) if *modified > 0 => *modified > before,
        _ => ledger > before,
    }
}

#[cfg(test)]
mod tests;
