//! `ADDRESS.relay.ZONE`: a relay's own host. From the contract alone, so that it is there before any feed is.

use std::net::IpAddr;

use hickory_proto::rr::RecordType;
use tunnler_protocol::address::Address;

use super::caa::{self, Method, Wildcard};
use super::{Found, Lookup, apex, ttl};

pub(super) fn find(lookup: &Lookup<'_>, relay: &Address, wanted: RecordType) -> Found {
    let directory = &lookup.zone.directory;
    let Some(relay) = directory.relays.get(relay) else { return Found::NoSuchName };
    if !relay.is_active(lookup.chain_time(), directory.heartbeat_ttl) {
        return Found::Nothing;
    }
    match wanted {
        RecordType::A | RecordType::AAAA => {
            let addresses: Vec<IpAddr> = relay.addresses(lookup.snapshot.terms.policy).collect();
            lookup.found(ttl::ADDRESS, apex::of_type(&addresses, wanted))
        }
        RecordType::CAA => {
            let account = relay.acme.as_ref().map(|account| (account, Wildcard::Deny));
            lookup.found(ttl::CAA, caa::allow(&directory.zone, account.as_slice(), Method::TlsAlpn01))
        }
        _ => Found::Nothing,
    }
}
