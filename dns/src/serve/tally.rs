//! Counting answers by transport, type and outcome, with the counters made once: an answer costs one atomic addition.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use metrics::Counter;

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// A message of a stream: TCP or TLS.
    Stream,
}

const TRANSPORTS: [&str; 2] = ["udp", "stream"];
const TYPES: [&str; 13] =
    ["A", "AAAA", "ANY", "CAA", "CNAME", "DNSKEY", "DS", "HTTPS", "NS", "SOA", "SRV", "TXT", "other"];
const OUTCOMES: [&str; 8] =
    ["answer", "nodata", "nxdomain", "servfail", "refused", "formerr", "notimp", "other"];

/// All counters of answers.
#[derive(Debug)]
pub(super) struct Tally(Vec<Counter>);

impl Tally {
    pub(super) fn new() -> Self {
        let mut counters = Vec::with_capacity(TRANSPORTS.len() * TYPES.len() * OUTCOMES.len());
        for transport in TRANSPORTS {
            for wanted in TYPES {
                for outcome in OUTCOMES {
                    counters.push(metrics::counter!(
                        "tunnler_dns_answers_total",
                        "transport" => transport, "type" => wanted, "outcome" => outcome
                    ));
                }
            }
        }
        Self(counters)
    }

    /// Counts one answer; a packet that never became a query has no type.
    pub(super) fn count(
        &self,
        transport: Transport,
        wanted: Option<RecordType>,
        code: ResponseCode,
        records: usize,
    ) {
        let wanted = wanted.map_or(TYPES.len() - 1, index);
        let outcome = match (code, records) {
            (ResponseCode::NoError, 0) => 1,
            (ResponseCode::NoError, _) => 0,
            (ResponseCode::NXDomain, _) => 2,
            (ResponseCode::ServFail, _) => 3,
            (ResponseCode::Refused, _) => 4,
            (ResponseCode::FormErr, _) => 5,
            (ResponseCode::NotImp, _) => 6,
            _ => 7,
        };
        self.0[(transport as usize * TYPES.len() + wanted) * OUTCOMES.len() + outcome].increment(1);
    }
}

/// Where a type stands in [`TYPES`].
fn index(wanted: RecordType) -> usize {
    match wanted {
        RecordType::A => 0,
        RecordType::AAAA => 1,
        RecordType::ANY => 2,
        RecordType::CAA => 3,
        RecordType::CNAME => 4,
        RecordType::DNSKEY => 5,
        RecordType::DS => 6,
        RecordType::HTTPS => 7,
        RecordType::NS => 8,
        RecordType::SOA => 9,
        RecordType::SRV => 10,
        RecordType::TXT => 11,
        _ => 12,
    }
}
