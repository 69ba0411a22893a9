//! The clients that let this relay end TLS, as the issuer sees them: for which hosts, and how to ask them for a value.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tunnler_protocol::control::{AcmeValue, ToClient};
use tunnler_protocol::{Address, HostName, term};

use crate::relay::Shared;
use crate::session::Line;
use crate::{clock, route};

/// Most hosts of one client that this relay gets certificates for.
const MAX_HOSTS: usize = 16;

/// Looks at the clients of a relay without owning it.
#[derive(Clone)]
pub struct Clients(Arc<Shared>);

impl Clients {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Every host that is live here now with its TLS ended here, and whose it is. What visitors ask for has no
    /// influence.
    pub fn hosts(&self) -> BTreeMap<HostName, Address> {
        let now = clock::seconds();
        let mut hosts = BTreeMap::new();
        let presences = self.0.sessions.ended_by_relays(clock::millis());
        let directory = self.0.directory.borrow();
        let Some(directory) = directory.as_deref() else { return hosts };
        let mut of_client: BTreeMap<Address, usize> = BTreeMap::new();
        for presence in presences {
            let claims = presence.claims();
            let live = |host: &HostName| {
                let wanted = route::wanted(directory, &self.0.address, host, now)?;
                wanted.service(claims, &self.0.address).filter(|service| term::is_ended_by_relays(service))
            };
            for host in term::hosts(&directory.zone.zone, claims.iss, &claims.names, &claims.services) {
                if hosts.contains_key(&host) || live(&host).is_none() {
                    continue;
                }
                let count = of_client.entry(claims.iss).or_default();
                if *count < MAX_HOSTS {
                    *count += 1;
                    hosts.insert(host, claims.iss);
                }
            }
        }
        hosts
    }

    /// Returns when [`Clients::hosts`] may have changed by what a client did.
    pub async fn changed(&self) {
        self.0.term.changed.notified().await;
    }

    /// Asks `client` to show a value; what it thinks of it shows in DNS.
    pub fn ask(&self, client: &Address, value: &AcmeValue) {
        for Line { session, .. } in self.0.sessions.lines(client) {
            session.send(&ToClient::AcmeValue(value.clone()));
        }
    }

    /// Where the zone's servers answer.
    pub fn zone_servers(&self) -> Vec<SocketAddr> {
        self.0.zone_servers()
    }
}
