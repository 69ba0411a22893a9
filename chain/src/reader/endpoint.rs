//! What the reader knows about one endpoint: its identity, how far it has come, what it still has to be asked, and when
//! it may be asked again after a failure.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use tunnler_protocol::time::LedgerTime;

use crate::contract::Key;
use crate::rpc::KEYS_PER_CALL;

/// First and longest pause after a failed call, in polls.
const BACKOFF: (f64, u32) = (0.1, 12);
/// Calls for entries that one endpoint answers at a time.
const ENTRY_CALLS: usize = 4;

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Whether it proved to serve the right network.
    pub(crate) verified: bool,
    /// The newest ledger it told of.
    pub(crate) ledger: Option<LedgerTime>,
    /// The oldest ledger whose events it has.
    pub(crate) oldest: u32,
    /// The newest state of the contracts it told of.
    pub(crate) head: Option<Heads>,
    /// When its head was last read.
    pub(crate) seen: Option<Instant>,
    /// Why its answers do not count now.
    pub(crate) set_aside: Option<String>,
    /// What went wrong last, until something succeeds.
    pub(crate) last_error: Option<String>,
    /// Answers that cannot be true.
    pub(crate) contradictions: u64,
    /// Calls made and failed.
    pub(crate) calls: (u64, u64),
    /// When its head is to be read.
    pub(crate) head_due: Instant,
    /// Calls under way.
    pub(crate) under_way: UnderWay,
    queue: VecDeque<Key>,
    again: Vec<Key>,
    again_at: Instant,
    queued: HashSet<Key>,
    /// Keys that it told news of, and is asked for whatever the others say.
    insisted: HashSet<Key>,
    failures: u32,
    not_before: Instant,
    poll: Duration,
}

/// The state of both contracts that one endpoint told of, and the ledger of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heads {
    pub(crate) ledger: u32,
    /// Registry, Namespace.
    pub(crate) contracts: [ContractHead; 2],
}

/// What a contract's instance says about its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContractHead {
    pub(crate) revision: u64,
    /// Slots in use: `Count` or `Next`.
    pub(crate) slots: u32,
}

/// Which calls are under way.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    /// Identity or head.
    pub(crate) head: bool,
    /// Events.
    pub(crate) events: bool,
    /// Entries.
    pub(crate) entries: usize,
}

impl Endpoint {
    pub(crate) fn new(poll: Duration, now: Instant) -> Self {
        Self {
            verified: false,
            ledger: None,
            oldest: 0,
            head: None,
            seen: None,
            set_aside: None,
            last_error: None,
            contradictions: 0,
            calls: (0, 0),
            head_due: now,
            under_way: UnderWay::default(),
            queue: VecDeque::new(),
            again: Vec::new(),
            again_at: now,
            queued: HashSet::new(),
            insisted: HashSet::new(),
            failures: 0,
            not_before: now,
            poll,
        }
    }

    /// Whether it may be called now.
    pub(crate) fn is_callable(&self, now: Instant) -> bool {
        now >= self.not_before
    }

    /// Whether its answers count: it serves the right network, and its ledger is near the others'.
    pub(crate) fn counts(&self) -> bool {
        self.verified && self.head.is_some() && self.set_aside.is_none()
    }

    /// The next moment at which something may be due.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        let head = (!self.under_way.head).then_some(self.head_due);
        let entries = match (self.queue.is_empty(), self.again.is_empty()) {
            _ if self.under_way.entries >= ENTRY_CALLS => None,
            (false, _) => Some(self.not_before),
            (true, false) => Some(self.again_at),
            (true, true) => None,
        };
        let due = head.into_iter().chain(entries.filter(|_| self.counts())).min()?;
        Some(due.max(self.not_before))
    }

    /// Wants `key` read by this endpoint.
    pub(crate) fn enqueue(&mut self, key: &Key) {
        if self.queued.insert(key.clone()) {
            self.queue.push_back(key.clone());
        }
    }

    /// Wants `key` read by this endpoint even if the others agree on it meanwhile.
    pub(crate) fn insist(&mut self, key: &Key) {
        self.insisted.insert(key.clone());
        self.enqueue(key);
    }

    /// Wants `keys` read once more, at `at` or when the next call is made.
    pub(crate) fn enqueue_again(&mut self, keys: impl IntoIterator<Item = Key>, at: Instant) {
        let keys = keys.into_iter().filter(|key| self.queued.insert(key.clone()));
        if self.again.is_empty() || at < self.again_at {
            self.again_at = at;
        }
        self.again.extend(keys);
    }

    /// The next keys to read, those for which `wanted` still holds.
    pub(crate) fn take_keys(&mut self, now: Instant, wanted: impl Fn(&Key) -> bool) -> Vec<Key> {
        if self.under_way.entries >= ENTRY_CALLS || !self.counts() {
            return Vec::new();
        }
        if now >= self.again_at {
            self.queue.extend(self.again.drain(..));
        }
        let mut keys = Vec::new();
        while keys.len() < KEYS_PER_CALL {
            let Some(key) = self.queue.pop_front() else { break };
            self.queued.remove(&key);
            if self.insisted.remove(&key) || wanted(&key) {
                keys.push(key);
            }
        }
        keys
    }

    /// A call succeeded.
    pub(crate) fn succeeded(&mut self) {
        self.calls.0 += 1;
        self.failures = 0;
        self.last_error = None;
    }

    /// A call failed: pause, twice as long each time, with jitter so that a fleet does not return at once.
    pub(crate) fn failed(&mut self, problem: String, now: Instant, random: &mut StdRng) {
        self.calls = (self.calls.0 + 1, self.calls.1 + 1);
        let (first, longest) = BACKOFF;
        let pause = self.poll.mul_f64(first * f64::from(1 << self.failures.min(10))).min(self.poll * longest);
        self.not_before = now + pause.mul_f64(random.random_range(0.5..1.0));
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(problem);
    }
}
