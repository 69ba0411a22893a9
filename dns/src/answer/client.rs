//! Hosts of clients: where the chain, the client's presences and the relays agree (DESIGN §7, §8).

use std::sync::Arc;

use hickory_proto::rr::rdata::svcb::{Alpn, IpHint, SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, AAAA, HTTPS, SRV, TXT};
use hickory_proto::rr::{Name, RData, RecordType};
use tunnler_protocol::address::Address;
use tunnler_protocol::directory::{AcmeIdentity, NameRecord, Relay};
use tunnler_protocol::live::{self, Answer, Candidate, Chain, Speaking, Standing};
use tunnler_protocol::merge::REMEMBERED;
use tunnler_protocol::name::{HostName, PublicName, ServiceName};
use tunnler_protocol::presence::{Claims, Presence, ServiceKind, TlsMode};
use tunnler_protocol::time::UnixSeconds;

use super::caa::{self, Method, Wildcard};
use super::{Found, Lookup, apex, select, ttl};
use crate::snapshot::{Footing, Sessions};
use crate::zone::{ClientHost, Holder};

/// Port of `https` URLs that name none; another one has to be said in the HTTPS record (RFC 9460, section 7.2).
const HTTPS_PORT: u16 = 443;

/// What is known about one host.
pub(super) struct Subject<'a> {
    /// Whose key serves it.
    pub client: Address,
    /// Its presences that list the host and the service, remembered ones included.
    pub presences: Vec<Arc<Presence>>,
    /// The relays those list, weighed.
    pub candidates: Vec<Candidate>,
    service: Option<&'a ServiceName>,
    /// The name as registered; `None` for an account's own host.
    pub record: Option<&'a NameRecord>,
}

/// Finds out whose host this is and what is known; `Err` is already the answer to every type.
pub(super) fn subject<'a>(lookup: &Lookup<'a>, host: &'a ClientHost) -> Result<Subject<'a>, Found> {
    let (snapshot, directory) = (lookup.snapshot, &lookup.zone.directory);
    let now = lookup.chain_time();
    let (client, record) = holder(lookup, &host.holder, now)?;
    let known = snapshot.client(&client).map(|client| Sessions { snapshot, client });
    let remembered = |claims: &Claims| lookup.moment.now < claims.exp.millis().plus(REMEMBERED);
    let lists = |claims: &Claims| match &host.holder {
        Holder::Name(label) => claims.names.contains(&PublicName::Label(label.clone())),
        Holder::Account(_) => true,
    };
    let of_client = known.map_or(&[][..], |known| known.client.presences.as_slice());
    let mut presences: Vec<_> = of_client
        .iter()
        .filter(|presence| remembered(presence.claims()) && lists(presence.claims()))
        .cloned()
        .collect();
    let Some(known) = known.filter(|_| !presences.is_empty()) else {
        // Whoever is still waiting for feeds cannot know that nobody serves this.
        return Err(if snapshot.footing == Footing::Synced { Found::Nothing } else { Found::Unknown });
    };
    presences.retain(|presence| presence.claims().service(host.service.as_ref()).is_some());
    if presences.is_empty() && host.service.is_some() {
        return Err(Found::NoSuchName);
    }
    let chain = Chain {
        directory,
        record,
        policy: snapshot.terms.policy,
        ingress_port: snapshot.terms.ingress_port,
        now,
    };
    let candidates = live::candidates(&chain, &presences, &known, lookup.moment.now);
    Ok(Subject { client, presences, candidates, service: host.service.as_ref(), record })
}

/// Whose key may serve the host, as the chain has it.
fn holder<'a>(
    lookup: &Lookup<'a>,
    holder: &Holder,
    now: UnixSeconds,
) -> Result<(Address, Option<&'a NameRecord>), Found> {
    let directory = &lookup.zone.directory;
    match holder {
        Holder::Name(label) => {
            let record = directory.names.get(label).ok_or(Found::NoSuchName)?;
            if now >= record.expires_at.plus(record.grace) {
                return Err(Found::NoSuchName);
            }
            let target = record.live_target(now).ok_or(Found::Nothing)?;
            Ok((target, Some(record)))
        }
        // A label that is an address is never NXDOMAIN: its key needs no registration.
        Holder::Account(address) if lookup.zone.answers_account(address, now) => Ok((*address, None)),
        Holder::Account(_) => Err(Found::Nothing),
    }
}

impl Subject<'_> {
    /// The relays to answer.
    pub(super) fn live(&self, lookup: &Lookup<'_>) -> Answer {
        live::decide(&lookup.zone.directory, &self.candidates)
    }

    fn speaking(&self, lookup: &Lookup<'_>) -> Speaking<'_> {
        live::speaking(&self.presences, &self.candidates, lookup.moment.now)
    }

    /// Claims that hold now, whoever was heard.
    fn current<'s>(&'s self, lookup: &Lookup<'_>) -> impl Iterator<Item = &'s Claims> {
        let now = lookup.moment.now;
        self.presences.iter().map(|presence| presence.claims()).filter(move |claims| !claims.expired(now))
    }
}

pub(super) fn find(lookup: &Lookup<'_>, host: &ClientHost, wanted: RecordType) -> Found {
    let subject = match subject(lookup, host) {
        Ok(subject) => subject,
        Err(found) => return found,
    };
    match wanted {
        RecordType::A | RecordType::AAAA => match subject.live(lookup) {
            Answer::Relays(live) => lookup.found(ttl::ADDRESS, addresses(lookup, &live, wanted)),
            Answer::NoData => Found::Nothing,
            Answer::ServFail => Found::Unknown,
        },
        RecordType::HTTPS => match subject.live(lookup) {
            Answer::Relays(live) => lookup.found(ttl::ADDRESS, https(lookup, &subject, &live)),
            Answer::NoData => Found::Nothing,
            Answer::ServFail => Found::Unknown,
        },
        // Without records of its own the search climbs to the zone's denial.
        RecordType::CAA if !lookup.zone.admits(&host.holder, lookup.chain_time()) => Found::Nothing,
        RecordType::CAA => match subject.speaking(lookup) {
            Speaking::Claims(claims) => {
                let accounts = accounts(lookup, &subject, &claims);
                let records = caa::allow(&lookup.zone.directory.zone, &accounts, Method::Dns01);
                lookup.found(ttl::CAA, records)
            }
            Speaking::Nothing => Found::Nothing,
            Speaking::Unsure => Found::Unknown,
        },
        _ => Found::Nothing,
    }
}

/// `_acme-challenge.HOST`: what the client signed for exactly that host.
pub(super) fn find_challenge(
    lookup: &Lookup<'_>,
    host: &ClientHost,
    name: &HostName,
    wanted: RecordType,
) -> Found {
    let subject = match subject(lookup, host) {
        Ok(subject) => subject,
        // Below a host without data there is nothing.
        Err(Found::Nothing) => return Found::NoSuchName,
        Err(found) => return found,
    };
    let claims = match subject.speaking(lookup) {
        Speaking::Claims(claims) => claims,
        Speaking::Nothing => return Found::NoSuchName,
        Speaking::Unsure => return Found::Unknown,
    };
    let mut values: Vec<&String> =
        claims.iter().filter_map(|claims| claims.txt.get(name)).flatten().collect();
    values.sort_unstable();
    values.dedup();
    if values.is_empty() {
        return Found::NoSuchName;
    }
    match wanted {
        RecordType::TXT => {
            let records = values.into_iter().map(|value| RData::TXT(TXT::new(vec![value.clone()])));
            lookup.found(ttl::CHALLENGE, records.collect())
        }
        _ => Found::Nothing,
    }
}

/// `_tcp.HOST` exists where a TCP service lies below it.
pub(super) fn find_tcp(lookup: &Lookup<'_>, host: &ClientHost) -> Found {
    match subject(lookup, host) {
        Ok(subject) if tcp_ports(lookup, &subject).next().is_some() => Found::Nothing,
        Ok(_) | Err(Found::Nothing) => Found::NoSuchName,
        Err(found) => found,
    }
}

/// `_SERVICE._tcp.HOST` (RFC 2782): the one port on all relays.
pub(super) fn find_srv(
    lookup: &Lookup<'_>,
    host: &ClientHost,
    service: &ServiceName,
    target: &HostName,
    wanted: RecordType,
) -> Found {
    let subject = match subject(lookup, host) {
        Ok(subject) => subject,
        Err(Found::Nothing) => return Found::NoSuchName,
        Err(found) => return found,
    };
    let mut ports: Vec<u16> =
        tcp_ports(lookup, &subject).filter(|(name, _)| *name == service).map(|(_, port)| port).collect();
    ports.sort_unstable();
    ports.dedup();
    match (ports.is_empty(), wanted) {
        (true, _) => Found::NoSuchName,
        (false, RecordType::SRV) => {
            let target = apex::dns_name(target);
            let records = ports.into_iter().map(|port| RData::SRV(SRV::new(0, 0, port, target.clone())));
            lookup.found(ttl::ADDRESS, records.collect())
        }
        (false, _) => Found::Nothing,
    }
}

/// TCP services of the host that have settled on a port. `SERVICE.NAME` has at most its own.
fn tcp_ports<'s>(
    lookup: &Lookup<'_>,
    subject: &'s Subject<'_>,
) -> impl Iterator<Item = (&'s ServiceName, u16)> + use<'s> {
    let only = subject.service;
    let current: Vec<&Claims> = subject.current(lookup).collect();
    let services = current.into_iter().flat_map(|claims| &claims.services);
    services
        .filter(move |service| {
            service.kind == ServiceKind::Tcp && only.is_none_or(|only| *only == service.name)
        })
        .filter_map(|service| service.port.map(|port| (&service.name, port)))
}

fn addresses(lookup: &Lookup<'_>, live: &[Arc<Relay>], wanted: RecordType) -> Vec<RData> {
    let policy = lookup.snapshot.terms.policy;
    let of_family = |relay: &Relay| apex::of_type(&relay.addresses(policy).collect::<Vec<_>>(), wanted);
    let able: Vec<Arc<Relay>> = live.iter().filter(|relay| !of_family(relay).is_empty()).cloned().collect();
    let mut addresses: Vec<RData> =
        select::select(&able, policy).into_iter().flat_map(|relay| of_family(relay)).collect();
    if !addresses.is_empty() {
        let turns = lookup.moment.turn % addresses.len();
        addresses.rotate_left(turns);
    }
    addresses
}

/// The HTTPS record (RFC 9460): hints equal the addresses, and no `ech`, as nobody may read names but the client.
fn https(lookup: &Lookup<'_>, subject: &Subject<'_>, live: &[Arc<Relay>]) -> Vec<RData> {
    let mut services = subject.current(lookup).filter_map(|claims| claims.service(subject.service));
    if !services.all(|service| service.kind == ServiceKind::Http) {
        return Vec::new();
    }
    let mut parameters =
        vec![(SvcParamKey::Alpn, SvcParamValue::Alpn(Alpn(vec!["h2".into(), "http/1.1".into()])))];
    if lookup.snapshot.terms.ingress_port != HTTPS_PORT {
        parameters.push((SvcParamKey::Port, SvcParamValue::Port(lookup.snapshot.terms.ingress_port)));
    }
    let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
    for family in [RecordType::A, RecordType::AAAA] {
        for address in addresses(lookup, live, family) {
            match address {
                RData::A(a) => ipv4.push(A(a.0)),
                RData::AAAA(aaaa) => ipv6.push(AAAA(aaaa.0)),
                _ => {}
            }
        }
    }
    // A fixed order: only address answers turn, or every turn would need its own signature.
    ipv4.sort_unstable_by_key(|a| a.0);
    ipv6.sort_unstable_by_key(|aaaa| aaaa.0);
    if !ipv4.is_empty() {
        parameters.push((SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(ipv4))));
    }
    if !ipv6.is_empty() {
        parameters.push((SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(ipv6))));
    }
    vec![RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), parameters)))]
}

/// The ACME accounts the client signed, with what each may have. An account that a listed relay registered as its own
/// is that relay's: good for hosts whose TLS the relay ends, as long as the chain lets it carry the name.
fn accounts<'s>(
    lookup: &Lookup<'_>,
    subject: &Subject<'_>,
    claims: &[&'s Claims],
) -> Vec<(&'s AcmeIdentity, Wildcard)> {
    let term = claims
        .iter()
        .filter_map(|claims| claims.service(subject.service))
        .any(|service| service.tls == TlsMode::Term);
    let wildcard = if term { Wildcard::Deny } else { Wildcard::Allow };
    let mut accounts = Vec::new();
    for claims in claims {
        for account in &claims.acme {
            let relays = lookup.zone.directory.relays.values();
            let mut owners = relays.filter(|relay| {
                relay.acme.as_ref() == Some(account) && claims.relays.contains(&relay.address)
            });
            match owners.next() {
                None => accounts.push((account, wildcard)),
                Some(relay) if term && eligible(subject, &relay.address) => {
                    accounts.push((account, Wildcard::Deny))
                }
                Some(_) => {}
            }
        }
    }
    accounts
}

fn eligible(subject: &Subject<'_>, relay: &Address) -> bool {
    let of_relay = |candidate: &&Candidate| candidate.relay == *relay;
    subject.candidates.iter().find(of_relay).is_some_and(|c| matches!(c.standing, Standing::Eligible(..)))
}
