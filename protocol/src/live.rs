//! Which relays carry a client's host now: the three-step rule of DESIGN §7 as a pure function.
//!
//! Chain first, then the client's own word, then the relays'. [`candidates`] weighs every relay the client lists,
//! [`decide`] turns the weights into an answer, and [`speaking`] finds the presences whose ACME claims count. Nothing
//! here asks anybody: what the feeds said comes in through [`Witness`].

mod feed;

pub use feed::{FeedEvent, Hearing, RelayFeed, Session};

use std::sync::Arc;

use crate::address::Address;
use crate::directory::{AddressPolicy, Directory, NameRecord, Relay};
use crate::instance::InstanceId;
use crate::merge::REMEMBERED;
use crate::presence::{Claims, Presence};
use crate::time::{UnixMillis, UnixSeconds};

/// What a relay's feed says about one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attachment {
    /// It takes visitors.
    Attached,
    /// It is there, but ends soon.
    Draining,
    /// The relay says it is not there.
    Absent,
    /// The feed is silent or not complete yet.
    Unknown,
}

/// What our own probe of a relay's ingress says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// It answers visitors, or was never probed.
    Serves,
    /// It failed, with hysteresis.
    Fails,
}

/// What the relays themselves say.
pub trait Witness {
    /// What `relay`'s feed says about this session.
    fn attachment(&self, relay: &Address, client: &Address, ins: &InstanceId) -> Attachment;

    /// Whether `relay` serves visitors as far as we can tell.
    fn probe(&self, relay: &Address) -> Probe {
        let _ = relay;
        Probe::Serves
    }
}

/// Step one: what the chain and the operator allow.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a> {
    /// The directory.
    pub directory: &'a Directory,
    /// The record of the name asked for; `None` for an account host, which has none.
    pub record: Option<&'a NameRecord>,
    /// Which relay addresses are used.
    pub policy: AddressPolicy,
    /// The zone's one ingress port.
    pub ingress_port: u16,
    /// Ledger time as far as it is known.
    pub now: UnixSeconds,
}

/// Why the chain rules a listed relay out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exclusion {
    /// No such relay is registered.
    Unregistered,
    /// Delisted, unbonding, or without a recent heartbeat.
    Inactive,
    /// None of its addresses may be used here.
    Address,
    /// Its ingress port is not the zone's.
    Port,
    /// The name's owner allows other relays only.
    NotAllowed,
}

/// How a listed relay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Ruled out on chain.
    Excluded(Exclusion),
    /// Eligible; this is what its feed says.
    Eligible(Attachment, Probe),
}

/// One relay that one instance of a client lists.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The relay's key.
    pub relay: Address,
    /// The instance that lists it.
    pub ins: InstanceId,
    /// Whether that instance's presence still holds.
    pub expired: bool,
    /// How it stands.
    pub standing: Standing,
}

/// What to answer for a host's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These relays, the client's preference first.
    Relays(Vec<Arc<Relay>>),
    /// None: everything the client lists is explicitly absent, or it lists nothing.
    NoData,
    /// We cannot know: the last presence ran out while no feed could be heard.
    ServFail,
}

/// What to believe about a client's ACME claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speaking<'a> {
    /// These unexpired presences count.
    Claims(Vec<&'a Claims>),
    /// The client says nothing now.
    Nothing,
    /// Every relay it lists is unknown: its newest word may have been missed.
    Unsure,
}

impl Chain<'_> {
    fn rules_out(&self, relay: &Address) -> Option<Exclusion> {
        let Some(known) = self.directory.relays.get(relay) else { return Some(Exclusion::Unregistered) };
        if !known.is_active(self.now, self.directory.heartbeat_ttl) {
            return Some(Exclusion::Inactive);
        }
        if known.addresses(self.policy).next().is_none() {
            return Some(Exclusion::Address);
        }
        if known.ingress_port != self.ingress_port {
            return Some(Exclusion::Port);
        }
        if self.record.is_some_and(|record| !record.allows(relay)) {
            return Some(Exclusion::NotAllowed);
        }
        None
    }
}

/// Weighs every relay that the given presences of one client list, in order of preference: all first choices, then
/// all second ones. Presences that ended more than an hour ago say nothing any more.
pub fn candidates<'a>(
    chain: &Chain<'_>,
    presences: impl IntoIterator<Item = &'a Arc<Presence>>,
    witness: &impl Witness,
    now: UnixMillis,
) -> Vec<Candidate> {
    let mut ranked: Vec<(usize, Candidate)> = Vec::new();
    for claims in presences.into_iter().map(|presence| presence.claims()) {
        if now >= claims.exp.millis().plus(REMEMBERED) {
            continue;
        }
        for (rank, relay) in claims.relays.iter().enumerate() {
            let standing = chain.rules_out(relay).map_or_else(
                || {
                    Standing::Eligible(
                        witness.attachment(relay, &claims.iss, &claims.ins),
                        witness.probe(relay),
                    )
                },
                Standing::Excluded,
            );
            let expired = claims.expired(now);
            ranked.push((rank, Candidate { relay: *relay, ins: claims.ins, expired, standing }));
        }
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Attached relays; else those that drain or fail our probe; else, when nobody can be heard, the unknown.
pub fn decide(directory: &Directory, candidates: &[Candidate]) -> Answer {
    let mut best: Vec<(Tier, &Address)> = Vec::new();
    for candidate in candidates.iter().filter(|candidate| !candidate.expired) {
        let Some(tier) = tier(candidate.standing) else { continue };
        match best.iter_mut().find(|(_, relay)| **relay == candidate.relay) {
            Some((known, _)) => *known = tier.min(*known),
            None => best.push((tier, &candidate.relay)),
        }
    }
    if let Some(top) = best.iter().map(|(tier, _)| *tier).min() {
        let of_top = best.iter().filter(|(tier, _)| *tier == top);
        return Answer::Relays(
            of_top.filter_map(|(_, relay)| directory.relays.get(*relay).cloned()).collect(),
        );
    }
    let lapsed = |candidate: &&Candidate| candidate.expired && attachment(candidate.standing).is_some();
    let unheard = |ins: InstanceId| {
        let mut of_instance = candidates.iter().filter(lapsed).filter(|candidate| candidate.ins == ins);
        of_instance.all(|candidate| attachment(candidate.standing) == Some(Attachment::Unknown))
    };
    if candidates.iter().filter(lapsed).any(|candidate| unheard(candidate.ins)) {
        return Answer::ServFail;
    }
    Answer::NoData
}

/// Which of these presences' ACME claims count, given the candidates that came of them.
pub fn speaking<'a>(
    presences: impl IntoIterator<Item = &'a Arc<Presence>>,
    candidates: &[Candidate],
    now: UnixMillis,
) -> Speaking<'a> {
    let mut eligible = candidates.iter().filter_map(|c| attachment(c.standing).map(|a| (c, a))).peekable();
    if eligible.peek().is_none() {
        return Speaking::Nothing;
    }
    if eligible.clone().all(|(_, attachment)| attachment == Attachment::Unknown) {
        return Speaking::Unsure;
    }
    let claims: Vec<&Claims> = presences
        .into_iter()
        .map(|presence| presence.claims())
        .filter(|claims| !claims.expired(now) && eligible.clone().any(|(c, _)| c.ins == claims.ins))
        .collect();
    if claims.is_empty() { Speaking::Nothing } else { Speaking::Claims(claims) }
}

/// Which relays are answered before which.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Attached,
    LastResort,
    Unknown,
}

fn tier(standing: Standing) -> Option<Tier> {
    match standing {
        Standing::Eligible(Attachment::Attached, Probe::Serves) => Some(Tier::Attached),
        Standing::Eligible(Attachment::Attached, Probe::Fails) => Some(Tier::LastResort),
        Standing::Eligible(Attachment::Draining, _) => Some(Tier::LastResort),
        Standing::Eligible(Attachment::Unknown, _) => Some(Tier::Unknown),
        Standing::Eligible(Attachment::Absent, _) | Standing::Excluded(_) => None,
    }
}

fn attachment(standing: Standing) -> Option<Attachment> {
    match standing {
        Standing::Eligible(attachment, _) => Some(attachment),
        Standing::Excluded(_) => None,
    }
}

#[cfg(test)]
mod tests;
