//! From bytes to a query, or to the error RFC 8906 expects. The header is judged before anything is parsed.

use hickory_proto::op::{Edns as Opt, Header, Message, Metadata, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};
use hickory_server::zone_handler::Queries;

use super::Reply;
use crate::dnssec::denial::NXNAME;

const HEADER: usize = 12;
/// Most additional records a query needs: OPT, TSIG, and one to spare.
const MAX_ADDITIONAL: u16 = 3;

/// The "compact answers OK" flag of EDNS (RFC 9824, section 5), below DO.
const CO: u16 = 0x4000;

/// What a packet turned out to be.
#[derive(Debug)]
pub enum Received {
    /// Not worth an answer: no header, or an answer itself.
    Ignore,
    /// To be answered with an error alone.
    Refuse(Reply),
    /// A query.
    Query(Query),
}

/// One well-formed query of class IN.
#[derive(Clone, Debug)]
pub struct Query {
    /// Message id, echoed.
    pub id: u16,
    /// RD, echoed; there is no recursion.
    pub recursion_desired: bool,
    /// CD, echoed.
    pub checking_disabled: bool,
    /// The question with the case in which it was asked.
    pub question: Question,
    /// EDNS, if the asker speaks it.
    pub edns: Option<Edns>,
}

/// What the asker's OPT record says (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// Largest UDP payload it takes.
    pub payload: u16,
    /// DO: it wants signatures.
    pub dnssec_ok: bool,
    /// CO: it wants NXDOMAIN with compact denial (RFC 9824).
    pub compact_ok: bool,
}

/// Judges one message.
pub fn receive(packet: &[u8]) -> Received {
    if packet.len() < HEADER || packet[2] & 0x80 != 0 {
        return Received::Ignore;
    }
    let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let refuse = |code| Received::Refuse(Reply::bare(word(0), packet[2], code));
    match OpCode::from_u8(packet[2] >> 3 & 0x0f) {
        OpCode::Query => {}
        OpCode::Update | OpCode::Notify => return refuse(ResponseCode::Refused),
        _ => return refuse(ResponseCode::NotImp),
    }
    let [questions, answers, authorities, additionals] = [4, 6, 8, 10].map(word);
    // An IXFR carries its SOA in the authority section; nothing else does.
    if questions != 1 || answers != 0 || authorities > 1 || additionals > MAX_ADDITIONAL {
        return refuse(ResponseCode::FormErr);
    }
    let Ok((metadata, question, opt)) = read(packet) else { return refuse(ResponseCode::FormErr) };
    let Some(question) = question else { return refuse(ResponseCode::FormErr) };
    let edns = opt.as_ref().map(|edns| Edns {
        payload: edns.max_payload(),
        dnssec_ok: edns.flags().dnssec_ok,
        compact_ok: edns.flags().z & CO != 0,
    });
    let query = Query {
        id: metadata.id,
        recursion_desired: metadata.recursion_desired,
        checking_disabled: metadata.checking_disabled,
        question,
        edns,
    };
    let error = |code| Received::Refuse(Reply::error(&query, code));
    if opt.is_some_and(|edns| edns.version() != 0) {
        return error(ResponseCode::BADVERS);
    }
    if query.question.query_class != DNSClass::IN {
        return error(ResponseCode::Refused);
    }
    match query.question.query_type {
        RecordType::AXFR | RecordType::IXFR => error(ResponseCode::Refused),
        // Not data that can be asked for; for NXNAME see RFC 9824, section 3.5.
        RecordType::OPT | RecordType::TSIG | RecordType::ZERO | NXNAME => error(ResponseCode::FormErr),
        _ => Received::Query(query),
    }
}

/// Reads the whole packet, whose counts are known to be small; `None` for the question when bytes are left over.
fn read(packet: &[u8]) -> Result<(Metadata, Option<Question>, Option<Opt>), DecodeError> {
    let mut decoder = BinDecoder::new(packet);
    let Header { metadata, counts } = Header::read(&mut decoder)?;
    let queries = Queries::read(&mut decoder, counts.queries.into())?;
    Message::read_records(&mut decoder, counts.authorities.into(), false, metadata.op_code)?;
    let (_, opt, _) = Message::read_records(&mut decoder, counts.additionals.into(), true, metadata.op_code)?;
    let question = queries.queries().first().filter(|_| decoder.is_empty());
    Ok((metadata, question.map(|question| question.original().clone()), opt))
}
