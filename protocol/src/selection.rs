//! Which relays a client prefers, and why: a pure, seeded ranking (DESIGN §10).
//!
//! Everything a relay costs is expressed in milliseconds of round-trip time, so that the factors can be compared and
//! shown. Measures nothing and remembers nothing itself.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

pub use trouble::Trouble;

use crate::address::Address;
use crate::directory::{AddressPolicy, Directory, Relay, RelayStatus};
use crate::name::Label;

mod trouble;

/// Cost of a relay whose round-trip time is not known.
const UNKNOWN_RTT_MS: u32 = 150;
/// Cost of a relay that is full; an empty one costs nothing, one half full a quarter of this.
const FULL_MS: u32 = 200;
/// Cost of not being in the preferred region.
const OTHER_REGION_MS: u32 = 40;
/// Cost of one remembered failure.
const FAILURE_MS: u32 = 50;
/// What a relay in use is ahead of others, so that small differences change nothing.
const HELD_MS: u32 = 30;
/// Largest pseudo-random difference between equal relays, so that clients spread.
const SPREAD_MS: u32 = 8;
/// Cost of a second relay of the same operator.
const SAME_OPERATOR_MS: u32 = 400;
/// Cost of a second relay in the same network (/24 or /48).
const SAME_PREFIX_MS: u32 = 200;

/// What the user wants of relays.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Preferred above all others as long as they are usable.
    pub pinned: Vec<Address>,
    /// If not empty, only these.
    pub allowed: BTreeSet<Address>,
    /// Never these.
    pub denied: BTreeSet<Address>,
    /// Preferred region code.
    pub region: Option<String>,
    /// The port visitors use in this zone; relays with another one cannot be named in DNS.
    pub ingress_port: u16,
    /// Which addresses may be dialled.
    pub addresses: AddressPolicy,
    /// Relays that the user named by address and key: used before all others, whatever the chain says of them.
    pub named: Vec<Arc<Relay>>,
    /// Names to serve, whose owners may allow certain relays only.
    pub labels: Vec<Label>,
}

impl Policy {
    /// Whether the user named this relay by address and key.
    pub fn names(&self, relay: &Address) -> bool {
        self.named.iter().any(|named| named.address == *relay)
    }

    /// Which addresses of this relay may be dialled: those that the user wrote down always.
    pub fn addresses_of(&self, relay: &Address) -> AddressPolicy {
        if self.names(relay) { AddressPolicy::AllowPrivate } else { self.addresses }
    }
}

/// What a client has learnt about one relay.
#[derive(Clone, Debug, Default)]
pub struct Experience {
    /// Last measured round-trip time.
    pub rtt: Option<Duration>,
    /// Whether it ever proved its key to us.
    pub proven: bool,
    /// Failures that still count.
    pub trouble: Trouble,
}

/// One relay's place in the ranking.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// The relay.
    pub relay: Arc<Relay>,
    /// Milliseconds it costs; lower is better.
    pub cost: u32,
    /// What that is made of.
    pub factors: Vec<Factor>,
    /// Why it is not to be used, if so.
    pub excluded: Option<Exclusion>,
}

/// A part of a relay's cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// Measured round trip.
    Rtt(Duration),
    /// Not measured yet.
    RttUnknown,
    /// Share of its capacity in use, in percent.
    Load(u32),
    /// Not in the preferred region.
    OtherRegion,
    /// Failures that still count.
    Failures(u32),
    /// In use now.
    Held,
    /// Pinned by the user.
    Pinned,
    /// Named by the user, with its key.
    Named,
}

/// Why a relay is not to be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// No heartbeat within the registry's limit, or on its way out.
    Inactive,
    /// It takes no new sessions.
    Draining,
    /// No address that this network allows.
    NoAddress,
    /// Visitors could not reach it at the zone's ingress port.
    OtherIngressPort,
    /// The user said so.
    Denied,
    /// The owner of a name allows other relays only.
    NotForName,
    /// It failed lately; tried again after this long.
    InTrouble(Duration),
}

/// Ranks all relays of `directory`, best first, excluded ones last. `held` are in use now; `seed` spreads clients.
pub fn rank(
    directory: &Directory,
    experience: &BTreeMap<Address, Experience>,
    held: &[Address],
    policy: &Policy,
    seed: u64,
    now: Instant,
) -> Vec<Ranked> {
    let unknown = Experience::default();
    let on_chain = directory.relays.values().filter(|relay| !policy.names(&relay.address));
    let mut ranked: Vec<Ranked> = on_chain
        .chain(&policy.named)
        .map(|relay| {
            let learnt = experience.get(&relay.address).unwrap_or(&unknown);
            let held = held.contains(&relay.address);
            let (cost, factors) = weigh(relay, learnt, held, policy, seed, now);
            let excluded = exclusion(directory, relay, learnt, held, policy, now);
            Ranked { relay: relay.clone(), cost, factors, excluded }
        })
        .collect();
    ranked.sort_by(|a, b| {
        let order = a.excluded.is_some().cmp(&b.excluded.is_some()).then(a.cost.cmp(&b.cost));
        order.then_with(|| a.relay.address.cmp(&b.relay.address))
    });
    ranked
}

/// The next relay to use beside `beside`: the cheapest usable one, where a second relay of one operator or network
/// costs extra.
pub fn choose<'a>(ranked: &'a [Ranked], beside: &[Arc<Relay>]) -> Option<&'a Ranked> {
    ranked
        .iter()
        .filter(|candidate| candidate.excluded.is_none())
        .filter(|candidate| beside.iter().all(|other| other.address != candidate.relay.address))
        .min_by(|a, b| match cost_beside(a, beside).cmp(&cost_beside(b, beside)) {
            Ordering::Equal => a.relay.address.cmp(&b.relay.address),
            order => order,
        })
}

/// What `candidate` costs beside relays in use.
pub fn cost_beside(candidate: &Ranked, beside: &[Arc<Relay>]) -> u32 {
    let relay = &candidate.relay;
    let others = || beside.iter().filter(|other| other.address != relay.address);
    let mut cost = candidate.cost;
    if others().any(|other| other.operator == relay.operator) {
        cost = cost.saturating_add(SAME_OPERATOR_MS);
    }
    if others().any(|other| share_prefix(other, relay)) {
        cost = cost.saturating_add(SAME_PREFIX_MS);
    }
    cost
}

fn weigh(
    relay: &Relay,
    learnt: &Experience,
    held: bool,
    policy: &Policy,
    seed: u64,
    now: Instant,
) -> (u32, Vec<Factor>) {
    let mut factors = Vec::new();
    let rtt = match learnt.rtt {
        Some(rtt) => {
            factors.push(Factor::Rtt(rtt));
            u32::try_from(rtt.as_millis()).unwrap_or(u32::MAX)
        }
        None => {
            factors.push(Factor::RttUnknown);
            UNKNOWN_RTT_MS
        }
    };
    let percent = load_percent(relay);
    if percent > 0 {
        factors.push(Factor::Load(percent));
    }
    let mut cost =
        rtt.saturating_add(FULL_MS * percent * percent / 10_000).saturating_add(spread(relay, seed));
    if policy.region.as_ref().is_some_and(|region| region != &relay.region) {
        factors.push(Factor::OtherRegion);
        cost = cost.saturating_add(OTHER_REGION_MS);
    }
    let failures = learnt.trouble.failures(now);
    if failures > 0 {
        factors.push(Factor::Failures(failures));
        cost = cost.saturating_add(FAILURE_MS.saturating_mul(failures));
    }
    if held {
        factors.push(Factor::Held);
        cost = cost.saturating_sub(HELD_MS.max(cost / 5));
    }
    if policy.names(&relay.address) {
        factors.push(Factor::Named);
        cost /= 1000;
    } else if policy.pinned.contains(&relay.address) {
        factors.push(Factor::Pinned);
        cost /= 1000;
    }
    (cost, factors)
}

fn load_percent(relay: &Relay) -> u32 {
    let load = relay.heartbeat.map_or(0, |beat| u64::from(beat.load));
    (load * 100 / u64::from(relay.capacity.max(1))).min(100) as u32
}

fn spread(relay: &Relay, seed: u64) -> u32 {
    let digest =
        Sha256::new().chain_update(seed.to_be_bytes()).chain_update(relay.address.as_bytes()).finalize();
    u32::from(digest[0]) % SPREAD_MS
}

fn exclusion(
    directory: &Directory,
    relay: &Relay,
    learnt: &Experience,
    held: bool,
    policy: &Policy,
    now: Instant,
) -> Option<Exclusion> {
    let allowed = policy.allowed.contains(&relay.address) || policy.names(&relay.address);
    let listed = policy.allowed.is_empty() || allowed;
    if !listed || policy.denied.contains(&relay.address) {
        return Some(Exclusion::Denied);
    }
    if policy.names(&relay.address) {
        return learnt.trouble.remaining(now).filter(|_| !held).map(Exclusion::InTrouble);
    }
    // Ledger time on both sides: a client that has not heard of the chain for a day keeps its relays.
    if !relay.is_active(directory.ledger.closed_at, directory.heartbeat_ttl) {
        return Some(Exclusion::Inactive);
    }
    if relay.status == RelayStatus::Draining {
        return Some(Exclusion::Draining);
    }
    if relay.addresses(policy.addresses).next().is_none() {
        return Some(Exclusion::NoAddress);
    }
    if relay.ingress_port != policy.ingress_port {
        return Some(Exclusion::OtherIngressPort);
    }
    let mut records = policy.labels.iter().filter_map(|label| directory.names.get(label));
    if records.any(|record| !record.allows(&relay.address)) {
        return Some(Exclusion::NotForName);
    }
    // What happened before the session in use was made is no reason to end it.
    learnt.trouble.remaining(now).filter(|_| !held).map(Exclusion::InTrouble)
}

fn share_prefix(a: &Relay, b: &Relay) -> bool {
    let v4 = |relay: &Relay| relay.ipv4.map(|address| prefix(IpAddr::V4(address)));
    let v6 = |relay: &Relay| relay.ipv6.map(|address| prefix(IpAddr::V6(address)));
    (v4(a).is_some() && v4(a) == v4(b)) || (v6(a).is_some() && v6(a) == v6(b))
}

fn prefix(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits() >> 8),
        IpAddr::V6(v6) => v6.to_bits() >> 80,
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rtt(rtt) if rtt.as_millis() < 10 => write!(f, "{:.1} ms away", rtt.as_secs_f64() * 1e3),
            Self::Rtt(rtt) => write!(f, "{} ms away", rtt.as_millis()),
            Self::RttUnknown => write!(f, "distance unknown"),
            Self::Load(percent) => write!(f, "{percent} % full"),
            Self::OtherRegion => write!(f, "other region"),
            Self::Failures(count) => write!(f, "failed {count}×"),
            Self::Held => write!(f, "in use"),
            Self::Pinned => write!(f, "pinned"),
            Self::Named => write!(f, "named by you"),
        }
    }
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inactive => write!(f, "inactive"),
            Self::Draining => write!(f, "draining"),
            Self::NoAddress => write!(f, "no usable address"),
            Self::OtherIngressPort => write!(f, "other ingress port"),
            Self::Denied => write!(f, "denied by you"),
            Self::NotForName => write!(f, "not allowed by the name's owner"),
            Self::InTrouble(left) => write!(f, "failed lately, tried again in {} s", left.as_secs() + 1),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
