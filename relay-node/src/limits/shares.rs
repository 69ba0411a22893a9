//! Who has taken how much: visitors at once, new ones a second and bytes, by network, name, client, forwarder and in
//! all. Time comes in as an argument; [`Metered`](super::metered::Metered) does the waiting.
//!
//! Bounded in memory: what is idle and has its whole rate back is forgotten.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tunnler_protocol::Address;
use tunnler_protocol::prefix::{self, Prefix};

use super::{Limits, Rule};
use crate::route::{Claimed, Wanted};

/// Idle accounts remembered of each kind.
const MOST: usize = 65_536;

/// Where a visitor comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From this address.
    Direct(IpAddr),
    /// Handed over by this relay, which alone knows from where.
    Forwarded(Address),
}

/// Who counts as one: what a party takes, it takes from nobody but the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// The visitors from an IPv4 /24 or an IPv6 /56.
    Network(Prefix),
    /// A relay, with all visitors that it hands over.
    Forwarder(Address),
}

impl Origin {
    /// The party that a visitor from here belongs to.
    pub fn party(self) -> Party {
        match self {
            Self::Direct(address) => Party::Network(Prefix::of(address, prefix::NETWORK)),
            Self::Forwarded(relay) => Party::Forwarder(relay),
        }
    }
}

/// A bound that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// Whose bound.
    pub whose: &'static str,
    /// Which one: `at_once` or `per_second`.
    pub what: &'static str,
}

/// The accounts of a whole relay.
#[derive(Debug)]
pub struct Shares {
    limits: Limits,
    networks: Accounts<Prefix>,
    names: Accounts<Claimed>,
    clients: Accounts<Address>,
    forwarders: Accounts<Address>,
    all: Arc<Account>,
    inside: TaskTracker,
}

/// One visitor's part in every account that it counts in; dropping it gives the places back.
#[derive(Debug)]
pub struct Share {
    places: [Place; 4],
    _inside: TaskTrackerToken,
}

impl Shares {
    /// Empty accounts.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            networks: Accounts::default(),
            names: Accounts::default(),
            clients: Accounts::default(),
            forwarders: Accounts::default(),
            all: Arc::default(),
            inside: TaskTracker::new(),
        }
    }

    /// Takes a visitor in, unless that passes a bound. What is nearest to the visitor is asked first, so that whoever is
    /// refused has taken nothing from others.
    pub fn admit(&self, wanted: &Wanted, origin: Origin, now: Instant) -> Result<Share, Over> {
        let limits = &self.limits;
        let near = match origin.party() {
            Party::Network(prefix) => self.networks.enter(prefix, limits.per_network, "network", now)?,
            Party::Forwarder(relay) => {
                self.forwarders.enter(relay, limits.per_forwarder, "forwarder", now)?
            }
        };
        let name = self.names.enter(wanted.name.clone(), limits.per_name, "name", now)?;
        let client = self.clients.enter(wanted.client, limits.per_client, "client", now)?;
        let all = Place::take(self.all.clone(), limits.in_all, "relay", now)?;
        Ok(Share { places: [near, name, client, all], _inside: self.inside.token() })
    }

    /// Returns once nobody is inside any more; whoever still comes is waited for, too.
    pub async fn everybody_left(&self) {
        self.inside.close();
        self.inside.wait().await;
    }

    /// Forgets who is idle.
    pub fn sweep(&self, now: Instant) {
        self.networks.sweep(now);
        self.names.sweep(now);
        self.clients.sweep(now);
        self.forwarders.sweep(now);
    }
}

impl Share {
    /// Whether bytes are bounded at all.
    pub fn is_metered(&self) -> bool {
        self.places.iter().any(|place| place.rule.bytes_per_second.is_some())
    }

    /// Counts bytes that moved; returns how long to wait before more may.
    pub fn spend(&self, bytes: usize, now: Instant) -> Duration {
        let waits = self.places.iter().filter_map(|place| {
            let rate = place.rule.bytes_per_second?;
            Some(place.account.lock().bytes.spend(bytes as u64, rate, now))
        });
        waits.max().unwrap_or_default()
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.whose, self.what)
    }
}

/// One party's use.
#[derive(Debug, Default)]
struct Account(Mutex<Use>);

#[derive(Debug, Default)]
struct Use {
    visitors: usize,
    visits: Bucket,
    bytes: Bucket,
}

impl Account {
    fn lock(&self) -> std::sync::MutexGuard<'_, Use> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The accounts of one kind.
#[derive(Debug)]
struct Accounts<K>(Mutex<HashMap<K, Arc<Account>>>);

impl<K> Default for Accounts<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Accounts<K> {
    fn enter(&self, whose: K, rule: Rule, kind: &'static str, now: Instant) -> Result<Place, Over> {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() >= MOST && !accounts.contains_key(&whose) {
            forget_idle(&mut accounts, now);
            if accounts.len() >= MOST {
                // Nobody idle has its whole rate back: the rates of the idle are lost, the places taken are not.
                accounts.retain(|_, account| Arc::strong_count(account) > 1);
            }
        }
        let account = accounts.entry(whose).or_default().clone();
        drop(accounts);
        Place::take(account, rule, kind, now)
    }

    fn sweep(&self, now: Instant) {
        forget_idle(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), now);
    }
}

fn forget_idle<K: Eq + Hash>(accounts: &mut HashMap<K, Arc<Account>>, now: Instant) {
    accounts.retain(|_, account| {
        let Use { visits, bytes, .. } = &*account.lock();
        Arc::strong_count(account) > 1 || !visits.is_full(now) || !bytes.is_full(now)
    });
}

/// One visitor's place in one account.
#[derive(Debug)]
struct Place {
    account: Arc<Account>,
    rule: Rule,
}

impl Place {
    fn take(account: Arc<Account>, rule: Rule, whose: &'static str, now: Instant) -> Result<Self, Over> {
        let mut used = account.lock();
        if used.visitors >= rule.at_once {
            return Err(Over { whose, what: "at_once" });
        }
        if !used.visits.spend_one(rule.per_second, now) {
            return Err(Over { whose, what: "per_second" });
        }
        used.visitors += 1;
        drop(used);
        Ok(Self { account, rule })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.account.lock().visitors -= 1;
    }
}

/// A rate that allows one second's worth at once. What was spent beyond that is a debt to wait for.
#[derive(Debug, Default)]
struct Bucket {
    /// When everything spent is made up for; `None` is long ago.
    full_at: Option<Instant>,
}

impl Bucket {
    const BURST: Duration = Duration::from_secs(1);

    /// Spends, whatever is left; returns how long to wait for what was not there.
    fn spend(&mut self, n: u64, per_second: u64, now: Instant) -> Duration {
        let full_at = self.full_after(n, per_second, now);
        self.full_at = Some(full_at);
        full_at.saturating_duration_since(now + Self::BURST)
    }

    /// Spends one if it is there.
    fn spend_one(&mut self, per_second: u32, now: Instant) -> bool {
        let full_at = self.full_after(1, per_second.into(), now);
        let enough = full_at <= now + Self::BURST;
        if enough {
            self.full_at = Some(full_at);
        }
        enough
    }

    fn full_after(&self, n: u64, per_second: u64, now: Instant) -> Instant {
        let cost = Duration::from_nanos(n.saturating_mul(1_000_000_000) / per_second.max(1));
        self.full_at.map_or(now, |full_at| full_at.max(now)) + cost
    }

    fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now)
    }
}

#[cfg(test)]
mod tests;
