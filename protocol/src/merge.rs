//! The presence table: which of all presences ever seen counts (DESIGN §7).
//!
//! A join-semilattice per client: per instance the greater (`seq`, bytes) wins, and of a client's instances the
//! [`INSTANCES`] greatest count. Order, repetition and loss of offers therefore do not matter. A winner is kept past
//! its own expiry, so that nothing older comes back. Signatures are the caller's business: everything offered here is
//! a verified [`Presence`], and [`PresenceTable::judge`] tells beforehand whether verifying would be worth it.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::instance::InstanceId;
use crate::presence::{Claims, MAX_AHEAD, MAX_LIFETIME, Presence};
use crate::time::UnixMillis;

/// How many instances of one client count.
pub const INSTANCES: usize = 8;
/// How long an expired presence is remembered: until then, its relays' silence answers SERVFAIL rather than "gone".
pub const REMEMBERED: Duration = Duration::from_secs(3600);

/// Who told us of an instance first. Each source is accountable for what it makes us remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A relay's feed.
    Relay(Address),
    /// Clients that POST to this server.
    Posted,
    /// This program's own state of before its restart.
    Restored,
}

/// How much a source may make us remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// The chain vouches for this client (one of its names is paid for): no bound but the chain's own.
    Vouched,
    /// At most this many instances at a time.
    Bounded(usize),
}

/// What became, or would become, of a presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// It is the newest of its instance.
    Newer,
    /// Already known, byte for byte.
    Known,
    /// Another one of its instance, or eight other instances of its client, are newer.
    Older,
    /// Signed more than [`MAX_AHEAD`] in the future.
    Ahead,
    /// Already over.
    Expired,
    /// Its source has no room left.
    Crowded,
}

#[derive(Clone, Debug)]
struct Slot {
    presence: Arc<Presence>,
    source: Source,
}

/// The newest presence of each instance of each client.
#[derive(Clone, Debug, Default)]
pub struct PresenceTable {
    clients: HashMap<Address, Vec<Slot>>,
    introduced: HashMap<Source, usize>,
    /// Before this there is nothing to forget.
    due: Option<UnixMillis>,
}

impl PresenceTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// What [`offer`](Self::offer) would say to a presence with these claims and this text, which need not be
    /// verified yet. Costs no signature check, so it comes first.
    pub fn judge(&self, claims: &Claims, text: &str, source: Source, room: Room, now: UnixMillis) -> Merge {
        if claims.seq > now.plus(MAX_AHEAD) {
            return Merge::Ahead;
        }
        if claims.expired(now) {
            return Merge::Expired;
        }
        let slots = self.clients.get(&claims.iss).map_or(&[][..], Vec::as_slice);
        let known = slots.iter().find(|slot| slot.presence.claims().ins == claims.ins);
        if let Some(known) = known {
            return match rank(claims, text).cmp(&known.rank()) {
                Ordering::Greater => Merge::Newer,
                Ordering::Equal => Merge::Known,
                Ordering::Less => Merge::Older,
            };
        }
        if slots.len() >= INSTANCES && slots.iter().all(|slot| slot.rank() > rank(claims, text)) {
            return Merge::Older;
        }
        match room {
            Room::Bounded(most) if self.introduced(source) >= most => Merge::Crowded,
            _ => Merge::Newer,
        }
    }

    /// Takes a verified presence into account.
    pub fn offer(&mut self, presence: Arc<Presence>, source: Source, room: Room, now: UnixMillis) -> Merge {
        let merge = self.judge(presence.claims(), presence.text(), source, room, now);
        if merge == Merge::Newer {
            self.place(Slot { presence, source });
        }
        merge
    }

    /// Takes back what [`iter`](Self::iter) gave before a restart: expired presences too, as they still keep older
    /// ones out.
    pub fn restore(&mut self, presence: Arc<Presence>, now: UnixMillis) {
        if now < forgotten_at(presence.claims()) {
            self.place(Slot { presence, source: Source::Restored });
        }
    }

    /// The newest presence of each instance of `client`, expired ones included, greatest first.
    pub fn client(&self, client: &Address) -> impl ExactSizeIterator<Item = &Arc<Presence>> + use<'_> {
        self.clients.get(client).map_or(&[][..], Vec::as_slice).iter().map(|slot| &slot.presence)
    }

    /// Everything remembered, for the state file.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Presence>> {
        self.clients.values().flatten().map(|slot| &slot.presence)
    }

    /// Forgets what can no longer matter and returns whose it was.
    pub fn sweep(&mut self, now: UnixMillis) -> Vec<Address> {
        let mut changed = Vec::new();
        if self.due.is_none_or(|due| now < due) {
            return changed;
        }
        let introduced = &mut self.introduced;
        let mut due = None;
        self.clients.retain(|client, slots| {
            let before = slots.len();
            slots.retain(|slot| {
                let until = forgotten_at(slot.presence.claims());
                if now < until {
                    due = sooner(due, until);
                } else {
                    release(introduced, slot.source);
                }
                now < until
            });
            if slots.len() != before {
                changed.push(*client);
            }
            !slots.is_empty()
        });
        self.due = due;
        changed
    }

    /// How many instances are remembered.
    pub fn len(&self) -> usize {
        self.introduced.values().sum()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.introduced.is_empty()
    }

    /// How many instances `source` told us of first.
    pub fn introduced(&self, source: Source) -> usize {
        self.introduced.get(&source).copied().unwrap_or(0)
    }

    /// The join itself: replaces an older presence of the same instance, else inserts, and drops the least beyond
    /// [`INSTANCES`]. What is dropped has a lower `seq` than what stays, so its floor would have ended earlier.
    fn place(&mut self, slot: Slot) {
        self.due = sooner(self.due, forgotten_at(slot.presence.claims()));
        // Nearly every client has one instance.
        let slots = self.clients.entry(slot.presence.claims().iss).or_insert_with(|| Vec::with_capacity(1));
        match slots.iter_mut().find(|known| known.presence.claims().ins == slot.presence.claims().ins) {
            Some(known) if known.rank() < slot.rank() => known.presence = slot.presence,
            Some(_) => return,
            None => {
                *self.introduced.entry(slot.source).or_default() += 1;
                slots.push(slot);
            }
        }
        slots.sort_by(|a, b| b.rank().cmp(&a.rank()));
        for dropped in slots.drain(INSTANCES.min(slots.len())..) {
            release(&mut self.introduced, dropped.source);
        }
    }
}

impl Slot {
    fn rank(&self) -> (UnixMillis, &[u8]) {
        rank(self.presence.claims(), self.presence.text())
    }
}

/// The total order that decides: `seq`, then the bytes.
fn rank<'a>(claims: &Claims, text: &'a str) -> (UnixMillis, &'a [u8]) {
    (claims.seq, text.as_bytes())
}

fn sooner(due: Option<UnixMillis>, until: UnixMillis) -> Option<UnixMillis> {
    Some(due.map_or(until, |due| due.min(until)))
}

/// From this moment on every older presence of the instance is expired by itself, and nobody asks any more.
fn forgotten_at(claims: &Claims) -> UnixMillis {
    claims.seq.plus(MAX_LIFETIME + MAX_AHEAD).max(claims.exp.millis().plus(REMEMBERED))
}

fn release(introduced: &mut HashMap<Source, usize>, source: Source) {
    if let Entry::Occupied(mut count) = introduced.entry(source) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// Which instance of which client.
pub type InstanceKey = (Address, InstanceId);

#[cfg(test)]
mod tests;
