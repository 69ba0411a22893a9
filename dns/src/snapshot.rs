//! Everything an answer is made from, immutable and swapped whole: readers never wait and never see half a change.
//!
//! Clients lie in shards, so that an update clones what it touches and shares the rest.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tunnler_protocol::address::Address;
use tunnler_protocol::directory::AddressPolicy;
use tunnler_protocol::instance::InstanceId;
use tunnler_protocol::live::{Attachment, Hearing, Probe, Session, Witness};
use tunnler_protocol::presence::{Claims, Presence};
use tunnler_protocol::time::{UnixMillis, UnixSeconds};

use crate::dnssec::keys::ZoneKeys;
use crate::zone::{Gate, ZoneView};

const SHARDS: usize = 256;
/// Ledger time runs on by itself at most this long; a chain that is silent for longer stops the clock of heartbeats
/// and expiries, so that an outage of RPC servers withdraws nobody.
const LEDGER_RUNS_ON: Duration = Duration::from_secs(300);

/// What the operator decided, and what the network descriptor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Which relay addresses are answered and dialled.
    pub policy: AddressPolicy,
    /// The zone's one ingress port.
    pub ingress_port: u16,
    /// Names are answered from a directory at most this old.
    pub staleness: Duration,
    /// How many names may get their first certificates in a week.
    pub gate: Gate,
}

/// Whether what is known is enough to say that something is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Footing {
    /// Nothing is known of who is live: SERVFAIL for whatever depends on it.
    Unsynced,
    /// Still waiting for feeds, but knowing what was live before the restart.
    Restored,
    /// Directory complete, and each active relay's snapshot received or given up on.
    Synced,
}

/// One state of the world.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The operator's terms.
    pub terms: Terms,
    /// The directory with its indexes; `None` until the chain was read once.
    pub zone: Option<Arc<ZoneView>>,
    /// Whether absence can be told.
    pub footing: Footing,
    /// The zone's keys; none means that it is not signed.
    pub keys: Arc<ZoneKeys>,
    /// Seconds by which this host's clock was ahead of the newest ledger's close time when that arrived.
    pub clock_lead: i64,
    clients: Vec<Arc<HashMap<Address, Arc<Client>>>>,
    hearings: Arc<HashMap<Address, Hearing>>,
    failing: Arc<HashSet<Address>>,
}

/// One client: its presences, and the sessions that relays report of it.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Newest presence of each instance, greatest `seq` first.
    pub presences: Vec<Arc<Presence>>,
    /// Sessions at relays that the presences list.
    pub sessions: Vec<(Address, InstanceId, Session)>,
}

/// What a new snapshot does differently.
#[derive(Debug, Default)]
pub struct Changes {
    /// Clients to replace; `None` removes.
    pub clients: HashMap<Address, Option<Client>>,
    /// How far each relay's words carry, if that changed.
    pub hearings: Option<HashMap<Address, Hearing>>,
    /// Relays that fail our probe, if that changed.
    pub failing: Option<HashSet<Address>>,
    /// The zone's keys, if they changed.
    pub keys: Option<Arc<ZoneKeys>>,
    /// How far the clock leads the newest ledger, if there is a new one.
    pub clock_lead: Option<i64>,
}

impl Snapshot {
    /// The state of a server that knows nothing yet.
    pub fn empty(terms: Terms) -> Self {
        Self {
            terms,
            zone: None,
            footing: Footing::Unsynced,
            keys: Arc::default(),
            clock_lead: 0,
            clients: vec![Arc::default(); SHARDS],
            hearings: Arc::default(),
            failing: Arc::default(),
        }
    }

    /// This state with `changes`, sharing everything else.
    pub fn with(&self, zone: Option<Arc<ZoneView>>, footing: Footing, changes: Changes) -> Self {
        let mut next = Self { zone, footing, ..self.clone() };
        for (address, client) in changes.clients {
            let shard = Arc::make_mut(&mut next.clients[shard(&address)]);
            match client {
                Some(client) => shard.insert(address, Arc::new(client)),
                None => shard.remove(&address),
            };
        }
        if let Some(hearings) = changes.hearings {
            next.hearings = Arc::new(hearings);
        }
        if let Some(failing) = changes.failing {
            next.failing = Arc::new(failing);
        }
        if let Some(keys) = changes.keys {
            next.keys = keys;
        }
        if let Some(lead) = changes.clock_lead {
            next.clock_lead = lead;
        }
        next
    }

    /// One client.
    pub fn client(&self, address: &Address) -> Option<&Arc<Client>> {
        self.clients[shard(address)].get(address)
    }

    /// Whether a presence with these claims and this text would change nothing: the same or a newer one of its
    /// instance is known. Tells before its signature is paid for.
    pub fn knows(&self, claims: &Claims, text: &str) -> bool {
        let Some(client) = self.client(&claims.iss) else { return false };
        let mut presences = client.presences.iter();
        let known = presences.find(|presence| presence.claims().ins == claims.ins);
        known.is_some_and(|known| (known.claims().seq, &**known.text()) >= (claims.seq, text))
    }

    /// How many clients are known.
    pub fn clients(&self) -> usize {
        self.clients.iter().map(|shard| shard.len()).sum()
    }

    /// How far `relay`'s words carry.
    pub fn hearing(&self, relay: &Address) -> Hearing {
        self.hearings.get(relay).copied().unwrap_or(Hearing::Silent)
    }

    /// All feeds, for health and metrics.
    pub fn hearings(&self) -> &HashMap<Address, Hearing> {
        &self.hearings
    }

    /// Ledger time as far as it is known at `now`; `None` without a directory.
    pub fn chain_time(&self, now: UnixMillis) -> Option<UnixSeconds> {
        let closed_at = self.zone.as_ref()?.directory.ledger.closed_at;
        Some(now.seconds().min(closed_at.plus(LEDGER_RUNS_ON)))
    }

    /// Age of the directory's ledger at `now`.
    pub fn age(&self, now: UnixMillis) -> Option<Duration> {
        Some(now.seconds().since(self.zone.as_ref()?.directory.ledger.closed_at))
    }
}

/// What the relays say of one client, which was looked up once.
#[derive(Clone, Copy, Debug)]
pub struct Sessions<'a> {
    /// The state of the world.
    pub snapshot: &'a Snapshot,
    /// The client; every question is about its sessions.
    pub client: &'a Client,
}

impl Witness for Sessions<'_> {
    fn attachment(&self, relay: &Address, _: &Address, ins: &InstanceId) -> Attachment {
        let mut sessions = self.client.sessions.iter();
        let named = sessions.find(|(at, of, _)| at == relay && of == ins).map(|(_, _, session)| *session);
        self.snapshot.hearing(relay).attachment(named)
    }

    fn probe(&self, relay: &Address) -> Probe {
        if self.snapshot.failing.contains(relay) { Probe::Fails } else { Probe::Serves }
    }
}

fn shard(address: &Address) -> usize {
    usize::from(address.as_bytes()[0]) % SHARDS
}
