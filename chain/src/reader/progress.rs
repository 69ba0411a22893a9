//! The agreed ledger, and making sure that every change is noticed: rounds of events, or everything read again.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tunnler_protocol::Address;
use tunnler_protocol::name::Label;
use tunnler_protocol::time::{LedgerTime, UnixSeconds};

use super::cell::EndpointId;
use super::endpoint::Endpoint;
use super::round::{Round, Told};
use super::{Complete, HEAD_KEYS, Page, RESCAN, Reader, behind, is_polled};
use crate::chain::FollowedNames;
use crate::contract::Key;
use crate::rpc::{EventsFrom, KEYS_PER_CALL};

impl Reader {
    pub(super) fn usable(&self, now: Instant) -> Vec<EndpointId> {
        (0..self.endpoints.len()).filter(|endpoint| self.is_usable(*endpoint, now)).collect()
    }

    /// The `quorum`-th largest of what usable endpoints say: at least `quorum` of them have come that far.
    pub(super) fn agreed<T: Ord + Copy>(
        &self,
        usable: &[EndpointId],
        of: impl Fn(&Endpoint) -> Option<T>,
    ) -> Option<T> {
        let mut values: Vec<T> =
            usable.iter().filter_map(|endpoint| of(&self.endpoints[*endpoint])).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        values.get(self.policy.quorum - 1).copied()
    }

    pub(super) fn advance(&mut self, now: Instant) {
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
        self.cover_slots(slots, sequence);
        self.retry_disputed(now);
    }

    pub(super) fn agreed_heads(&self, usable: &[EndpointId]) -> Option<(u32, [u64; 2], [u32; 2])> {
        let sequence = self.agreed(usable, |endpoint| endpoint.head.map(|heads| heads.ledger))?;
        // Revision and slots of one endpoint belong together: a count is that of its revision.
        let head = |contract: usize| {
            self.agreed(usable, |endpoint| {
                let head = endpoint.head?.contracts[contract];
                Some((head.revision, head.slots))
            })
        };
        let ((registry, relays), (namespace, names)) = head(0).zip(head(1))?;
        Some((sequence, [registry, namespace], [relays, names]))
    }

    /// Nothing changed up to the ledger of every endpoint that says so: events before it need never be read.
    pub(super) fn confirm(&mut self, complete: Complete, usable: &[EndpointId]) {
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
    pub(super) fn pursue(
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
    pub(super) fn next_events(&mut self, endpoint: EndpointId) -> Option<EventsFrom> {
        let this = &self.endpoints[endpoint];
        if this.under_way.events || !this.verified || this.set_aside.is_some() {
            return None;
        }
        let (heads, oldest) = (this.head?, this.oldest);
        self.round.as_mut()?.next(endpoint, &heads, oldest)
    }

    pub(super) fn take_events(&mut self, endpoint: EndpointId, page: &Page) {
        let Some(round) = &mut self.round else { return };
        let (told, news) = round.take(endpoint, page);
        let this = &mut self.endpoints[endpoint];
        if told == Told::Gap {
            this.last_error = Some("its events do not add up to its revision".into());
        }
        // What one endpoint claims raises no floor beyond what is agreed on, or it could put changes off. Where a
        // change is newer than that, the endpoint itself is asked for it, whatever the others agree on meanwhile.
        let newest = self.ledger.map_or(0, |ledger| ledger.sequence);
        for hint in news {
            for key in hint.keys.iter() {
                if self.is_in_use(key) && self.follows(key) {
                    self.demand(key, hint.ledger.min(newest));
                    if hint.ledger > newest {
                        self.endpoints[endpoint].insist(key);
                    }
                }
            }
        }
    }

    /// Whether `key` is none of a slot that no quorum ever told of: anybody can make up others.
    fn is_in_use(&self, key: &Key) -> bool {
        match key {
            Key::RelaySlot(slot) => *slot < self.covered[0],
            Key::NameSlot(slot) | Key::Domains(slot) => match self.policy.names {
                FollowedNames::All => *slot < self.covered[1],
                FollowedNames::Chosen => true,
            },
            _ => true,
        }
    }

    /// Whether `key` belongs to what this reader keeps.
    pub(super) fn follows(&self, key: &Key) -> bool {
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
    pub(super) fn scan(&mut self, revisions: [u64; 2], slots: [u32; 2], sequence: u32, now: Instant) {
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
                self.demand(&key, sequence);
            }
        }
        self.covered = [self.covered[0].max(slots[0]), self.covered[1].max(slots[1])];
    }

    /// Slots that came into use are read, and those of relays beyond the count are read again: withdrawal moves the
    /// last relay into the freed slot.
    pub(super) fn cover_slots(&mut self, slots: [u32; 2], sequence: u32) {
        let mut keys: Vec<Key> = (self.covered[0]..slots[0]).map(Key::RelaySlot).collect();
        if self.policy.names == FollowedNames::All {
            keys.extend((self.covered[1]..slots[1]).map(Key::NameSlot));
        }
        self.covered = [self.covered[0].max(slots[0]), self.covered[1].max(slots[1])];
        keys.extend(self.projection.relay_slots_from(slots[0]).map(Key::RelaySlot));
        for key in keys {
            if !self.cells.is_open(&key) {
                self.demand(&key, sequence);
            }
        }
    }

    /// Forgets the heartbeats of keys that are no longer registered.
    pub(super) fn forget_heartbeats(&mut self) {
        let relays: HashSet<Address> = self.projection.relay_addresses().collect();
        let gone = |key: &&Key| matches!(key, Key::Heartbeat(relay) if !relays.contains(relay));
        let gone: Vec<Key> = self.cells.keys().filter(gone).cloned().collect();
        for key in gone {
            self.cells.remove(&key);
            self.projection.apply(&key, None);
        }
    }

    pub(super) fn retry_disputed(&mut self, now: Instant) {
        let disputed: Vec<Key> = self.cells.disputed_keys().cloned().collect();
        for endpoint in &mut self.endpoints {
            endpoint.enqueue_again(disputed.iter().cloned(), now + self.policy.poll);
        }
    }

    /// The heartbeats to read with the next head, in turns when there are many.
    pub(super) fn heartbeat_window(&mut self) -> Vec<Key> {
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
