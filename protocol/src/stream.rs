//! The first bytes of every stream: a PROXY protocol v2 header with what the client needs to route the visitor
//! (DESIGN §6, "Streams"). The visitor's address in it is the relay's claim.

use std::net::SocketAddr;

use ppp::v2::{Addresses, Builder, Command, Header, ParseError, Protocol, Type, Version};

use crate::address::Address;
use crate::name::{HostName, ServiceName};
use crate::presence::ServiceKind;

/// Longest header in bytes.
pub const MAX_LEN: usize = 1024;
/// Length of the fixed part, after which the total length is known.
pub const FIXED_LEN: usize = 16;

const TLV_SERVICE: u8 = 0xE0;
const TLV_KIND: u8 = 0xE1;
const TLV_FORWARDER: u8 = 0xE2;
const TLV_PLAIN: u8 = 0xE3;

/// One visitor, as the relay announces it to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHeader {
    /// The visitor's address and port.
    pub visitor: SocketAddr,
    /// The address and port of the relay that the visitor reached.
    pub ingress: SocketAddr,
    /// The host the visitor asked for, if it named one.
    pub host: Option<HostName>,
    /// The service it is for.
    pub service: ServiceName,
    /// What it speaks.
    pub kind: ServiceKind,
    /// The relay that passed it on, if it is not the one the visitor reached.
    pub forwarder: Option<Address>,
    /// What follows the header.
    pub payload: Payload,
}

/// What a stream carries after its header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Payload {
    /// What the visitor sends, byte for byte.
    #[default]
    Untouched,
    /// HTTP/1.1 without TLS, which ended at the relay (term mode).
    Http1,
    /// HTTP/2 without TLS, which ended at the relay (term mode).
    Http2,
}

/// Bytes that are not a stream header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamHeaderError {
    /// More bytes are needed; `needed` is the total.
    #[error("incomplete stream header, {needed} bytes in all")]
    Incomplete {
        /// Total length in bytes, as far as it is known.
        needed: usize,
    },
    /// Not PROXY protocol v2, or longer than [`MAX_LEN`].
    #[error("not a PROXY protocol v2 header of at most 1024 bytes")]
    NotAHeader,
    /// A required TLV is missing, one comes twice, or one has an impossible value.
    #[error("stream header with a missing, repeated or malformed TLV")]
    Tlv,
}

impl StreamHeader {
    /// The bytes on the wire.
    ///
    /// # Panics
    /// Never for values of these types: host and service are bounded far below [`MAX_LEN`].
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self.kind {
            ServiceKind::Http => b"http".as_slice(),
            ServiceKind::Tcp => b"tcp",
            ServiceKind::Udp => b"udp",
        };
        // Mixed families (an IPv4 visitor cannot reach an IPv6 ingress) do not occur; IPv4 is mapped if they do.
        let (visitor, ingress) = same_family(self.visitor, self.ingress);
        let mut builder =
            Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, (visitor, ingress));
        if let Some(host) = &self.host {
            builder = builder.write_tlv(Type::Authority, host.as_str().as_bytes()).expect("short");
        }
        builder = builder.write_tlv(TLV_SERVICE, self.service.as_str().as_bytes()).expect("short");
        builder = builder.write_tlv(TLV_KIND, kind).expect("short");
        if let Some(forwarder) = &self.forwarder {
            builder = builder.write_tlv(TLV_FORWARDER, forwarder.as_bytes()).expect("short");
        }
        let plain: Option<&[u8]> = match self.payload {
            Payload::Untouched => None,
            Payload::Http1 => Some(b"http/1.1"),
            Payload::Http2 => Some(b"h2"),
        };
        if let Some(protocol) = plain {
            builder = builder.write_tlv(TLV_PLAIN, protocol).expect("short");
        }
        builder.build().expect("a stream header is far below 64 KiB")
    }

    /// What an upstream that speaks PROXY protocol v2 is told: both addresses, nothing of this network.
    ///
    /// # Panics
    /// Never: an address pair always fits.
    pub fn announcement(&self) -> Vec<u8> {
        let addresses = same_family(self.visitor, self.ingress);
        let builder = Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, addresses);
        builder.build().expect("an address pair is short")
    }

    /// Reads a header from the beginning of `bytes`; returns it with its length.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), StreamHeaderError> {
        if bytes.len() >= FIXED_LEN {
            let needed = FIXED_LEN + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
            if needed > MAX_LEN {
                return Err(StreamHeaderError::NotAHeader);
            }
            if bytes.len() < needed {
                return Err(StreamHeaderError::Incomplete { needed });
            }
        }
        let header = Header::try_from(bytes).map_err(|error| match error {
            ParseError::Incomplete(_) | ParseError::Partial(..) => {
                StreamHeaderError::Incomplete { needed: FIXED_LEN }
            }
            _ => StreamHeaderError::NotAHeader,
        })?;
        let (visitor, ingress) = match header.addresses {
            Addresses::IPv4(a) => (
                SocketAddr::from((a.source_address, a.source_port)),
                SocketAddr::from((a.destination_address, a.destination_port)),
            ),
            Addresses::IPv6(a) => (
                SocketAddr::from((a.source_address, a.source_port)),
                SocketAddr::from((a.destination_address, a.destination_port)),
            ),
            _ => return Err(StreamHeaderError::NotAHeader),
        };
        let (mut host, mut service, mut kind, mut forwarder) = (None, None, None, None);
        let mut payload = None;
        for tlv in header.tlvs() {
            let tlv = tlv.map_err(|_| StreamHeaderError::Tlv)?;
            let value = tlv.value.as_ref();
            match tlv.kind {
                k if k == u8::from(Type::Authority) => once(&mut host, parse(value)?)?,
                TLV_SERVICE => once(&mut service, parse(value)?)?,
                TLV_KIND => once(&mut kind, parse_kind(value)?)?,
                TLV_FORWARDER => {
                    let key = value.try_into().map_err(|_| StreamHeaderError::Tlv)?;
                    once(&mut forwarder, Address::from_bytes(key).map_err(|_| StreamHeaderError::Tlv)?)?;
                }
                TLV_PLAIN => once(&mut payload, parse_payload(value)?)?,
                _ => {}
            }
        }
        let service = service.ok_or(StreamHeaderError::Tlv)?;
        let kind = kind.ok_or(StreamHeaderError::Tlv)?;
        let payload = payload.unwrap_or_default();
        Ok((Self { visitor, ingress, host, service, kind, forwarder, payload }, header.len()))
    }
}

/// A TLV that comes twice means two things: neither is believed.
fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), StreamHeaderError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(StreamHeaderError::Tlv),
    }
}

fn parse_payload(value: &[u8]) -> Result<Payload, StreamHeaderError> {
    match value {
        b"http/1.1" => Ok(Payload::Http1),
        b"h2" => Ok(Payload::Http2),
        // Of a later version: read as anything else it would be misunderstood.
        _ => Err(StreamHeaderError::Tlv),
    }
}

fn same_family(visitor: SocketAddr, ingress: SocketAddr) -> (SocketAddr, SocketAddr) {
    if visitor.is_ipv4() == ingress.is_ipv4() {
        return (visitor, ingress);
    }
    let v6 = |a: SocketAddr| match a {
        SocketAddr::V4(v4) => SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())),
        v6 => v6,
    };
    (v6(visitor), v6(ingress))
}

fn parse<T: std::str::FromStr>(value: &[u8]) -> Result<T, StreamHeaderError> {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(StreamHeaderError::Tlv)
}

fn parse_kind(value: &[u8]) -> Result<ServiceKind, StreamHeaderError> {
    match value {
        b"http" => Ok(ServiceKind::Http),
        b"tcp" => Ok(ServiceKind::Tcp),
        b"udp" => Ok(ServiceKind::Udp),
        _ => Err(StreamHeaderError::Tlv),
    }
}
