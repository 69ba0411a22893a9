//! Why an answer is what it is: for `tunnler-dns explain`, and in short as TXT at `_tunnler.HOST`. Tells only what DNS
//! and the public feeds tell anyway.

use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{Name, RData, RecordType};
use serde::Serialize;
use tunnler_protocol::address::Address;
use tunnler_protocol::instance::InstanceId;
use tunnler_protocol::live::{Answer, Attachment, Candidate, Exclusion, Hearing, Probe, Standing};
use tunnler_protocol::time::{UnixMillis, UnixSeconds};

use super::client::{self, Subject};
use super::{Found, Lookup, Moment, ttl};
use crate::snapshot::{Footing, Snapshot};
use crate::zone::{ClientHost, Holder, Node};

/// What is known about a name, and what follows.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The name asked for.
    pub name: String,
    /// The address answer in one sentence.
    pub verdict: String,
    /// Age of the chain's last word in seconds.
    pub ledger_age: Option<u64>,
    /// Whether absence can be told yet.
    pub synced: bool,
    /// The key that serves the host.
    pub client: Option<Address>,
    /// When the name expires.
    pub expires_at: Option<UnixSeconds>,
    /// From when on it may have certificates, if the zone admits so many new names a week and this one waits.
    pub waits_until: Option<UnixSeconds>,
    /// What the client said, newest first.
    pub presences: Vec<Said>,
    /// Relays the client lists, preferred first.
    pub relays: Vec<Weighed>,
}

/// One presence.
#[derive(Debug, Serialize)]
pub struct Said {
    /// Which running copy of the client.
    pub ins: InstanceId,
    /// When it was signed.
    pub seq: UnixMillis,
    /// When it ends.
    pub exp: UnixSeconds,
    /// Whether it is over.
    pub expired: bool,
}

/// One relay that a presence lists.
#[derive(Debug, Serialize)]
pub struct Weighed {
    /// The relay.
    pub relay: Address,
    /// Which running copy of the client lists it.
    pub ins: InstanceId,
    /// `attached`, `draining`, `absent`, `unknown`, or why the chain rules it out.
    pub standing: &'static str,
    /// How far the relay's feed can be believed.
    pub feed: Hearing,
    /// Whether our own probe of its ingress fails.
    pub probe_fails: bool,
}

/// Explains `name`; `None` when it is not in the zone.
pub fn explain(name: &Name, snapshot: &Snapshot, now: UnixMillis) -> Option<Explanation> {
    let mut explanation = Explanation {
        name: name.to_ascii(),
        verdict: String::new(),
        ledger_age: snapshot.age(now).map(|age| age.as_secs()),
        synced: snapshot.footing == Footing::Synced,
        client: None,
        expires_at: None,
        waits_until: None,
        presences: Vec::new(),
        relays: Vec::new(),
    };
    let Some(zone) = snapshot.zone.as_deref() else {
        explanation.verdict = "SERVFAIL: the chain has not been read yet".into();
        return Some(explanation);
    };
    let node = zone.locate(name)?;
    let lookup = Lookup { snapshot, zone, moment: Moment { now, turn: 0 }, owner: name };
    let Node::Client(host) = &node else {
        explanation.verdict = match lookup.find(&node, RecordType::A) {
            Found::NoSuchName => "NXDOMAIN: nothing like this can be registered".into(),
            _ => "from the contracts alone".into(),
        };
        return Some(explanation);
    };
    if !lookup.knows_who_is_live() {
        explanation.verdict = "SERVFAIL: not synced yet, or the chain's last word is too old".into();
        return Some(explanation);
    }
    if let Holder::Name(label) = &host.holder {
        explanation.waits_until = zone.waits_until(label).filter(|admitted| *admitted > lookup.chain_time());
    }
    match client::subject(&lookup, host) {
        Ok(subject) => describe(&mut explanation, &subject, &lookup),
        Err(Found::NoSuchName) => explanation.verdict = "NXDOMAIN: not registered, or no such service".into(),
        Err(Found::Unknown) => explanation.verdict = "SERVFAIL: still waiting for the relays' feeds".into(),
        Err(_) => {
            explanation.verdict =
                "NODATA: suspended, expired, without target, or no presence lists it".into();
        }
    }
    Some(explanation)
}

fn describe(explanation: &mut Explanation, subject: &Subject<'_>, lookup: &Lookup<'_>) {
    explanation.verdict = match subject.live(lookup) {
        Answer::Relays(relays) => format!("{} of the listed relays may be answered", relays.len()),
        Answer::NoData => "NODATA: no listed relay has it, or none is left".into(),
        Answer::ServFail => "SERVFAIL: the presence ran out while no feed could be heard".into(),
    };
    explanation.client = Some(subject.client);
    explanation.expires_at = subject.record.map(|record| record.expires_at);
    explanation.presences = subject
        .presences
        .iter()
        .map(|presence| presence.claims())
        .map(|claims| Said {
            ins: claims.ins,
            seq: claims.seq,
            exp: claims.exp,
            expired: claims.expired(lookup.moment.now),
        })
        .collect();
    explanation.relays = subject
        .candidates
        .iter()
        .map(|candidate| Weighed {
            relay: candidate.relay,
            ins: candidate.ins,
            standing: word(candidate),
            feed: lookup.snapshot.hearing(&candidate.relay),
            probe_fails: matches!(candidate.standing, Standing::Eligible(_, Probe::Fails)),
        })
        .collect();
}

/// TXT at `_tunnler.HOST`: one string per listed relay.
pub(super) fn find(lookup: &Lookup<'_>, host: &ClientHost, wanted: RecordType) -> Found {
    let subject = match client::subject(lookup, host) {
        Ok(subject) => subject,
        Err(Found::Nothing) => return Found::NoSuchName,
        Err(found) => return found,
    };
    if wanted != RecordType::TXT {
        return Found::Nothing;
    }
    let lines = subject.candidates.iter().take(8);
    let line = |candidate: &Candidate| format!("relay={} {}", candidate.relay, word(candidate));
    lookup.found(ttl::CHALLENGE, lines.map(|candidate| RData::TXT(TXT::new(vec![line(candidate)]))).collect())
}

fn word(candidate: &Candidate) -> &'static str {
    match candidate.standing {
        _ if candidate.expired => "expired",
        Standing::Eligible(Attachment::Attached, Probe::Fails) => "attached, not serving",
        Standing::Eligible(Attachment::Attached, Probe::Serves) => "attached",
        Standing::Eligible(Attachment::Draining, _) => "draining",
        Standing::Eligible(Attachment::Absent, _) => "absent",
        Standing::Eligible(Attachment::Unknown, _) => "unknown",
        Standing::Excluded(Exclusion::Unregistered) => "not registered",
        Standing::Excluded(Exclusion::Inactive) => "inactive",
        Standing::Excluded(Exclusion::Address) => "no usable address",
        Standing::Excluded(Exclusion::Port) => "another ingress port",
        Standing::Excluded(Exclusion::NotAllowed) => "not allowed by the owner",
    }
}
