//! One round of event reading: from the last complete revisions to the agreed ones. Each endpoint tells its row of events;
//! the round is over when `quorum` of them told an unbroken one, so that a single endpoint can withhold nothing.

use std::collections::BTreeMap;
use std::time::Instant;

use super::cell::EndpointId;
use super::endpoint::Heads;
use super::hints::Hint;
use super::{Complete, Page};
use crate::rpc::EventsFrom;

/// A round.
#[derive(Debug)]
pub(crate) struct Round {
    target: [u64; 2],
    base: Complete,
    started: Instant,
    rows: BTreeMap<EndpointId, Row>,
}

/// How far one endpoint has told.
#[derive(Debug)]
struct Row {
    from: EventsFrom,
    revisions: [u64; 2],
    /// Events without a revision since the last one with: each may stand for one.
    unnumbered: [u64; 2],
    state: Told,
    /// The newest ledger of an event within the target.
    ledger: u32,
    /// Calls that failed.
    failures: u32,
    /// Pages that held no news.
    idle: u32,
}

/// Failed calls after which an endpoint's row counts as broken.
const FAILURES: u32 = 3;
/// Pages without news after which an endpoint's row counts as broken: the first ledger may be told again, but no
/// endpoint may go on for ever.
const IDLE_PAGES: u32 = 64;

/// What an endpoint has told so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// There is more to come.
    Partly,
    /// Everything up to the target.
    All,
    /// Not everything, and there is no more to come; or it failed.
    Gap,
}

impl Round {
    pub(crate) fn new(base: Complete, target: [u64; 2], now: Instant) -> Self {
        Self { target, base, started: now, rows: BTreeMap::new() }
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn target(&self) -> [u64; 2] {
        self.target
    }

    /// A ledger that is not after the first event beyond the target.
    pub(crate) fn ledger(&self) -> u32 {
        let told = self.rows.values().filter(|row| row.state == Told::All);
        told.map(|row| row.ledger).min().unwrap_or(self.base.ledger)
    }

    /// Endpoints that told everything.
    pub(crate) fn witnesses(&self) -> usize {
        self.rows.values().filter(|row| row.state == Told::All).count()
    }

    /// Whether every one of `usable` has told or cannot tell, and that is not enough.
    pub(crate) fn is_hopeless(&self, usable: &[EndpointId]) -> bool {
        usable.iter().all(|endpoint| self.rows.get(endpoint).is_some_and(|row| row.state != Told::Partly))
    }

    /// A call for events failed.
    pub(crate) fn failed(&mut self, endpoint: EndpointId) {
        if let Some(row) = self.rows.get_mut(&endpoint) {
            row.failures += 1;
            if row.failures >= FAILURES {
                row.state = Told::Gap;
            }
        }
    }

    /// What to ask `endpoint` for, if it is as far as the target and still has the events since the base.
    pub(crate) fn next(&mut self, endpoint: EndpointId, heads: &Heads, oldest: u32) -> Option<EventsFrom> {
        let reached = (0..2).all(|contract| heads.contracts[contract].revision >= self.target[contract]);
        if !reached {
            return None;
        }
        let base = self.base;
        let row = self.rows.entry(endpoint).or_insert_with(|| Row {
            from: EventsFrom::Ledger(base.ledger),
            revisions: base.revisions,
            unnumbered: [0, 0],
            state: if oldest > base.ledger { Told::Gap } else { Told::Partly },
            ledger: base.ledger,
            failures: 0,
            idle: 0,
        });
        (row.state == Told::Partly).then(|| row.from.clone())
    }

    /// Takes a page of events in, and gives those of them that are news: each revision up to the target once, whatever
    /// an endpoint makes up.
    pub(crate) fn take<'p>(&mut self, endpoint: EndpointId, page: &'p Page) -> (Told, Vec<&'p Hint>) {
        let target = self.target;
        let Some(row) = self.rows.get_mut(&endpoint) else { return (Told::Partly, Vec::new()) };
        let news: Vec<&Hint> = page.hints.iter().filter(|hint| row.add(hint, target)).collect();
        row.idle += u32::from(news.is_empty());
        let end = !page.full && cursor_ledger(&page.cursor).is_none_or(|ledger| ledger >= page.latest);
        let next = EventsFrom::Cursor(page.cursor.clone());
        let stuck = row.from == next;
        row.from = next;
        row.state = match row.state {
            Told::Partly if row.revisions[0] >= target[0] && row.revisions[1] >= target[1] => Told::All,
            Told::Partly if end || stuck => row.conclusion(target),
            Told::Partly if row.idle > IDLE_PAGES => Told::Gap,
            state => state,
        };
        (row.state, news)
    }
}

impl Row {
    /// Whether `hint` is the next of the row.
    fn add(&mut self, hint: &Hint, target: [u64; 2]) -> bool {
        let contract = hint.contract.index();
        let (known, unnumbered) = (self.revisions[contract], self.unnumbered[contract]);
        let Some(revision) = hint.revision else {
            self.unnumbered[contract] += 1;
            return false;
        };
        // Told before (the first ledger is told again as a whole), or later than what a quorum knows: then it comes
        // again in the next round.
        if revision <= known || revision > target[contract] {
            return false;
        }
        if revision > known.saturating_add(unnumbered).saturating_add(1) {
            self.state = Told::Gap;
            return false;
        }
        self.revisions[contract] = revision;
        self.unnumbered[contract] = 0;
        self.ledger = self.ledger.max(hint.ledger);
        true
    }

    /// What the row amounts to when no more events come: each unnumbered one may stand for one missing revision.
    fn conclusion(&self, target: [u64; 2]) -> Told {
        let reached =
            |contract: usize| self.revisions[contract] + self.unnumbered[contract] >= target[contract];
        if reached(0) && reached(1) { Told::All } else { Told::Gap }
    }
}

/// The ledger that a cursor has come to (an event id of stellar-rpc: TOID and index).
fn cursor_ledger(cursor: &str) -> Option<u32> {
    let toid: u64 = cursor.split('-').next()?.parse().ok()?;
    u32::try_from(toid >> 32).ok()
}
