//! The state that snapshots are made of: the directory, the presence table and every relay's feed.
//!
//! [`State`] is pure and has one owner, the task in [`task`]; everybody else sends it [`Event`]s and reads the
//! [`Snapshot`] it publishes.

pub mod store;
pub mod task;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tunnler_protocol::address::Address;
use tunnler_protocol::directory::{Directory, Relay};
use tunnler_protocol::live::{FeedEvent, Hearing, Probe, RelayFeed};
use tunnler_protocol::merge::{Merge, PresenceTable, Room, Source};
use tunnler_protocol::presence::Presence;
use tunnler_protocol::time::UnixMillis;

use crate::clock::Now;
use crate::dnssec::keys::ZoneKeys;
use crate::snapshot::{Changes, Client, Footing, Snapshot, Terms};
use crate::zone::ZoneView;

/// Most sessions taken from one feed, whatever capacity it registered.
const MOST_SESSIONS: usize = 8192;
/// Most presences of keys that no name vouches for taken from one feed: 32 MB, if all are as long as they may be.
const MOST_UNVOUCHED: usize = 2048;
/// Most unvouched instances that clients may POST.
const MOST_POSTED: usize = 4096;
/// How often what is over is forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// What changes the state.
#[derive(Clone, Debug)]
pub enum Event {
    /// The chain says something new.
    Directory(Arc<Directory>),
    /// A relay's feed says something.
    Feed(Address, FeedEvent),
    /// A verified presence arrived.
    Presence(Arc<Presence>, Source),
    /// Our probe of a relay changed its mind.
    Probe(Address, Probe),
    /// The zone's keys changed.
    Keys(Arc<ZoneKeys>),
}

/// A feed to read. Another generation means: start over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The relay as registered.
    pub relay: Arc<Relay>,
    /// Counts the times this relay was taken up.
    pub generation: u64,
}

/// Everything known, changing.
#[derive(Debug)]
pub struct State {
    table: PresenceTable,
    feeds: BTreeMap<Address, (u64, RelayFeed)>,
    generations: u64,
    failing: HashSet<Address>,
    failing_changed: bool,
    new_keys: Option<Arc<ZoneKeys>>,
    clock_lead: Option<i64>,
    zone: Option<Arc<ZoneView>>,
    restored: bool,
    dirty: HashSet<Address>,
    unsaved: Vec<Arc<Presence>>,
    swept_at: UnixMillis,
    published: Arc<Snapshot>,
}

impl State {
    /// The state after a start, with what was known before it.
    pub fn new(terms: Terms, restored: impl IntoIterator<Item = Arc<Presence>>, now: Now) -> Self {
        let mut table = PresenceTable::new();
        for presence in restored {
            table.restore(presence, now.unix);
        }
        let dirty = table.iter().map(|presence| presence.claims().iss).collect();
        Self {
            restored: !table.is_empty(),
            table,
            feeds: BTreeMap::new(),
            generations: 0,
            failing: HashSet::new(),
            failing_changed: false,
            new_keys: None,
            clock_lead: None,
            zone: None,
            dirty,
            unsaved: Vec::new(),
            swept_at: now.unix,
            published: Arc::new(Snapshot::empty(terms)),
        }
    }

    /// Takes in one event.
    pub fn handle(&mut self, event: Event, now: Now) {
        match event {
            Event::Directory(directory) => self.follow(directory, now),
            Event::Feed(relay, event) => {
                if let Some((_, feed)) = self.feeds.get_mut(&relay) {
                    self.dirty.extend(feed.handle(now.instant, event).into_iter().map(|(client, _)| client));
                }
            }
            Event::Presence(presence, source) => {
                let room = self.room(&presence.claims().iss, source, now);
                if self.table.offer(presence.clone(), source, room, now.unix) == Merge::Newer {
                    self.dirty.insert(presence.claims().iss);
                    self.unsaved.push(presence);
                }
            }
            Event::Probe(relay, Probe::Fails) => self.failing_changed |= self.failing.insert(relay),
            Event::Probe(relay, Probe::Serves) => self.failing_changed |= self.failing.remove(&relay),
            Event::Keys(keys) => self.new_keys = Some(keys),
        }
    }

    /// The feeds that should be read.
    pub fn subscriptions(&self) -> Vec<Subscription> {
        let Some(zone) = &self.zone else { return Vec::new() };
        let relay = |address| zone.directory.relays.get(address).cloned();
        let feeds = self.feeds.iter();
        feeds
            .filter_map(|(address, (generation, _))| {
                relay(address).map(|relay| Subscription { relay, generation: *generation })
            })
            .collect()
    }

    /// A new snapshot, if anything changed since the last one.
    pub fn publish(&mut self, now: Now) -> Option<Arc<Snapshot>> {
        if now.unix.since(self.swept_at) >= SWEEP {
            self.swept_at = now.unix;
            self.dirty.extend(self.table.sweep(now.unix));
        }
        let hearings: HashMap<Address, Hearing> =
            self.feeds.iter().map(|(relay, (_, feed))| (*relay, feed.hearing(now.instant))).collect();
        let footing = self.footing(now);
        let same_zone = match (&self.zone, &self.published.zone) {
            (Some(new), Some(old)) => Arc::ptr_eq(new, old),
            (None, None) => true,
            _ => false,
        };
        let same_hearings = hearings == *self.published.hearings();
        if self.dirty.is_empty()
            && same_zone
            && same_hearings
            && footing == self.published.footing
            && !self.failing_changed
            && self.new_keys.is_none()
        {
            return None;
        }
        let dirty = std::mem::take(&mut self.dirty);
        let changes = Changes {
            clients: dirty.into_iter().map(|client| (client, self.client(&client))).collect(),
            hearings: (!same_hearings).then_some(hearings),
            failing: std::mem::take(&mut self.failing_changed).then(|| self.failing.clone()),
            keys: self.new_keys.take(),
            clock_lead: self.clock_lead.take(),
        };
        self.published = Arc::new(self.published.with(self.zone.clone(), footing, changes));
        Some(self.published.clone())
    }

    /// Presences that became the newest since the last call, for the state file.
    pub fn take_unsaved(&mut self) -> Vec<Arc<Presence>> {
        std::mem::take(&mut self.unsaved)
    }

    /// Everything remembered, for rewriting the state file.
    pub fn remembered(&self) -> Vec<Arc<Presence>> {
        self.table.iter().cloned().collect()
    }

    /// How many presences are remembered.
    pub fn presences(&self) -> usize {
        self.table.len()
    }

    fn follow(&mut self, directory: Arc<Directory>, now: Now) {
        // What was kept from before a restart says nothing about clocks; a ledger that follows another does.
        let known = self.zone.as_ref().map(|zone| zone.directory.ledger.sequence);
        if known.is_some_and(|known| known < directory.ledger.sequence) {
            let lead = i128::from(now.unix.seconds().0) - i128::from(directory.ledger.closed_at.0);
            self.clock_lead = Some(i64::try_from(lead).unwrap_or(i64::MAX));
        }
        let ledger_now = now.unix.seconds().min(directory.ledger.closed_at.plus(Duration::from_secs(300)));
        let active: BTreeMap<Address, &Arc<Relay>> =
            directory.active_relays(ledger_now).map(|relay| (relay.address, relay)).collect();
        let dirty = &mut self.dirty;
        self.feeds.retain(|address, (_, feed)| {
            let keep = active.contains_key(address);
            if !keep {
                dirty.extend(feed.sessions().map(|((client, _), _)| *client));
            }
            keep
        });
        for (address, relay) in active {
            let most = most_sessions(relay);
            self.generations += 1;
            let fresh = || (self.generations, RelayFeed::new(most, now.instant));
            self.feeds.entry(address).or_insert_with(fresh).1.set_most(most);
        }
        self.zone = Some(Arc::new(match &self.zone {
            Some(zone) => zone.after(directory),
            None => ZoneView::new(directory, self.published.terms.gate),
        }));
    }

    fn room(&self, client: &Address, source: Source, now: Now) -> Room {
        let Some(zone) = &self.zone else { return Room::Bounded(MOST_POSTED) };
        if zone.vouches_for(client, now.unix.seconds()) {
            return Room::Vouched;
        }
        match source {
            Source::Relay(relay) => Room::Bounded(
                zone.directory.relays.get(&relay).map_or(0, |relay| most_sessions(relay)).min(MOST_UNVOUCHED),
            ),
            Source::Posted | Source::Restored => Room::Bounded(MOST_POSTED),
        }
    }

    fn footing(&self, now: Now) -> Footing {
        let settled = || self.feeds.values().all(|(_, feed)| feed.settled(now.instant));
        if self.published.footing == Footing::Synced || (self.zone.is_some() && settled()) {
            Footing::Synced
        } else if self.restored {
            Footing::Restored
        } else {
            Footing::Unsynced
        }
    }

    /// What a snapshot needs of one client: its presences and what the relays they list say.
    fn client(&self, client: &Address) -> Option<Client> {
        let presences: Vec<Arc<Presence>> = self.table.client(client).cloned().collect();
        if presences.is_empty() {
            return None;
        }
        let mut sessions = Vec::new();
        for claims in presences.iter().map(|presence| presence.claims()) {
            for relay in &claims.relays {
                let feed = self.feeds.get(relay).map(|(_, feed)| feed);
                if let Some(session) = feed.and_then(|feed| feed.session(&(*client, claims.ins))) {
                    sessions.push((*relay, claims.ins, session));
                }
            }
        }
        sessions.shrink_to_fit();
        Some(Client { presences, sessions })
    }
}

/// How many sessions one relay's feed may name.
fn most_sessions(relay: &Relay) -> usize {
    usize::try_from(relay.capacity).unwrap_or(MOST_SESSIONS).min(MOST_SESSIONS)
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
