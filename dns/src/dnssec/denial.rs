//! Compact denial of existence (RFC 9824): one NSEC at the queried name itself, so that nothing else of the zone shows.

use hickory_proto::dnssec::rdata::{DNSSECRData, NSEC};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// The meta type that says "this name does not exist" (RFC 9824, section 2).
pub const NXNAME: RecordType = RecordType::Unknown(128);

/// What a negative answer has to prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The name is there with just these types.
    NoData(Vec<RecordType>),
    /// There is no such name.
    NoSuchName,
}

impl Denial {
    /// The NSEC that proves it; `None` for a name so long that nothing can follow it.
    pub fn nsec(&self, owner: &Name, ttl: u32) -> Option<Record> {
        // Lower case, so that the case of the question buys no second signature.
        let next = owner.to_lowercase().prepend_label(&[0][..]).ok()?;
        let types = match self {
            Self::NoData(types) => types.clone(),
            Self::NoSuchName => vec![NXNAME],
        };
        let nsec = NSEC::new_cover_self(next, types);
        Some(Record::from_rdata(owner.clone(), ttl, RData::DNSSEC(DNSSECRData::NSEC(nsec))))
    }
}
