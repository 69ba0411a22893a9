//! The zone itself: SOA, NS with glue, and the CAA that denies everything not opened below.

use std::net::IpAddr;

use hickory_proto::rr::rdata::{NS, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tunnler_protocol::name::HostName;

use super::{Found, Lookup, caa, ttl};
use crate::zone::ZoneView;

/// Seconds; nobody transfers this zone, so only the minimum matters.
const REFRESH: i32 = 3600;
const RETRY: i32 = 600;
const EXPIRE: i32 = 604_800;

pub(super) fn find(lookup: &Lookup<'_>, wanted: RecordType) -> Found {
    let zone = lookup.zone;
    match wanted {
        RecordType::SOA => lookup.found(ttl::INFRASTRUCTURE, vec![RData::SOA(soa(zone))]),
        RecordType::NS => {
            let servers = zone.directory.zone.servers.iter();
            lookup.found(
                ttl::INFRASTRUCTURE,
                servers.map(|server| RData::NS(NS(dns_name(&server.host)))).collect(),
            )
        }
        RecordType::DNSKEY => {
            let keys = lookup.snapshot.keys.iter();
            lookup.found(ttl::INFRASTRUCTURE, keys.map(|key| RData::from(key.dnskey.clone())).collect())
        }
        RecordType::CAA => lookup.found(ttl::INFRASTRUCTURE, caa::deny_all()),
        _ => Found::Nothing,
    }
}

/// Addresses of the servers that lie inside the zone; others are found elsewhere.
pub(super) fn glue(zone: &ZoneView) -> Vec<Record> {
    let mut glue = Vec::new();
    for server in &zone.directory.zone.servers {
        let name = dns_name(&server.host);
        if zone.origin.zone_of(&name) {
            let addresses = [server.ipv4.map(IpAddr::V4), server.ipv6.map(IpAddr::V6)];
            let records = addresses.into_iter().flatten().map(RData::from);
            glue.extend(records.map(|data| Record::from_rdata(name.clone(), ttl::INFRASTRUCTURE, data)));
        }
    }
    glue
}

/// The SOA of a negative answer, whose TTL is the time the absence may be remembered.
pub(super) fn negative_soa(zone: &ZoneView) -> Record {
    Record::from_rdata(zone.origin.clone(), ttl::NEGATIVE, RData::SOA(soa(zone)))
}

/// The addresses of the wanted family.
pub(super) fn of_type(addresses: &[IpAddr], wanted: RecordType) -> Vec<RData> {
    let of_family = addresses.iter().filter(|address| match wanted {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        _ => false,
    });
    of_family.map(|address| RData::from(*address)).collect()
}

pub(super) fn dns_name(host: &HostName) -> Name {
    Name::from_ascii(format!("{host}.")).expect("a host name is a DNS name")
}

fn soa(zone: &ZoneView) -> SOA {
    let first = zone.directory.zone.servers.first();
    let primary = first.map_or_else(|| zone.origin.clone(), |server| dns_name(&server.host));
    let contact = zone.origin.prepend_label("hostmaster").unwrap_or_else(|_| zone.origin.clone());
    // Both revisions only grow, and every server of the zone sees the same ones.
    let serial = zone.directory.registry_revision.wrapping_add(zone.directory.namespace_revision) as u32;
    SOA::new(primary, contact, serial, REFRESH, RETRY, EXPIRE, ttl::NEGATIVE)
}
