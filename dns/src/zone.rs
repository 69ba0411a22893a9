//! The directory with the indexes answers need: who is vouched for by a paid name, where the zone's servers are, and
//! what a query name means. Built anew from each directory; decides nothing about liveness.

mod gate;

pub use gate::Gate;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::Name;
use tunnler_protocol::address::Address;
use tunnler_protocol::directory::{AccountHosts, Directory, ZoneServer};
use tunnler_protocol::name::{Host, HostName, Label, RELAY_LABEL, ServiceName};
use tunnler_protocol::time::UnixSeconds;

/// A directory, indexed.
#[derive(Debug)]
pub struct ZoneView {
    /// The directory itself.
    pub directory: Arc<Directory>,
    /// The zone as a DNS name.
    pub origin: Name,
    gate: Gate,
    vouched: Arc<Vouched>,
    /// From when on names may have certificates, if the gate makes them wait.
    waiting: Arc<HashMap<Label, UnixSeconds>>,
    servers: HashMap<HostName, Vec<IpAddr>>,
    /// Names that exist only because a zone server's host lies below them.
    non_terminals: HashSet<HostName>,
}

/// Which keys own names or are pointed to. Kept from one directory to the next while no name changes, as reading owners
/// is dear.
#[derive(Debug, Default)]
struct Vouched {
    /// Until when some unsuspended name is owned by, or points to, a key.
    until: HashMap<Address, UnixSeconds>,
    /// Owners as keys; contracts are `None`.
    owners: HashMap<String, Option<Address>>,
}

/// What a query name means in the zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// The zone itself.
    Apex,
    /// A name without data of its own that has something below it.
    NonTerminal,
    /// A host of one of the zone's servers.
    Server(Vec<IpAddr>),
    /// A client's host.
    Client(ClientHost),
    /// `ADDRESS.relay.ZONE`.
    Relay(Address),
    /// `_acme-challenge.HOST`.
    Challenge(ClientHost, HostName),
    /// `_tcp.HOST`: nothing itself, TCP services below.
    Tcp(ClientHost),
    /// `_SERVICE._tcp.HOST`.
    TcpService(ClientHost, ServiceName, HostName),
    /// `_tunnler.HOST`: what is served from where, for people.
    Explanation(ClientHost),
    /// Nothing can be there.
    Nothing,
}

/// `NAME.ZONE`, `ADDRESS.ZONE`, or a service of either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHost {
    /// Whose host it is.
    pub holder: Holder,
    /// One of its services; `None` for the bare name.
    pub service: Option<ServiceName>,
}

/// Who a host belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Whoever the name's record points to.
    Name(Label),
    /// The key itself.
    Account(Address),
}

impl ZoneView {
    /// Indexes `directory`.
    pub fn new(directory: Arc<Directory>, gate: Gate) -> Self {
        let vouched = Arc::new(Vouched::default().after(&directory));
        let waiting = Arc::new(gate.waiting(&directory));
        Self::index(directory, gate, vouched, waiting)
    }

    /// Indexes the directory that follows this one.
    pub fn after(&self, directory: Arc<Directory>) -> Self {
        let (old, new) = (&self.directory.names, &directory.names);
        let same = |(label, record)| old.get(label).is_some_and(|old| Arc::ptr_eq(old, record));
        let unchanged = old.len() == new.len() && new.iter().all(same);
        let (vouched, waiting) = if unchanged {
            (self.vouched.clone(), self.waiting.clone())
        } else {
            (Arc::new(self.vouched.after(&directory)), Arc::new(self.gate.waiting(&directory)))
        };
        Self::index(directory, self.gate, vouched, waiting)
    }

    fn index(
        directory: Arc<Directory>,
        gate: Gate,
        vouched: Arc<Vouched>,
        waiting: Arc<HashMap<Label, UnixSeconds>>,
    ) -> Self {
        let zone = &directory.zone.zone;
        let mut servers = HashMap::new();
        let mut non_terminals = HashSet::new();
        for server in &directory.zone.servers {
            servers.insert(server.host.clone(), addresses(server));
            let mut above = server.host.as_str();
            while let Some((_, parent)) = above.split_once('.').filter(|(_, parent)| *parent != zone.as_str())
            {
                non_terminals.extend(parent.parse::<HostName>());
                above = parent;
            }
        }
        let origin = Name::from_ascii(format!("{zone}.")).expect("a zone is a host name");
        Self { origin, gate, vouched, waiting, servers, non_terminals, directory }
    }

    /// Whether some live name is owned by `key` or points to it: the chain vouches for whatever it publishes.
    pub fn vouches_for(&self, key: &Address, now: UnixSeconds) -> bool {
        self.vouched.until.get(key).is_some_and(|until| now < *until)
    }

    /// From when on `label` may have certificates; `None` if it never has to wait.
    pub fn waits_until(&self, label: &Label) -> Option<UnixSeconds> {
        self.waiting.get(label).copied()
    }

    /// Whether certificates may be had for a host of `holder` at `now`. Behind a gate, not for accounts: nothing on chain
    /// says when they came.
    pub fn admits(&self, holder: &Holder, now: UnixSeconds) -> bool {
        match holder {
            Holder::Name(label) => self.waits_until(label).is_none_or(|admitted| admitted <= now),
            Holder::Account(_) => self.gate == Gate::Open,
        }
    }

    /// Whether the zone's policy answers `ADDRESS.ZONE`.
    pub fn answers_account(&self, key: &Address, now: UnixSeconds) -> bool {
        match self.directory.zone.account_hosts {
            AccountHosts::Off => false,
            AccountHosts::Owners => self.vouches_for(key, now),
            AccountHosts::All => true,
        }
    }

    /// What `name` means; `None` when it is not in the zone.
    pub fn locate(&self, name: &Name) -> Option<Node> {
        let mut labels = Vec::with_capacity(8);
        let inner = usize::from(name.num_labels()).checked_sub(usize::from(self.origin.num_labels()))?;
        // `num_labels` does not count a leading `*`, which is a label like any other here.
        let inner = inner + usize::from(name.is_wildcard());
        if !name.iter().skip(inner).eq_ignore_case(self.origin.iter()) {
            return None;
        }
        for label in name.iter().take(inner) {
            match std::str::from_utf8(label) {
                Ok(label) => labels.push(label.to_ascii_lowercase()),
                Err(_) => return Some(Node::Nothing),
            }
        }
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        Some(self.node(&labels).unwrap_or(Node::Nothing))
    }

    /// `labels` are lower case and relative to the zone, the deepest first.
    fn node(&self, labels: &[&str]) -> Option<Node> {
        Some(match labels {
            [] => Node::Apex,
            [RELAY_LABEL] => Node::NonTerminal,
            ["_acme-challenge", host @ ..] => {
                let host = self.host(host)?;
                Node::Challenge(self.client_host(&host)?, host)
            }
            ["_tcp", host @ ..] => Node::Tcp(self.client_host(&self.host(host)?)?),
            ["_tunnler", host @ ..] => Node::Explanation(self.client_host(&self.host(host)?)?),
            [service, "_tcp", host @ ..] => {
                let service = service.strip_prefix('_')?.parse().ok()?;
                let host = self.host(host)?;
                Node::TcpService(self.client_host(&host)?, service, host)
            }
            labels => {
                let host = self.host(labels)?;
                if let Some(addresses) = self.servers.get(&host) {
                    return Some(Node::Server(addresses.clone()));
                }
                if self.non_terminals.contains(&host) {
                    return Some(Node::NonTerminal);
                }
                match self.directory.zone.zone.classify(&host) {
                    Host::Relay(relay) => Node::Relay(relay),
                    host => Node::Client(ClientHost::of(host)?),
                }
            }
        })
    }

    fn host(&self, labels: &[&str]) -> Option<HostName> {
        format!("{}.{}", labels.join("."), self.directory.zone.zone).parse().ok()
    }

    fn client_host(&self, host: &HostName) -> Option<ClientHost> {
        ClientHost::of(self.directory.zone.zone.classify(host))
    }
}

impl ClientHost {
    fn of(host: Host) -> Option<Self> {
        match host {
            Host::Name(label, service) => Some(Self { holder: Holder::Name(label), service }),
            Host::Account(address, service) => Some(Self { holder: Holder::Account(address), service }),
            _ => None,
        }
    }
}

impl Vouched {
    fn after(&self, directory: &Directory) -> Self {
        let mut next = Self::default();
        for record in directory.names.values().filter(|record| !record.suspended) {
            let read =
                || self.owners.get(&record.owner).copied().unwrap_or_else(|| record.owner.parse().ok());
            let owner = *next.owners.entry(record.owner.clone()).or_insert_with(read);
            for key in record.target.into_iter().chain(owner) {
                let until = next.until.entry(key).or_insert(record.expires_at);
                *until = record.expires_at.max(*until);
            }
        }
        next
    }
}

fn addresses(server: &ZoneServer) -> Vec<IpAddr> {
    server.ipv4.map(IpAddr::V4).into_iter().chain(server.ipv6.map(IpAddr::V6)).collect()
}

/// Label by label comparison as DNS does it (RFC 4343).
trait EqIgnoreCase<'a>: Iterator<Item = &'a [u8]> + Sized {
    fn eq_ignore_case<'b>(self, other: impl Iterator<Item = &'b [u8]>) -> bool {
        let (mine, theirs): (Vec<_>, Vec<_>) = (self.collect(), other.collect());
        mine.len() == theirs.len() && mine.iter().zip(theirs).all(|(a, b)| a.eq_ignore_ascii_case(b))
    }
}

impl<'a, I: Iterator<Item = &'a [u8]>> EqIgnoreCase<'a> for I {}
