//! Visitors that reach a relay whose client has moved on, by an answer of DNS that is not fresh (DESIGN §9): their TLS
//! bytes are handed, unread, to a relay that the client's newest known presence lists. One hop only.
//!
//! Both relays are known by the chain. This side dials when it must ([`lines`]); the other treats what arrives like a
//! visitor of its own ([`arrivals`]) and never hands it on. Never an open proxy: only hosts of clients that this relay
//! served within a day, only to relays, only to where visitors of that relay go.

pub mod arrivals;
pub mod lines;
pub mod served;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tunnler_protocol::HostName;
use tunnler_protocol::presence::{Presence, Service, ServiceKind};
use tunnler_transport::RelayTarget;

use crate::clock;
use crate::ingress::visitor::{Arrival, Visitor};
use crate::places::Seated;
use crate::relay::Shared;
use crate::route::Wanted;

/// Relays tried for one visitor.
const MOST_TRIES: usize = 2;
/// How long a visitor waits for a line to one of them.
const PATIENCE: Duration = Duration::from_secs(4);

/// A stream to another relay that may serve `wanted`; `None` when the visitor was handed over before, or there is no
/// such relay.
pub async fn hand_over<T: Arrival>(
    shared: &Arc<Shared>,
    visitor: &Visitor<T>,
    wanted: &Wanted,
    host: HostName,
) -> Option<Seated> {
    if visitor.forwarder.is_some() {
        return None;
    }
    let (presence, service) = shared.served.newest(wanted, clock::seconds())?;
    if service.kind != ServiceKind::Http {
        return None;
    }
    for target in shared.reachable(&presence) {
        let line = timeout(PATIENCE, shared.line_to(&target)).await.ok().flatten();
        if let Some(line) = line {
            let mut header = visitor.header(host.clone(), Service::clone(&service));
            header.forwarder = Some(shared.address);
            if let Ok(stream) = line.open(&header, visitor.origin(), CancellationToken::new()).await {
                metrics::counter!("tunnler_forwarded_total").increment(1);
                return Some(stream);
            }
        }
    }
    None
}

impl Shared {
    /// The other relays that a presence lists and the chain knows as active, preferred first.
    fn reachable(&self, presence: &Presence) -> Vec<RelayTarget> {
        let directory = self.directory.borrow();
        let Some(directory) = directory.as_deref() else { return vec![] };
        let now = clock::seconds();
        let others = presence.claims().relays.iter().filter(|relay| **relay != self.address);
        let records = others.filter_map(|relay| directory.relays.get(relay));
        let active = records.filter(|record| record.is_active(now, directory.heartbeat_ttl));
        let targets = active.map(|record| RelayTarget {
            relay: record.address,
            host: record.own_host(&directory.zone.zone),
            addresses: record
                .addresses(self.address_policy)
                .map(|ip| (ip, record.control_port).into())
                .collect(),
        });
        targets.filter(|target| !target.addresses.is_empty()).take(MOST_TRIES).collect()
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
