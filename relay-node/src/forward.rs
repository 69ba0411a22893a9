//! Visitors that reach a relay whose client has moved on, by an answer of DNS that is not fresh (DESIGN §9): their TLS
//! bytes are handed, unread, to a relay that the client's newest known presence lists, and where none of those can be
//! reached, to one that the zone's servers name ([`asked`]). One hop only.
//!
//! Both relays are known by the chain. This side dials when it must ([`lines`]); the other treats what arrives like a
//! visitor of its own ([`arrivals`]) and never hands it on. Never an open proxy: only hosts of clients that this relay
//! served within a day, only to relays, only to where visitors of that relay go.

pub mod arrivals;
pub mod asked;
pub mod lines;
pub mod served;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tunnler_protocol::HostName;
use tunnler_protocol::directory::{Directory, Relay as Record};
use tunnler_protocol::presence::{Presence, ServiceKind};
use tunnler_protocol::stream::StreamHeader;
use tunnler_transport::RelayTarget;

use crate::clock;
use crate::ingress::greet;
use crate::ingress::visitor::{Alert, Arrival, Visitor};
use crate::limits::shares::Origin;
use crate::places::Seated;
use crate::relay::Shared;
use crate::route::Wanted;

/// Relays tried for one visitor, of those that the presence lists and again of those that DNS names.
const MOST_TRIES: usize = 2;
/// How long a visitor waits for a line to one of them, and then for what it says.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a visitor waits in all.
const PATIENCE_IN_ALL: Duration = Duration::from_secs(10);

/// A stream to another relay that may serve `wanted` and has heard `hello`; `None` when the visitor was handed over before,
/// the client was not served here lately, or there is no such relay.
pub async fn hand_over<T: Arrival>(
    shared: &Arc<Shared>,
    visitor: &Visitor<T>,
    wanted: &Wanted,
    host: HostName,
    hello: &[u8],
) -> Option<Seated> {
    if visitor.forwarder.is_some() {
        return None;
    }
    let (presence, service) = shared.served.newest(wanted, clock::seconds())?;
    if service.kind != ServiceKind::Http {
        return None;
    }
    let mut header = visitor.header(host.clone(), service);
    header.forwarder = Some(shared.address);
    let handed = Handed { header, origin: visitor.origin(), hello };
    let handing = async {
        let listed = shared.listed_by(&presence);
        if let Some(stream) = handed.to_one_of(shared, &listed).await {
            metrics::counter!("tunnler_forwarded_total", "by" => "presence").increment(1);
            return Some(stream);
        }
        let addresses = shared.asked.addresses(&host, &shared.zone_servers()).await;
        let named = shared.named_by(&addresses, &listed);
        let stream = handed.to_one_of(shared, &named).await?;
        metrics::counter!("tunnler_forwarded_total", "by" => "dns").increment(1);
        Some(stream)
    };
    timeout(PATIENCE_IN_ALL, handing).await.ok().flatten()
}

/// A visitor on its way to another relay.
struct Handed<'a> {
    header: StreamHeader,
    origin: Origin,
    hello: &'a [u8],
}

impl Handed<'_> {
    /// A stream to the first of these relays that can be reached and does not refuse the visitor.
    async fn to_one_of(&self, shared: &Arc<Shared>, relays: &[RelayTarget]) -> Option<Seated> {
        for relay in relays {
            let Some(line) = timeout(PATIENCE, shared.line_to(relay)).await.ok().flatten() else { continue };
            let opened = line.open(&self.header, self.origin, CancellationToken::new()).await;
            let Ok(mut stream) = opened else { continue };
            let displaced = stream.displaced();
            let refused = async {
                if !greet(shared, &mut stream, self.hello).await {
                    return true;
                }
                // Who is silent for so long is waited for: the client may be far away.
                let first = timeout(PATIENCE, stream.peek(Alert::LENGTH)).await;
                first.is_ok_and(|first| first.map_or(true, Alert::is_refusal))
            };
            let refused = tokio::select! {
                refused = refused => refused,
                () = displaced.cancelled() => false,
            };
            // One that must give way goes nowhere else: its end is seen where it is carried.
            if !refused || displaced.is_cancelled() {
                return Some(stream);
            }
        }
        None
    }
}

impl Shared {
    /// The other relays that a presence lists and the chain knows as active, preferred first.
    fn listed_by(&self, presence: &Presence) -> Vec<RelayTarget> {
        let directory = self.directory.borrow();
        let Some(directory) = directory.as_deref() else { return vec![] };
        let records = presence.claims().relays.iter().filter_map(|relay| directory.relays.get(relay));
        let targets = records.filter_map(|record| self.target(directory, record));
        targets.take(MOST_TRIES).collect()
    }

    /// The other relays that the chain knows as active at these addresses and that were not `tried`, in the order of the
    /// addresses. What is no relay is nobody.
    fn named_by(&self, addresses: &[IpAddr], tried: &[RelayTarget]) -> Vec<RelayTarget> {
        let directory = self.directory.borrow();
        let Some(directory) = directory.as_deref() else { return vec![] };
        let mut named: Vec<RelayTarget> = Vec::new();
        for address in addresses {
            let records = directory.relays.values().filter(|record| {
                let known = tried.iter().chain(&named).any(|target| target.relay == record.address);
                !known && record.addresses(self.address_policy).any(|own| own == *address)
            });
            let targets: Vec<_> = records.filter_map(|record| self.target(directory, record)).collect();
            named.extend(targets);
        }
        named.truncate(MOST_TRIES);
        named
    }

    /// How to reach a relay, if it is another one that may carry visitors.
    fn target(&self, directory: &Directory, record: &Record) -> Option<RelayTarget> {
        let other = record.address != self.address;
        if !other || !record.is_active(clock::seconds(), directory.heartbeat_ttl) {
            return None;
        }
        let addresses: Vec<SocketAddr> =
            record.addresses(self.address_policy).map(|ip| (ip, record.control_port).into()).collect();
        let host = record.own_host(&directory.zone.zone);
        (!addresses.is_empty()).then_some(RelayTarget { relay: record.address, host, addresses })
    }

    /// Where the zone's servers answer.
    pub fn zone_servers(&self) -> Vec<SocketAddr> {
        let directory = self.directory.borrow();
        let addresses =
            directory.iter().flat_map(|directory| directory.zone.server_addresses(self.address_policy));
        addresses.map(|ip| SocketAddr::new(ip, self.dns_port)).collect()
    }

    /// Whether the chain knows `relay` as one that may carry visitors.
    pub fn is_active_relay(&self, relay: &tunnler_protocol::Address) -> bool {
        let directory = self.directory.borrow();
        directory.as_deref().is_some_and(|directory| {
            let record = directory.relays.get(relay);
            record.is_some_and(|record| record.is_active(clock::seconds(), directory.heartbeat_ttl))
        })
    }
}
