//! The answer to a query, as a pure function of the query, one snapshot and the time (DESIGN §8).
//!
//! [`answer`] finds the node and the record set; what each kind of node holds is in the modules below. Signs nothing
//! and knows no sockets.

mod apex;
mod caa;
mod client;
mod explain;
mod relay;
mod select;

pub use explain::{Explanation, explain};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::HINFO;
use hickory_proto::rr::{RData, Record, RecordType};
use tunnler_protocol::time::{UnixMillis, UnixSeconds};

use crate::dnssec::denial::Denial;
use crate::snapshot::{Footing, Snapshot};
use crate::wire::{Query, Reply};
use crate::zone::{Node, ZoneView};

/// TTLs in seconds. Negative answers live for the SOA minimum (RFC 2308, section 5).
mod ttl {
    pub const ADDRESS: u32 = 30;
    pub const CAA: u32 = 60;
    pub const CHALLENGE: u32 = 5;
    pub const INFRASTRUCTURE: u32 = 3600;
    pub const NEGATIVE: u32 = 10;
}

/// Every type that a node of the zone can hold, but those that DNSSEC adds.
const TYPES: [RecordType; 9] = [
    RecordType::A,
    RecordType::NS,
    RecordType::SOA,
    RecordType::TXT,
    RecordType::AAAA,
    RecordType::SRV,
    RecordType::DNSKEY,
    RecordType::HTTPS,
    RecordType::CAA,
];

/// What a node holds of one type.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// These records.
    Records(Vec<Record>),
    /// The node is there, without data of this type.
    Nothing,
    /// There is no such node.
    NoSuchName,
    /// It cannot be known now.
    Unknown,
}

/// Where and when a question is asked.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Wall clock.
    pub now: UnixMillis,
    /// Turns the order of equal addresses.
    pub turn: usize,
}

/// One lookup's surroundings.
#[derive(Clone, Copy)]
struct Lookup<'a> {
    snapshot: &'a Snapshot,
    zone: &'a ZoneView,
    moment: Moment,
    owner: &'a hickory_proto::rr::Name,
}

/// Answers one query.
pub fn answer(query: &Query, snapshot: &Snapshot, moment: Moment) -> Reply {
    let Some(zone) = snapshot.zone.as_deref() else { return Reply::error(query, ResponseCode::ServFail) };
    let owner = query.question.name();
    let Some(node) = zone.locate(owner) else { return Reply::error(query, ResponseCode::Refused) };
    let lookup = Lookup { snapshot, zone, moment, owner };
    let wanted = query.question.query_type();
    let mut reply = Reply::to(query);
    let denial = match lookup.find(&node, wanted) {
        Found::Records(records) => {
            if wanted == RecordType::NS {
                reply.additionals = apex::glue(zone);
            }
            reply.answers = records;
            return reply;
        }
        Found::Unknown => return Reply::error(query, ResponseCode::ServFail),
        Found::Nothing => Denial::NoData(lookup.types(&node)),
        Found::NoSuchName => Denial::NoSuchName,
    };
    if denial == Denial::NoSuchName && !lookup.denies_compactly(query) {
        reply.code = ResponseCode::NXDomain;
    }
    reply.authorities.push(apex::negative_soa(zone));
    if lookup.is_signed_for(query) {
        let Some(nsec) = denial.nsec(owner, ttl::NEGATIVE) else {
            return Reply::error(query, ResponseCode::ServFail);
        };
        reply.authorities.push(nsec);
    }
    reply
}

impl Lookup<'_> {
    fn find(&self, node: &Node, wanted: RecordType) -> Found {
        match wanted {
            RecordType::ANY => return self.find_any(node),
            RecordType::NSEC | RecordType::RRSIG if !self.snapshot.keys.is_empty() => {
                return self.find_nsec(node);
            }
            _ => {}
        }
        match node {
            Node::Apex => apex::find(self, wanted),
            Node::NonTerminal => Found::Nothing,
            Node::Server(addresses) => self.found(ttl::INFRASTRUCTURE, apex::of_type(addresses, wanted)),
            Node::Relay(relay) => relay::find(self, relay, wanted),
            Node::Nothing => Found::NoSuchName,
            _ if !self.knows_who_is_live() => Found::Unknown,
            Node::Client(host) => client::find(self, host, wanted),
            Node::Challenge(host, name) => client::find_challenge(self, host, name, wanted),
            Node::Tcp(host) => client::find_tcp(self, host),
            Node::TcpService(host, service, name) => client::find_srv(self, host, service, name, wanted),
            Node::Explanation(host) => explain::find(self, host, wanted),
        }
    }

    /// ANY gets one small record that says so (RFC 8482, section 4.2).
    fn find_any(&self, node: &Node) -> Found {
        match self.find(node, RecordType::HINFO) {
            Found::Nothing => {
                let hinfo = HINFO::new("RFC8482".into(), String::new());
                self.found(ttl::INFRASTRUCTURE, vec![RData::HINFO(hinfo)])
            }
            other => other,
        }
    }

    /// The NSEC of a node, also for RRSIG: one signature stands for all (RFC 8482, section 3).
    fn find_nsec(&self, node: &Node) -> Found {
        match self.find(node, RecordType::HINFO) {
            Found::Nothing => {
                let nsec = Denial::NoData(self.types(node)).nsec(self.owner, ttl::NEGATIVE);
                nsec.map_or(Found::Unknown, |nsec| Found::Records(vec![nsec]))
            }
            other => other,
        }
    }

    /// The types that a node holds now. What cannot be known counts as held: better not proven absent.
    fn types(&self, node: &Node) -> Vec<RecordType> {
        let held =
            |wanted: &RecordType| matches!(self.find(node, *wanted), Found::Records(_) | Found::Unknown);
        if self.snapshot.keys.is_empty() { Vec::new() } else { TYPES.into_iter().filter(held).collect() }
    }

    fn is_signed_for(&self, query: &Query) -> bool {
        !self.snapshot.keys.is_empty() && query.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// Whether a name that is not there is told as NOERROR with NXNAME: to validators, unless they ask for the code
    /// (RFC 9824, sections 3.1 and 5).
    fn denies_compactly(&self, query: &Query) -> bool {
        self.is_signed_for(query) && query.edns.is_some_and(|edns| !edns.compact_ok)
    }

    /// Whether names can be answered at all: something is known of who is live, and the chain's word is not too old.
    fn knows_who_is_live(&self) -> bool {
        self.snapshot.footing != Footing::Unsynced
            && self.snapshot.age(self.moment.now).is_some_and(|age| age <= self.snapshot.terms.staleness)
    }

    /// Ledger time as far as it is known.
    fn chain_time(&self) -> UnixSeconds {
        let time = self.snapshot.chain_time(self.moment.now);
        time.unwrap_or(self.zone.directory.ledger.closed_at)
    }

    /// Records of the queried name, or nothing.
    fn found(&self, ttl: u32, data: Vec<RData>) -> Found {
        if data.is_empty() {
            return Found::Nothing;
        }
        let record = |data| Record::from_rdata(self.owner.clone(), ttl, data);
        Found::Records(data.into_iter().map(record).collect())
    }
}

#[cfg(test)]
mod tests;
