//! Answers and their encoding: never larger than allowed, and if too large, question, OPT and TC only.

use hickory_proto::op::{
    Edns as OptRecord, Message, MessageType, Metadata, OpCode, Query as Question, ResponseCode,
};
use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

use super::{Edns, Query};

/// Largest UDP answer: what crosses every path unfragmented (DNS flag day 2020).
const MAX_UDP: u16 = 1232;
/// Largest UDP answer to somebody without EDNS (RFC 1035, section 2.3.4).
const MAX_PLAIN: u16 = 512;
/// A spoofed query buys at most this many times its own bytes.
const AMPLIFICATION: usize = 10;

/// What is sent back, before encoding.
#[derive(Clone, Debug)]
pub struct Reply {
    id: u16,
    op_code: OpCode,
    recursion_desired: bool,
    checking_disabled: bool,
    question: Option<Question>,
    edns: Option<Edns>,
    /// Response code.
    pub code: ResponseCode,
    /// AA.
    pub authoritative: bool,
    /// Answer section.
    pub answers: Vec<Record>,
    /// Authority section.
    pub authorities: Vec<Record>,
    /// Additional section without OPT.
    pub additionals: Vec<Record>,
}

/// How large an encoded answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// One UDP datagram in answer to so many bytes.
    Udp {
        /// Length of the query.
        asked: usize,
    },
    /// A stream: what the length prefix can say.
    Stream,
}

impl Reply {
    /// The beginning of an authoritative answer to `query`.
    pub fn to(query: &Query) -> Self {
        Self { authoritative: true, ..Self::error(query, ResponseCode::NoError) }
    }

    /// An error that echoes the question.
    pub fn error(query: &Query, code: ResponseCode) -> Self {
        Self {
            id: query.id,
            op_code: OpCode::Query,
            recursion_desired: query.recursion_desired,
            checking_disabled: query.checking_disabled,
            question: Some(query.question.clone()),
            edns: query.edns,
            code,
            authoritative: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }

    /// An error to a message whose header alone was looked at; `flags` is its third byte.
    pub(super) fn bare(id: u16, flags: u8, code: ResponseCode) -> Self {
        Self {
            id,
            op_code: OpCode::from_u8(flags >> 3 & 0x0f),
            recursion_desired: flags & 1 != 0,
            checking_disabled: false,
            question: None,
            edns: None,
            code,
            authoritative: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }

    /// Whether the asker wants signatures.
    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::new(self.id, MessageType::Response, self.op_code);
        metadata.authoritative = self.authoritative;
        metadata.recursion_desired = self.recursion_desired;
        metadata.checking_disabled = self.checking_disabled;
        metadata.response_code = self.code;
        metadata
    }

    fn message(self) -> Message {
        let mut message = Message::new(self.id, MessageType::Response, self.op_code);
        message.metadata = self.metadata();
        message.edns = self.edns.map(|edns| {
            let mut opt = OptRecord::new();
            opt.set_max_payload(MAX_UDP).set_version(0).set_dnssec_ok(edns.dnssec_ok);
            opt
        });
        message.queries.extend(self.question);
        message.answers = self.answers;
        message.authorities = self.authorities;
        message.additionals = self.additionals;
        message
    }
}

impl Limit {
    fn bytes(self, edns: Option<Edns>) -> usize {
        match self {
            Self::Stream => usize::from(u16::MAX),
            Self::Udp { asked } => {
                let taken = edns.map_or(MAX_PLAIN, |edns| edns.payload.clamp(MAX_PLAIN, MAX_UDP));
                usize::from(taken).min(asked * AMPLIFICATION)
            }
        }
    }
}

/// Encodes `reply` within `limit`; what does not fit becomes a truncated answer that parses strictly.
pub fn encode(reply: Reply, limit: Limit) -> Vec<u8> {
    let most = limit.bytes(reply.edns);
    let mut message = reply.message();
    match write(&message) {
        Some(bytes) if bytes.len() <= most => bytes,
        whole => {
            // Additional data is never required: an answer without it is better than a second round trip.
            if !message.additionals.is_empty() && whole.is_some() {
                message.additionals.clear();
                if let Some(bytes) = write(&message).filter(|bytes| bytes.len() <= most) {
                    return bytes;
                }
            }
            write(&message.truncate()).unwrap_or_default()
        }
    }
}

/// The empty answer with TC that sends an asker over the rate limit to TCP.
pub fn truncated(query: &Query) -> Vec<u8> {
    write(&Reply::error(query, ResponseCode::NoError).message().truncate()).unwrap_or_default()
}

fn write(message: &Message) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(512);
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(u16::MAX);
    message.emit(&mut encoder).ok()?;
    (!bytes.is_empty()).then_some(bytes)
}
