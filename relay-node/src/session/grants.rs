//! What a session brings and what it is granted: its presence taken over, the names to follow, hosts, limits; and the
//! word to all sessions that the relay stops.

use std::sync::Arc;

use tunnler_protocol::UnixSeconds;
use tunnler_protocol::control::{AuthOk, Draining, Limits, PresenceOk, PresenceStale, ToClient};
use tunnler_protocol::merge::Merge;
use tunnler_protocol::name::{HostName, PublicName};
use tunnler_protocol::presence::Presence;
use tunnler_transport::relay::RelaySession;

use super::Line;
use crate::clock;
use crate::relay::Shared;
use crate::sessions::Identity;

impl Shared {
    /// Takes a verified presence of an attached client, unless a newer one is known.
    pub(super) fn take_presence(&self, presence: Arc<Presence>) -> Result<PresenceOk, PresenceStale> {
        let claims = presence.claims();
        let (client, ins, seq) = (claims.iss, claims.ins, claims.seq);
        match self.sessions.offer(presence.clone(), clock::millis()) {
            Merge::Newer | Merge::Known => {
                self.served.update(&presence);
                self.term.look_again();
                self.follow_names_of(&presence);
                Ok(PresenceOk { ins, seq })
            }
            Merge::Older | Merge::Ahead | Merge::Expired | Merge::Crowded => {
                let newest = self.sessions.presence(&client, &ins).map_or(seq, |newest| newest.claims().seq);
                Err(PresenceStale { seq: newest })
            }
        }
    }

    /// Has the chain reader follow the names that a presence lists.
    pub fn follow_names_of(&self, presence: &Presence) {
        let claims = presence.claims();
        let labels = claims.names.iter().filter_map(|name| match name {
            PublicName::Label(label) => Some(label.clone()),
            PublicName::Domain(_) => None,
        });
        self.names.set(&claims.iss, &claims.ins, labels.collect());
    }

    /// What every session is granted.
    pub fn announced(&self) -> Limits {
        let client = self.limits.per_client;
        Limits {
            streams: self.limits.streams,
            connections: self.limits.connections,
            visitors: u32::try_from(client.at_once).ok(),
            visits_per_second: Some(client.per_second),
            bytes_per_second: client.bytes_per_second,
        }
    }

    pub(super) fn auth_ok(&self, identity: &Identity, expires: UnixSeconds, limits: Limits) -> AuthOk {
        let presence = self.sessions.presence(&identity.client, &identity.ins);
        let endpoints = presence.map(|presence| self.endpoints(&presence)).unwrap_or_default();
        AuthOk { server_address: self.address, endpoints, ports: vec![], limits, expires }
    }

    /// Hosts at which a presence is routed now.
    fn endpoints(&self, presence: &Presence) -> Vec<HostName> {
        let claims = presence.claims();
        let directory = self.directory.borrow();
        let Some(directory) = directory.as_deref() else { return vec![] };
        let zone = &directory.zone.zone;
        let hosts =
            claims.names.iter().map(|name| zone.public_host(name)).chain([zone.account_host(&claims.iss)]);
        let now = clock::seconds();
        hosts
            .filter(|host| {
                crate::route::wanted(directory, &self.address, host, now)
                    .is_some_and(|wanted| wanted.service(claims, &self.address).is_some())
            })
            .collect()
    }

    /// Tells every client that this relay stops at `deadline`, and hands out their connections.
    pub fn begin_draining(&self, deadline: UnixSeconds) -> Vec<RelaySession> {
        self.draining.cancel();
        let lines = self.sessions.drain();
        for Line { session, .. } in &lines {
            session.send(&ToClient::Draining(Draining { deadline }));
        }
        lines.into_iter().map(|line| line.session).collect()
    }
}
