//! From agreed entries to the [`Directory`]: decoding, the rules that the contracts cannot check, and snapshots that
//! share what did not change. Never fails: a record that breaks a rule is left out and counted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tunnler_protocol::Address;
use tunnler_protocol::directory::{
    AcmeIdentity, Directory, Heartbeat, NameRecord, Relay, RelayStatus, ZoneConfig, ZoneServer,
};
use tunnler_protocol::name::{Host, HostName, Label, Zone};
use tunnler_protocol::time::{LedgerTime, UnixSeconds};

use super::cell::Value;
use crate::contract::{Key, namespace, registry};
use crate::value::{account, from_xdr};

/// The decoded state, and what has changed since the last snapshot.
#[derive(Debug, Default)]
pub(crate) struct Projection {
    heartbeat_ttl: Option<Duration>,
    zone: Option<Zone>,
    grace: Option<Duration>,
    publication: Option<Publication>,
    relays: BTreeMap<u32, Slot<Relay>>,
    heartbeats: HashMap<Address, Heartbeat>,
    names: HashMap<u32, Slot<NameRecord>>,
    /// Serial and domains by slot.
    domains: HashMap<u32, (u64, Vec<HostName>)>,
    /// Keys whose current value breaks a rule.
    ignored: HashSet<Key>,
    touched: Touched,
    published: Option<Arc<Directory>>,
}

/// A decoded record and the ledger of its last modification.
#[derive(Debug)]
struct Slot<T> {
    modified: u32,
    record: Arc<T>,
}

#[derive(Debug)]
struct Publication {
    account_hosts: tunnler_protocol::directory::AccountHosts,
    issuers: Vec<String>,
    servers: Vec<ZoneServer>,
}

#[derive(Debug, Default)]
struct Touched {
    relays: bool,
    zone: bool,
    /// Labels, each with the slot of its record.
    names: HashMap<Label, u32>,
}

/// What follows from an entry for what has to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Implies {
    /// Nothing.
    Nothing,
    /// This key belongs to it.
    Key(Key),
}

impl Projection {
    /// Takes the agreed value of `key` in; `None`: there is no such entry.
    pub(crate) fn apply(&mut self, key: &Key, value: Option<&Value>) -> Implies {
        self.ignored.remove(key);
        match key {
            Key::RegistryConfig => {
                let config: Option<registry::Config> = self.decode(key, value);
                self.heartbeat_ttl = config.map(|config| Duration::from_secs(config.heartbeat_ttl));
                self.touched.zone = true;
            }
            Key::Zone => {
                let zone: Option<String> = self.decode(key, value);
                self.zone = zone.and_then(|zone| self.rule(key, zone.parse()));
                self.touched.zone = true;
            }
            Key::Terms => {
                let terms: Option<namespace::Terms> = self.decode(key, value);
                self.grace = terms.map(|terms| Duration::from_secs(terms.grace));
                self.touched.zone = true;
            }
            Key::Publication => {
                let publication: Option<namespace::Publication> = self.decode(key, value);
                self.publication = publication.map(|publication| self.publication(key, publication));
                self.touched.zone = true;
            }
            Key::RelaySlot(slot) => return self.apply_relay(key, *slot, value),
            Key::Heartbeat(relay) => {
                let beat: Option<registry::Heartbeat> = self.decode(key, value);
                match beat {
                    Some(beat) => {
                        let beat = Heartbeat { at: UnixSeconds(beat.time), load: beat.load };
                        self.heartbeats.insert(*relay, beat)
                    }
                    None => self.heartbeats.remove(relay),
                };
                self.touched.relays = true;
            }
            Key::Label(_) => {
                let entry: Option<namespace::LabelEntry> = self.decode(key, value);
                if let Some(slot) = entry.and_then(|entry| entry.slot) {
                    return Implies::Key(Key::NameSlot(slot));
                }
            }
            Key::NameSlot(slot) => return self.apply_name(key, *slot, value),
            Key::Domains(slot) => self.apply_domains(key, *slot, value),
        }
        Implies::Nothing
    }

    /// How many entries break a rule and are left out.
    pub(crate) fn ignored(&self) -> usize {
        self.ignored.len()
    }

    /// Whether zone and configuration are known.
    pub(crate) fn is_complete(&self) -> bool {
        self.heartbeat_ttl.is_some() && self.zone_config().is_some()
    }

    /// Slots from `first` on that hold a relay.
    pub(crate) fn relay_slots_from(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        self.relays.range(first..).map(|(slot, _)| *slot)
    }

    /// Registered relay keys.
    pub(crate) fn relay_addresses(&self) -> impl Iterator<Item = Address> + '_ {
        self.relays.values().map(|slot| slot.record.address)
    }

    /// The directory at `ledger`; `None` while the zone or the registry's configuration is unknown. Relays and names that
    /// did not change keep their `Arc`.
    pub(crate) fn snapshot(&mut self, ledger: LedgerTime, revisions: [u64; 2]) -> Option<Arc<Directory>> {
        let (zone, heartbeat_ttl) = (self.zone_config()?, self.heartbeat_ttl?);
        let touched = std::mem::take(&mut self.touched);
        let directory = match self.published.take() {
            None => Directory {
                ledger,
                registry_revision: revisions[0],
                namespace_revision: revisions[1],
                relays: self.relay_map(&BTreeMap::new()),
                names: self.names.keys().filter_map(|slot| self.name(*slot)).collect(),
                heartbeat_ttl,
                zone,
            },
            Some(last) => {
                let mut next = Arc::unwrap_or_clone(last);
                next.ledger = ledger;
                next.registry_revision = revisions[0];
                next.namespace_revision = revisions[1];
                next.heartbeat_ttl = heartbeat_ttl;
                next.zone = zone;
                if touched.relays {
                    next.relays = self.relay_map(&next.relays);
                }
                if !touched.names.is_empty() {
                    self.patch_names(&mut next, &touched.names);
                }
                next
            }
        };
        let directory = Arc::new(directory);
        self.published = Some(directory.clone());
        Some(directory)
    }

    fn apply_relay(&mut self, key: &Key, slot: u32, value: Option<&Value>) -> Implies {
        self.touched.relays = true;
        self.relays.remove(&slot);
        let entry: Option<registry::RelayEntry> = self.decode(key, value);
        let Some(relay) = entry.and_then(|entry| self.relay(key, entry)) else { return Implies::Nothing };
        let address = relay.address;
        let modified = value.map_or(0, |value| value.modified);
        self.relays.insert(slot, Slot { modified, record: Arc::new(relay) });
        Implies::Key(Key::Heartbeat(address))
    }

    fn apply_name(&mut self, key: &Key, slot: u32, value: Option<&Value>) -> Implies {
        if let Some(old) = self.names.remove(&slot) {
            self.touched.names.insert(old.record.label.clone(), slot);
        }
        let entry: Option<namespace::NameRecord> = self.decode(key, value);
        let Some(entry) = entry else { return Implies::Nothing };
        let domains = entry.domains;
        let Some(record) = self.name_record(key, entry) else { return Implies::Nothing };
        self.touched.names.insert(record.label.clone(), slot);
        let modified = value.map_or(0, |value| value.modified);
        self.names.insert(slot, Slot { modified, record: Arc::new(record) });
        if domains > 0 { Implies::Key(Key::Domains(slot)) } else { Implies::Nothing }
    }

    fn apply_domains(&mut self, key: &Key, slot: u32, value: Option<&Value>) {
        let entry: Option<namespace::DomainsEntry> = self.decode(key, value);
        match entry {
            Some(entry) => {
                let parse = |domain: &String| self.rule(key, domain.parse());
                let domains = entry.domains.iter().filter_map(parse).collect();
                self.domains.insert(slot, (entry.serial, domains))
            }
            None => self.domains.remove(&slot),
        };
        if let Some(name) = self.names.get(&slot) {
            self.touched.names.insert(name.record.label.clone(), slot);
        }
    }

    /// The record of a relay under the rules of DESIGN §5: usable key and ports, a well-formed ACME identity, and no
    /// host inside the zone but its own.
    fn relay(&mut self, key: &Key, entry: registry::RelayEntry) -> Option<Relay> {
        let record = entry.record;
        let address = self.rule(key, account(&entry.relay).ok_or(()))?;
        let port = |port: u32| u16::try_from(port).ok().filter(|port| *port > 0).ok_or(());
        let control_port = self.rule(key, port(record.control_port))?;
        let ingress_port = self.rule(key, port(record.ingress_port))?;
        let host = record.host.and_then(|host| self.rule(key, host.parse::<HostName>()));
        let acme = record.acme.map(|acme| AcmeIdentity { issuer: acme.issuer, account: acme.account });
        let acme =
            acme.and_then(|acme| self.rule(key, if acme.is_well_formed() { Ok(acme) } else { Err(()) }));
        let status = match (entry.delisted, entry.unbonding_until, entry.status) {
            (Some(_), _, _) => RelayStatus::Delisted,
            (None, Some(_), _) => RelayStatus::Unbonding,
            (None, None, registry::Status::Active) => RelayStatus::Active,
            (None, None, registry::Status::Draining) => RelayStatus::Draining,
        };
        Some(Relay {
            address,
            operator: entry.operator.to_string(),
            host,
            control_port,
            ingress_port,
            ipv4: record.ipv4.map(Ipv4Addr::from),
            ipv6: record.ipv6.map(Ipv6Addr::from),
            region: record.region,
            capacity: record.capacity,
            acme,
            status,
            heartbeat: None,
            registered_at: UnixSeconds(entry.registered_at),
        })
    }

    fn name_record(&mut self, key: &Key, entry: namespace::NameRecord) -> Option<NameRecord> {
        let label = self.rule(key, entry.label.parse::<Label>())?;
        let target = entry.target.and_then(|target| self.rule(key, account(&target).ok_or(())));
        let restricted = !entry.relays.is_empty();
        let relays: Vec<Address> = entry.relays.iter().filter_map(account).collect();
        // Allowed relays with unusable keys must not widen the policy to "all".
        let target = target.filter(|_| !(restricted && relays.is_empty()));
        Some(NameRecord {
            label,
            owner: entry.owner.to_string(),
            target,
            relays,
            domains: Vec::new(),
            registered_at: UnixSeconds(entry.registered_at),
            expires_at: UnixSeconds(entry.expires_at),
            grace: Duration::from_secs(entry.grace),
            suspended: entry.suspended.is_some(),
            serial: entry.serial,
        })
    }

    fn publication(&mut self, key: &Key, publication: namespace::Publication) -> Publication {
        let servers = publication.servers.into_iter().filter_map(|server| {
            let host = self.rule(key, server.host.parse::<HostName>())?;
            let public = self.rule(key, Address::from_bytes(server.key))?;
            let (ipv4, ipv6) = (server.ipv4.map(Ipv4Addr::from), server.ipv6.map(Ipv6Addr::from));
            Some(ZoneServer { host, ipv4, ipv6, key: public })
        });
        let servers = servers.collect();
        let account_hosts = publication.address_hosts;
        Publication { account_hosts, issuers: publication.acme_issuers, servers }
    }

    fn zone_config(&self) -> Option<ZoneConfig> {
        let publication = self.publication.as_ref()?;
        Some(ZoneConfig {
            zone: self.zone.clone()?,
            grace: self.grace?,
            servers: publication.servers.clone(),
            account_hosts: publication.account_hosts,
            issuers: publication.issuers.clone(),
        })
    }

    /// Relays by address with their heartbeats. While a relay is in two slots (it was moved, and the old slot is not
    /// read again yet), the newer entry counts.
    fn relay_map(&self, old: &BTreeMap<Address, Arc<Relay>>) -> BTreeMap<Address, Arc<Relay>> {
        let mut newest: BTreeMap<Address, &Slot<Relay>> = BTreeMap::new();
        for slot in self.relays.values() {
            let known = newest.entry(slot.record.address).or_insert(slot);
            if slot.modified > known.modified {
                *known = slot;
            }
        }
        let zone = self.zone.as_ref();
        let complete = |(address, slot): (Address, &Slot<Relay>)| {
            let mut relay = (*slot.record).clone();
            relay.heartbeat = self.heartbeats.get(&address).copied();
            relay.host = relay.host.filter(|host| zone.is_none_or(|zone| may_have(zone, host, &address)));
            let unchanged = old.get(&address).filter(|old| ***old == relay);
            (address, unchanged.cloned().unwrap_or_else(|| Arc::new(relay)))
        };
        newest.into_iter().map(complete).collect()
    }

    fn name(&self, slot: u32) -> Option<(Label, Arc<NameRecord>)> {
        let record = &self.names.get(&slot)?.record;
        let domains = self
            .domains
            .get(&slot)
            .filter(|(serial, domains)| *serial == record.serial && !domains.is_empty());
        let record = match domains {
            None => record.clone(),
            Some((_, domains)) => Arc::new(NameRecord { domains: domains.clone(), ..(**record).clone() }),
        };
        Some((record.label.clone(), record))
    }

    fn patch_names(&self, directory: &mut Directory, touched: &HashMap<Label, u32>) {
        for (label, slot) in touched {
            match self.name(*slot).filter(|(now, _)| now == label) {
                Some((_, record)) => directory.names.insert(label.clone(), record),
                None => directory.names.remove(label),
            };
        }
    }

    fn decode<T: crate::value::FromValue>(&mut self, key: &Key, value: Option<&Value>) -> Option<T> {
        let value = value?;
        match from_xdr(&value.bytes) {
            Ok(decoded) => Some(decoded),
            Err(error) => {
                tracing::warn!(?key, %error, "an entry is not of the expected form and is left out");
                self.ignored.insert(key.clone());
                None
            }
        }
    }

    fn rule<T, E>(&mut self, key: &Key, result: Result<T, E>) -> Option<T> {
        if result.is_err() {
            self.ignored.insert(key.clone());
        }
        result.ok()
    }
}

/// Whether a relay may call itself `host`: anything outside the zone, or its own host in it.
fn may_have(zone: &Zone, host: &HostName, relay: &Address) -> bool {
    matches!(zone.classify(host), Host::Foreign) || zone.classify(host) == Host::Relay(*relay)
}

#[cfg(test)]
mod tests;
