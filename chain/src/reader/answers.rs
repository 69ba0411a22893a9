//! What answers lead to: votes on cells, what they imply, and which endpoints are believed.

use std::time::{Duration, Instant};

use tunnler_protocol::name::Label;

use super::cell::{EndpointId, Value, Verdict};
use super::endpoint::{Endpoint, Heads};
use super::projection::Implies;
use super::{Call, DRIFT, Head, MOST_SLOTS, PROTOCOL, Reader, is_polled};
use crate::contract::{Key, namespace};
use crate::rpc::NetworkInfo;
use crate::value::from_xdr;

impl Reader {
    pub(super) fn failed(&mut self, endpoint: EndpointId, call: &Call, problem: String, now: Instant) {
        let this = &mut self.endpoints[endpoint];
        tracing::debug!(endpoint, %problem, "call failed");
        this.failed(problem, now, &mut self.random);
        match call {
            Call::Entries(keys) => keys.iter().for_each(|key| this.insist(key)),
            Call::Network | Call::Head(_) => this.head_due = now,
            Call::Events(_) => {
                if let Some(round) = &mut self.round {
                    round.failed(endpoint);
                }
            }
        }
    }

    pub(super) fn verify(&mut self, endpoint: EndpointId, info: &NetworkInfo, now: Instant) {
        let this = &mut self.endpoints[endpoint];
        let problem = if info.passphrase != self.policy.passphrase {
            format!("serves another network: {:?}", info.passphrase)
        } else if info.protocol_version < PROTOCOL {
            format!("is at protocol {}; the contracts need {PROTOCOL}", info.protocol_version)
        } else {
            this.verified = true;
            this.head_due = now;
            return;
        };
        this.failed(problem, now, &mut self.random);
    }

    pub(super) fn take_head(&mut self, endpoint: EndpointId, head: Head, now: Instant) {
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
        if let Some(head) = contracts.iter().find(|head| head.slots > MOST_SLOTS) {
            this.last_error = Some(format!("claims {} slots, more than this program can follow", head.slots));
            return;
        }
        this.ledger = Some(head.health.ledger);
        this.oldest = head.health.oldest;
        this.head = Some(Heads { ledger: head.ledger, contracts });
        this.seen = Some(now);
        self.judge_drift(now);
        if self.endpoints[endpoint].set_aside.is_none() {
            self.take_values(endpoint, head.ledger, head.values, now);
        }
    }

    pub(super) fn take_entries(
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
    pub(super) fn judge_drift(&mut self, now: Instant) {
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

    pub(super) fn take_values(
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
                        self.apply(&key);
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

    pub(super) fn note_contradictions(&mut self, key: &Key, endpoints: &[EndpointId]) {
        for endpoint in endpoints {
            let this = &mut self.endpoints[*endpoint];
            this.contradictions += 1;
            // It may go on for days: the first ones and then ever fewer are worth a line.
            if this.contradictions.is_power_of_two() {
                let times = this.contradictions;
                tracing::warn!(endpoint, ?key, times, "an RPC endpoint contradicts what the others agree on");
            }
        }
    }

    /// Brings the agreed value of `key` into the directory and demands what belongs to it.
    pub(super) fn apply(&mut self, key: &Key) {
        let floor = self.ledger.map_or(0, |ledger| ledger.sequence);
        match self.projection.apply(key, self.cells.value(key)) {
            Implies::Nothing => {}
            Implies::Key(implied @ Key::Heartbeat(_)) => {
                if !self.cells.contains(&implied) {
                    self.demand(&implied, floor);
                }
            }
            Implies::Key(implied) => self.demand(&implied, floor),
        }
    }

    pub(super) fn demand(&mut self, key: &Key, floor: u32) {
        self.cells.demand(key, floor);
        for endpoint in &mut self.endpoints {
            endpoint.enqueue(key);
        }
    }

    pub(super) fn forget(&mut self, label: &Label) {
        self.followed.remove(label);
        let slot = self.slot_of(label);
        let keys = slot.map(|slot| [Key::NameSlot(slot), Key::Domains(slot)]);
        for key in keys.into_iter().flatten().chain([Key::Label(label.clone())]) {
            self.cells.remove(&key);
            self.projection.apply(&key, None);
        }
        self.changed = true;
    }

    pub(super) fn slot_of(&self, label: &Label) -> Option<u32> {
        let value = self.cells.value(&Key::Label(label.clone()))?;
        let entry: namespace::LabelEntry = from_xdr(&value.bytes).ok()?;
        entry.slot
    }
}
