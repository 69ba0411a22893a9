//! Who is attached: sessions by client and instance, the presences they hold, and the feed that tells of both.
//!
//! One lock around everything, so that a feed's snapshot and the changes after it never disagree; nothing waits
//! while it is held. Generic over the connection, which is only chosen by load and closed.

mod subscribers;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tunnler_protocol::control::CloseCode;
use tunnler_protocol::feed::Message;
use tunnler_protocol::instance::{InstanceId, SessionId};
use tunnler_protocol::merge::{Merge, PresenceTable, Room, Source};
use tunnler_protocol::name::ServiceName;
use tunnler_protocol::presence::{Presence, Service};
use tunnler_protocol::{Address, UnixMillis, term};

use self::subscribers::Subscribers;
pub use self::subscribers::Subscription;
use crate::limits::shares::Origin;
use crate::places::Prospect;
use crate::route::Wanted;

/// One connection of a session.
pub trait Connection: Clone + Send + 'static {
    /// Streams in use, also those about to open.
    fn streams(&self) -> usize;
    /// What a visitor from there could expect of it.
    fn prospect(&self, origin: Origin) -> Prospect;
    /// Ends it in order.
    fn close(&self, code: CloseCode, text: &str);
}

/// Who attaches.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The client.
    pub client: Address,
    /// Which running copy of it.
    pub ins: InstanceId,
    /// Which process of that.
    pub session: SessionId,
}

/// Why a connection cannot attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As many sessions as this relay holds.
    Full,
    /// As many connections as one session may have.
    TooManyConnections,
}

/// Who serves a visitor, and under which presence.
pub struct Picked<C> {
    /// The connection with the most room for it.
    pub connection: C,
    /// What it is for.
    pub service: Service,
    /// What the client says of it.
    pub presence: Arc<Presence>,
}

/// Why a visitor reaches nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// No session serves what was asked for.
    Offline,
}

/// What a relay keeps of its sessions.
pub struct Sessions<C: Connection> {
    relay: Address,
    most_sessions: usize,
    most_connections: usize,
    state: Mutex<State<C>>,
}

struct State<C> {
    clients: HashMap<Address, Vec<Instance<C>>>,
    sessions: usize,
    presences: PresenceTable,
    /// Clients of whom a presence lets relays end TLS: few of many.
    in_term_mode: HashSet<Address>,
    subscribers: Subscribers,
    next_id: u64,
    turn: usize,
}

struct Instance<C> {
    ins: InstanceId,
    session: SessionId,
    services: Vec<ServiceName>,
    connections: Vec<(u64, C)>,
    told: Told,
}

/// What the feed was last told of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Attached,
    Draining,
}

/// A connection's place in the table; dropping it detaches the connection, and nobody else's.
pub struct Attachment<C: Connection> {
    sessions: Arc<Sessions<C>>,
    identity: Identity,
    id: u64,
}

impl<C: Connection> Sessions<C> {
    /// An empty table of the relay with this address.
    pub fn new(relay: Address, most_sessions: usize, most_connections: usize) -> Arc<Self> {
        let state = State {
            clients: HashMap::new(),
            sessions: 0,
            presences: PresenceTable::new(),
            in_term_mode: HashSet::new(),
            subscribers: Subscribers::default(),
            next_id: 0,
            turn: 0,
        };
        Arc::new(Self { relay, most_sessions, most_connections, state: Mutex::new(state) })
    }

    /// Adds a connection. One with the same session joins it; another session of the same instance replaces it.
    pub fn attach(
        self: &Arc<Self>,
        identity: Identity,
        services: Vec<ServiceName>,
        connection: C,
        now: UnixMillis,
    ) -> Result<Attachment<C>, Refusal> {
        let mut state = self.lock();
        let id = state.next_id;
        let instances = state.clients.entry(identity.client).or_default();
        let superseded = match instances.iter_mut().find(|instance| instance.ins == identity.ins) {
            Some(instance) if instance.session == identity.session => {
                if instance.connections.len() >= self.most_connections {
                    return Err(Refusal::TooManyConnections);
                }
                instance.connections.push((id, connection));
                instance.services = services;
                vec![]
            }
            Some(instance) => {
                instance.session = identity.session;
                instance.services = services;
                // Told anew: the newer session takes visitors even if the older one was leaving.
                instance.told = Told::Nothing;
                std::mem::replace(&mut instance.connections, vec![(id, connection)])
            }
            None => {
                let instance = Instance {
                    ins: identity.ins,
                    session: identity.session,
                    services,
                    connections: vec![(id, connection)],
                    told: Told::Nothing,
                };
                instances.push(instance);
                if state.sessions >= self.most_sessions {
                    state.clients.get_mut(&identity.client).expect("just there").pop();
                    state.clients.retain(|_, instances| !instances.is_empty());
                    return Err(Refusal::Full);
                }
                state.sessions += 1;
                vec![]
            }
        };
        state.next_id += 1;
        state.announce(&identity, now);
        drop(state);
        for (_, connection) in superseded {
            connection.close(CloseCode::Superseded, "another process of this instance logged in");
        }
        Ok(Attachment { sessions: self.clone(), identity, id })
    }

    /// Takes a verified presence; tells the feed if it is news.
    pub fn offer(&self, presence: Arc<Presence>, now: UnixMillis) -> Merge {
        let mut state = self.lock();
        let room = Room::Bounded(self.most_sessions.saturating_mul(2));
        let merge = state.presences.offer(presence.clone(), Source::Relay(self.relay), room, now);
        if merge == Merge::Newer {
            let claims = presence.claims();
            if is_in_term_mode(&presence) {
                state.in_term_mode.insert(claims.iss);
            }
            state.subscribers.tell(&Message::Presence { presence: presence.text().to_string() });
            let identity = state.identity(claims.iss, claims.ins);
            if let Some(identity) = identity {
                state.announce(&identity, now);
            }
        }
        merge
    }

    /// The newest presence of an instance.
    pub fn presence(&self, client: &Address, ins: &InstanceId) -> Option<Arc<Presence>> {
        self.lock().presence(client, ins).cloned()
    }

    /// The instance takes no more visitors if there is any other.
    pub fn leave(&self, identity: &Identity) {
        self.lock().tell(identity, Told::Draining);
    }

    /// Picks a connection for a visitor from `origin`, with the service it is for: instances that have room take turns,
    /// their connection with the most room serves. Instances that are leaving come last.
    pub fn pick(&self, wanted: &Wanted, origin: Origin, now: UnixMillis) -> Result<Picked<C>, Unreachable> {
        let mut state = self.lock();
        state.turn = state.turn.wrapping_add(1);
        let turn = state.turn;
        let state = &*state;
        let instances = state.clients.get(&wanted.client).map_or(&[][..], Vec::as_slice);
        let serves = |instance: &&Instance<C>| {
            let presence = state.presence(&wanted.client, &instance.ins)?;
            let service = wanted.service(presence.claims(), &self.relay)?;
            let granted = instance.services.contains(&service.name) && !presence.claims().expired(now);
            granted.then(|| (service.clone(), presence.clone()))
        };
        let mut able: Vec<_> = instances.iter().filter_map(|i| serves(&i).map(|found| (i, found))).collect();
        if able.iter().any(|(instance, _)| instance.told != Told::Draining) {
            able.retain(|(instance, _)| instance.told != Told::Draining);
        }
        let best = |(instance, found): (&Instance<C>, _)| {
            let offers =
                instance.connections.iter().map(|(_, connection)| (connection.prospect(origin), connection));
            offers
                .min_by_key(|(offer, _)| *offer)
                .map(|(offer, connection)| (offer, connection.clone(), found))
        };
        let mut offers: Vec<_> = able.into_iter().filter_map(best).collect();
        let kind = offers.iter().map(|(offer, ..)| *offer).min().ok_or(Unreachable::Offline)?.kind();
        offers.retain(|(offer, ..)| offer.kind() == kind);
        let (_, connection, (service, presence)) = offers.swap_remove(turn % offers.len());
        Ok(Picked { connection, service, presence })
    }

    /// The presences that hold now of those attached, as far as they let relays end TLS.
    pub fn ended_by_relays(&self, now: UnixMillis) -> Vec<Arc<Presence>> {
        let State { clients, presences, in_term_mode, .. } = &mut *self.lock();
        in_term_mode.retain(|client| presences.client(client).any(|presence| is_in_term_mode(presence)));
        let holds = |presence: &&Arc<Presence>| {
            let claims = presence.claims();
            let instances = clients.get(&claims.iss).map_or(&[][..], Vec::as_slice);
            let attached = instances.iter().any(|instance| instance.ins == claims.ins);
            attached && !claims.expired(now) && is_in_term_mode(presence)
        };
        in_term_mode.iter().flat_map(|client| presences.client(client)).filter(holds).cloned().collect()
    }

    /// One connection of each instance of a client.
    pub fn lines(&self, client: &Address) -> Vec<C> {
        let state = self.lock();
        let instances = state.clients.get(client).into_iter().flatten();
        instances.filter_map(|instance| instance.connections.first()).map(|(_, line)| line.clone()).collect()
    }

    /// Everything there is to know, and what changes from then on.
    pub fn subscribe(&self) -> Subscription {
        let mut state = self.lock();
        let presences = state.presences.iter().map(|p| Message::Presence { presence: p.text().to_string() });
        let attached = state.clients.iter().flat_map(|(client, instances)| {
            instances.iter().filter_map(|instance| instance.told.message(*client, instance.ins))
        });
        let snapshot: Vec<_> = presences.chain(attached).map(|message| message.to_text().into()).collect();
        state.subscribers.add(snapshot)
    }

    /// Sessions now.
    pub fn count(&self) -> usize {
        self.lock().sessions
    }

    /// Who is attached now, with the number of connections and streams.
    pub fn list(&self) -> Vec<(Identity, usize, usize)> {
        let state = self.lock();
        let all =
            state.clients.iter().flat_map(|(client, instances)| instances.iter().map(move |i| (client, i)));
        all.map(|(client, instance)| {
            let identity = Identity { client: *client, ins: instance.ins, session: instance.session };
            let streams = instance.connections.iter().map(|(_, connection)| connection.streams()).sum();
            (identity, instance.connections.len(), streams)
        })
        .collect()
    }

    /// Every connection, after the feed was told that all of them drain.
    pub fn drain(&self) -> Vec<C> {
        let mut state = self.lock();
        let all: Vec<_> = state.identities().collect();
        for identity in &all {
            state.tell(identity, Told::Draining);
        }
        state
            .clients
            .values()
            .flatten()
            .flat_map(|instance| &instance.connections)
            .map(|(_, c)| c.clone())
            .collect()
    }

    /// Forgets presences that can no longer matter.
    pub fn sweep(&self, now: UnixMillis) {
        self.lock().presences.sweep(now);
    }

    fn detach(&self, identity: &Identity, id: u64) {
        let mut state = self.lock();
        let Some(instances) = state.clients.get_mut(&identity.client) else { return };
        let Some(at) = instances.iter().position(|instance| instance.ins == identity.ins) else { return };
        let instance = &mut instances[at];
        instance.connections.retain(|(known, _)| *known != id);
        if !instance.connections.is_empty() {
            return;
        }
        let told = instances.swap_remove(at).told;
        if instances.is_empty() {
            state.clients.remove(&identity.client);
        }
        state.sessions -= 1;
        if told != Told::Nothing {
            state.subscribers.tell(&Message::Detached { client: identity.client, ins: identity.ins });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_in_term_mode(presence: &Presence) -> bool {
    presence.claims().services.iter().any(term::is_ended_by_relays)
}

impl<C> State<C> {
    fn presence(&self, client: &Address, ins: &InstanceId) -> Option<&Arc<Presence>> {
        self.presences.client(client).find(|presence| presence.claims().ins == *ins)
    }

    fn instance(&mut self, identity: &Identity) -> Option<&mut Instance<C>> {
        let instances = self.clients.get_mut(&identity.client)?;
        instances.iter_mut().find(|i| i.ins == identity.ins && i.session == identity.session)
    }

    fn identity(&self, client: Address, ins: InstanceId) -> Option<Identity> {
        let instance = self.clients.get(&client)?.iter().find(|instance| instance.ins == ins)?;
        Some(Identity { client, ins, session: instance.session })
    }

    fn identities(&self) -> impl Iterator<Item = Identity> {
        self.clients.iter().flat_map(|(client, instances)| {
            instances.iter().map(|i| Identity { client: *client, ins: i.ins, session: i.session })
        })
    }

    /// An instance is told of once it has a presence: before that it takes no visitors.
    fn announce(&mut self, identity: &Identity, now: UnixMillis) {
        let live = self.presence(&identity.client, &identity.ins).is_some_and(|p| !p.claims().expired(now));
        if live && self.instance(identity).is_some_and(|instance| instance.told == Told::Nothing) {
            self.tell(identity, Told::Attached);
        }
    }

    fn tell(&mut self, identity: &Identity, what: Told) {
        let Some(instance) = self.instance(identity) else { return };
        if instance.told == what {
            return;
        }
        instance.told = what;
        if let Some(message) = what.message(identity.client, identity.ins) {
            self.subscribers.tell(&message);
        }
    }
}

impl Told {
    fn message(self, client: Address, ins: InstanceId) -> Option<Message> {
        match self {
            Self::Nothing => None,
            Self::Attached => Some(Message::Attached { client, ins }),
            Self::Draining => Some(Message::Draining { client, ins }),
        }
    }
}

impl<C: Connection> Attachment<C> {
    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The services of a renewed token.
    pub fn set_services(&self, services: Vec<ServiceName>) {
        if let Some(instance) = self.sessions.lock().instance(&self.identity) {
            instance.services = services;
        }
    }
}

impl<C: Connection> Drop for Attachment<C> {
    fn drop(&mut self) {
        self.sessions.detach(&self.identity, self.id);
    }
}

#[cfg(test)]
mod tests;
