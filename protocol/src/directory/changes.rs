//! What differs between two directories, as precise changes. A pure comparison: records that are the same `Arc` are
//! skipped without being looked at, so comparing two snapshots of the chain reader costs little.

use std::sync::Arc;

use super::{Directory, NameRecord, Relay};
use crate::name::Label;

/// One difference between an older and a newer directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A relay that was not there before.
    RelayAppeared(Arc<Relay>),
    /// A relay whose record, status or heartbeat differs.
    RelayChanged {
        /// As it was.
        old: Arc<Relay>,
        /// As it is.
        new: Arc<Relay>,
    },
    /// A relay whose heartbeat became older than the directory allows, without any other change.
    RelayFellSilent(Arc<Relay>),
    /// A relay that is no longer registered.
    RelayGone(Arc<Relay>),
    /// A name that was not there before (registered, or followed from now on).
    NameAppeared(Arc<NameRecord>),
    /// A name whose record differs.
    NameChanged {
        /// As it was.
        old: Arc<NameRecord>,
        /// As it is.
        new: Arc<NameRecord>,
    },
    /// A name that expired between the two ledgers, without any other change.
    NameExpired(Arc<NameRecord>),
    /// A name that is no longer followed.
    NameGone(Arc<NameRecord>),
    /// The zone or its policy differs.
    ZoneChanged,
}

impl Directory {
    /// What changed since `old`: relays by address, then names by label, then the zone.
    pub fn changes_since(&self, old: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        self.relay_changes(old, &mut changes);
        self.name_changes(old, &mut changes);
        if self.zone != old.zone || self.heartbeat_ttl != old.heartbeat_ttl {
            changes.push(Change::ZoneChanged);
        }
        changes
    }

    fn relay_changes(&self, old: &Self, changes: &mut Vec<Change>) {
        let (before, now) = (old.ledger.closed_at, self.ledger.closed_at);
        for (address, relay) in &self.relays {
            match old.relays.get(address) {
                None => changes.push(Change::RelayAppeared(relay.clone())),
                Some(was) if !same(was, relay) => {
                    changes.push(Change::RelayChanged { old: was.clone(), new: relay.clone() });
                }
                Some(was)
                    if was.is_active(before, old.heartbeat_ttl)
                        && !relay.is_active(now, self.heartbeat_ttl) =>
                {
                    changes.push(Change::RelayFellSilent(relay.clone()));
                }
                Some(_) => {}
            }
        }
        let gone = old.relays.iter().filter(|(address, _)| !self.relays.contains_key(*address));
        changes.extend(gone.map(|(_, relay)| Change::RelayGone(relay.clone())));
    }

    fn name_changes(&self, old: &Self, changes: &mut Vec<Change>) {
        let (before, now) = (old.ledger.closed_at, self.ledger.closed_at);
        let mut found: Vec<(&Label, Change)> = Vec::new();
        for (label, record) in &self.names {
            let change = match old.names.get(label) {
                None => Change::NameAppeared(record.clone()),
                Some(was) if !same(was, record) => {
                    Change::NameChanged { old: was.clone(), new: record.clone() }
                }
                Some(_) if before < record.expires_at && now >= record.expires_at => {
                    Change::NameExpired(record.clone())
                }
                Some(_) => continue,
            };
            found.push((label, change));
        }
        let gone = old.names.iter().filter(|(label, _)| !self.names.contains_key(*label));
        found.extend(gone.map(|(label, record)| (label, Change::NameGone(record.clone()))));
        // A hash map has no order of its own; the same change list everywhere is worth a small sort.
        found.sort_unstable_by_key(|(label, _)| *label);
        changes.extend(found.into_iter().map(|(_, change)| change));
    }
}

fn same<T: PartialEq>(old: &Arc<T>, new: &Arc<T>) -> bool {
    Arc::ptr_eq(old, new) || old == new
}

#[cfg(test)]
mod tests;
