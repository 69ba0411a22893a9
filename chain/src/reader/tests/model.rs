//! A model of both contracts, ledger by ledger, and of endpoints that answer from one of those ledgers, truthfully or
//! with a lie. Only what the reader looks at.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use stellar_xdr::ScVal;
use tunnler_protocol::directory::Directory;
use tunnler_protocol::time::UnixSeconds;
use tunnler_protocol::{Address, SecretKey};

use super::super::*;
use crate::contract::Contract;
use crate::value::{address_value, optional, string, structure, to_xdr, variant, vector};

/// Events in one page: few, so that pages are turned.
const PAGE: usize = 3;

#[derive(Clone, Copy, Debug)]
pub(super) enum Mutation {
    RegisterRelay,
    UpdateRelay(u8),
    WithdrawRelay(u8),
    /// Another key takes the slot.
    RotateRelay(u8),
    Heartbeat(u8),
    RegisterName,
    UpdateName(u8),
    /// Maps a domain to a name, or takes it away again.
    ToggleDomain(u8),
    Pause,
}

/// How the third endpoint lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    None,
    /// No relay and no name exists.
    Denies,
    /// Every relay and name is another one, changed just now.
    Forges,
    /// Nothing ever happened.
    Withholds,
    /// It is a hundred ledgers ahead, with forged entries.
    RunsAhead,
    /// Much more has happened, in many more slots.
    Exaggerates,
    /// It is a little ahead, and what happened happened later still.
    Postpones,
    /// What happened happened in slots that nobody uses.
    Misplaces,
    /// It never comes to the end of its events.
    Rambles,
}

pub(super) fn lies() -> impl Strategy<Value = Lie> {
    use Lie::{Denies, Exaggerates, Forges, Misplaces, None, Postpones, Rambles, RunsAhead, Withholds};
    let lies = vec![None, Denies, Forges, Withholds, RunsAhead, Exaggerates, Postpones, Misplaces, Rambles];
    proptest::sample::select(lies)
}

#[derive(Clone, Default)]
struct State {
    entries: BTreeMap<Key, (u32, ScVal)>,
    revisions: [u64; 2],
    /// Registered relays by slot: key and version.
    relays: Vec<(Address, u32)>,
    beats: BTreeMap<Address, u64>,
    /// Names by slot: version, and whether a domain is mapped.
    names: Vec<(u32, bool)>,
    events: Vec<Hint>,
}

pub(super) struct Model {
    /// Closed ledgers; the sequence number is the index plus one.
    ledgers: Vec<State>,
    open: State,
    keys: u32,
    entries_read: Cell<usize>,
}

/// What is compared: port and heartbeat of a relay.
type Relays = BTreeMap<Address, (u16, Option<u64>)>;
/// Expiry and number of domains by label.
type Names = BTreeMap<String, (u64, usize)>;

pub(super) fn relays_of(directory: &Directory) -> Relays {
    let relay = |(address, relay): (&Address, &Arc<tunnler_protocol::directory::Relay>)| {
        (*address, (relay.control_port, relay.heartbeat.map(|beat| beat.at.0)))
    };
    directory.relays.iter().map(relay).collect()
}

pub(super) fn names_of(directory: &Directory) -> Names {
    let names = directory.names.iter();
    names.map(|(label, name)| (label.to_string(), (name.expires_at.0, name.domains.len()))).collect()
}

impl Model {
    pub(super) fn new() -> Self {
        let mut model =
            Self { ledgers: Vec::new(), open: State::default(), keys: 0, entries_read: Cell::new(0) };
        let config = structure([("heartbeat_ttl", ScVal::U64(86_400))]);
        model.put(Key::RegistryConfig, config);
        model.put(Key::Zone, string("zone.test"));
        model.put(Key::Terms, structure([("grace", ScVal::U64(1000))]));
        let publication = structure([
            ("address_hosts", variant("All", [])),
            ("acme_issuers", vector([])),
            ("servers", vector([])),
        ]);
        model.put(Key::Publication, publication);
        model.close();
        model
    }

    /// Index of the newest closed ledger.
    pub(super) fn tip(&self) -> usize {
        self.ledgers.len() - 1
    }

    pub(super) fn close(&mut self) {
        self.ledgers.push(self.open.clone());
        self.open.events.clear();
    }

    pub(super) fn entries_read(&self) -> usize {
        self.entries_read.get()
    }

    pub(super) fn revisions(&self) -> [u64; 2] {
        self.open.revisions
    }

    pub(super) fn relays(&self) -> Relays {
        let state = &self.open;
        let relay = |(address, version): &(Address, u32)| {
            (*address, (port(*version), state.beats.get(address).copied()))
        };
        state.relays.iter().map(relay).collect()
    }

    pub(super) fn names(&self) -> Names {
        let name = |(slot, (version, mapped)): (usize, &(u32, bool))| {
            (format!("name{slot}"), (1_000_000 + u64::from(*version), usize::from(*mapped)))
        };
        self.open.names.iter().enumerate().map(name).collect()
    }

    pub(super) fn mutate(&mut self, mutation: Mutation) {
        let relays = self.open.relays.len();
        let names = self.open.names.len();
        match mutation {
            Mutation::RegisterRelay => {
                let key = self.new_key();
                self.open.relays.push((key, 0));
                self.relay_changed(relays);
            }
            Mutation::RotateRelay(nth) if relays > 0 => {
                let slot = usize::from(nth) % relays;
                let key = self.new_key();
                let (old, _) = std::mem::replace(&mut self.open.relays[slot], (key, 0));
                self.open.beats.remove(&old);
                self.open.entries.remove(&Key::Heartbeat(old));
                self.relay_changed(slot);
            }
            Mutation::UpdateRelay(nth) if relays > 0 => {
                let slot = usize::from(nth) % relays;
                self.open.relays[slot].1 += 1;
                self.relay_changed(slot);
            }
            Mutation::WithdrawRelay(nth) if relays > 0 => {
                let slot = usize::from(nth) % relays;
                let (address, _) = self.open.relays.swap_remove(slot);
                self.open.beats.remove(&address);
                self.open.entries.remove(&Key::Heartbeat(address));
                self.open.entries.remove(&Key::RelaySlot(index(relays - 1)));
                if slot < self.open.relays.len() {
                    self.put_relay(slot);
                }
                self.event(Contract::Registry, vec![Key::RelaySlot(index(slot))]);
            }
            Mutation::Heartbeat(nth) if relays > 0 => {
                let address = self.open.relays[usize::from(nth) % relays].0;
                let time = u64::from(self.sequence());
                self.open.beats.insert(address, time);
                let beat = structure([("time", ScVal::U64(time)), ("load", ScVal::U32(1))]);
                self.put(Key::Heartbeat(address), beat);
            }
            Mutation::RegisterName => {
                self.open.names.push((0, false));
                self.name_changed(names);
            }
            Mutation::UpdateName(nth) if names > 0 => {
                let slot = usize::from(nth) % names;
                self.open.names[slot].0 += 1;
                self.name_changed(slot);
            }
            Mutation::ToggleDomain(nth) if names > 0 => {
                let slot = usize::from(nth) % names;
                let name = &mut self.open.names[slot];
                *name = (name.0 + 1, !name.1);
                let key = Key::Domains(index(slot));
                match name.1 {
                    true => {
                        let domains = vector([string("www.example.org")]);
                        self.put(key, structure([("serial", ScVal::U64(1)), ("domains", domains)]));
                    }
                    false => drop(self.open.entries.remove(&key)),
                }
                self.name_changed(slot);
                let event = self.open.events.last_mut().expect("the change");
                event.keys.push(Key::Domains(index(slot)));
            }
            Mutation::Pause => {
                self.open.revisions[0] += 1;
                let ledger = self.sequence();
                self.open.events.push(Hint {
                    contract: Contract::Registry,
                    revision: None,
                    ledger,
                    keys: Vec::new(),
                });
            }
            _ => {}
        }
    }

    fn new_key(&mut self) -> Address {
        self.keys += 1;
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&self.keys.to_be_bytes());
        SecretKey::from_seed(&seed).address()
    }

    fn relay_changed(&mut self, slot: usize) {
        self.put_relay(slot);
        self.event(Contract::Registry, vec![Key::RelaySlot(index(slot))]);
    }

    fn put_relay(&mut self, slot: usize) {
        let (address, version) = self.open.relays[slot];
        self.put(Key::RelaySlot(index(slot)), relay_value(&address, port(version)));
    }

    fn name_changed(&mut self, slot: usize) {
        let (version, mapped) = self.open.names[slot];
        let domains = u32::from(mapped);
        self.put(Key::NameSlot(index(slot)), name_value(slot, 1_000_000 + u64::from(version), domains));
        if version == 0 {
            self.put(Key::Label(label(slot)), structure([("slot", ScVal::U32(index(slot)))]));
        }
        self.event(Contract::Namespace, vec![Key::NameSlot(index(slot)), Key::Label(label(slot))]);
    }

    /// The sequence number of the ledger that is open.
    fn sequence(&self) -> u32 {
        index(self.ledgers.len()) + 1
    }

    fn put(&mut self, key: Key, value: ScVal) {
        let sequence = self.sequence();
        self.open.entries.insert(key, (sequence, value));
    }

    fn event(&mut self, contract: Contract, keys: Vec<Key>) {
        let revision = &mut self.open.revisions[usize::from(contract == Contract::Namespace)];
        *revision += 1;
        let (revision, ledger) = (Some(*revision), self.sequence());
        self.open.events.push(Hint { contract, revision, ledger, keys });
    }

    /// What an endpoint that has come to `ledger` (an index) answers.
    pub(super) fn answer(&self, call: &Call, ledger: usize, lie: Lie) -> Answer {
        let state = &self.ledgers[ledger];
        let ahead = match lie {
            Lie::RunsAhead => 100,
            Lie::Postpones => DRIFT,
            _ => 0,
        };
        let sequence = index(ledger) + 1 + ahead;
        match call {
            Call::Network => Answer::Network(NetworkInfo { passphrase: "test".into(), protocol_version: 28 }),
            Call::Head(keys) => {
                let polled = [Key::RegistryConfig, Key::Zone, Key::Terms, Key::Publication];
                let values =
                    polled.iter().chain(keys).map(|key| (key.clone(), value(state, key, sequence, lie)));
                let closed_at = UnixSeconds(1_700_000_000 + u64::from(sequence) * 5);
                let head = |revision: u64, slots: usize| match lie {
                    Lie::Withholds => ContractHead { revision: 0, slots: 0 },
                    Lie::Exaggerates => ContractHead { revision: revision + 50, slots: index(slots) + 50 },
                    _ => ContractHead { revision, slots: index(slots) },
                };
                let [registry, namespace] = state.revisions;
                Answer::Head(Box::new(Head {
                    health: Health { ledger: LedgerTime { sequence, closed_at }, oldest: 1 },
                    ledger: sequence,
                    contracts: Some([head(registry, state.relays.len()), head(namespace, state.names.len())]),
                    values: values.collect(),
                }))
            }
            Call::Entries(keys) => {
                self.entries_read.set(self.entries_read.get() + keys.len());
                let values = keys.iter().map(|key| (key.clone(), value(state, key, sequence, lie)));
                Answer::Entries { ledger: sequence, values: values.collect() }
            }
            Call::Events(from) => Answer::Events(self.page(from, ledger, sequence, lie)),
        }
    }

    /// A page of events; a cursor is `TOID-0` with the ledger and the position in it.
    fn page(&self, from: &EventsFrom, ledger: usize, latest: u32, lie: Lie) -> Page {
        let (first, skip) = match from {
            EventsFrom::Ledger(sequence) => (u64::from(*sequence), 0),
            EventsFrom::Cursor(cursor) => {
                let toid: u64 = cursor.split('-').next().unwrap().parse().unwrap();
                (toid >> 32, usize::try_from(toid & 0xffff_ffff).unwrap())
            }
        };
        let mut hints = Vec::new();
        if lie == Lie::Rambles {
            let silence =
                Hint { contract: Contract::Registry, revision: None, ledger: latest, keys: Vec::new() };
            let cursor = format!("{:019}-0000000000", (first << 32) + skip as u64 + 1);
            return Page { full: true, hints: vec![silence; PAGE], cursor, latest };
        }
        let mut cursor = (u64::from(latest) << 32) | 0xffff_ffff;
        let ledgers = if lie == Lie::Withholds { &[] } else { &self.ledgers[..=ledger] };
        'ledgers: for (index, state) in ledgers.iter().enumerate() {
            let sequence = index as u64 + 1;
            if sequence < first {
                continue;
            }
            let skip = if sequence == first { skip } else { 0 };
            for (position, event) in state.events.iter().enumerate().skip(skip) {
                hints.push(told(event, lie));
                if hints.len() == PAGE {
                    cursor = (sequence << 32) | (position as u64 + 1);
                    break 'ledgers;
                }
            }
        }
        Page { full: hints.len() == PAGE, hints, cursor: format!("{cursor:019}-0000000000"), latest }
    }
}

fn told(event: &Hint, lie: Lie) -> Hint {
    let misplaced = |key: &Key| match key {
        Key::RelaySlot(_) => Key::RelaySlot(u32::MAX),
        _ => Key::NameSlot(u32::MAX),
    };
    match lie {
        Lie::Postpones => Hint { ledger: event.ledger + 3 * DRIFT, ..event.clone() },
        Lie::Misplaces => Hint { keys: event.keys.iter().map(misplaced).collect(), ..event.clone() },
        _ => event.clone(),
    }
}

fn value(state: &State, key: &Key, sequence: u32, lie: Lie) -> Option<Value> {
    let own = !is_polled(key);
    match lie {
        Lie::Denies if own => return None,
        Lie::Forges | Lie::RunsAhead if own => {
            let forged = match key {
                Key::RelaySlot(_) => relay_value(&SecretKey::from_seed(&[66; 32]).address(), 6666),
                Key::Domains(_) => structure([("serial", ScVal::U64(1)), ("domains", vector([]))]),
                Key::NameSlot(slot) => name_value(*slot as usize, 6666, 0),
                Key::Label(_) => structure([("slot", ScVal::U32(6666))]),
                _ => structure([("time", ScVal::U64(u64::MAX)), ("load", ScVal::U32(0))]),
            };
            return Some(Value { modified: sequence, bytes: Arc::from(to_xdr(&forged)) });
        }
        _ => {}
    }
    let (modified, value) = state.entries.get(key)?;
    let modified = if is_polled(key) && *key != Key::Publication { 0 } else { *modified };
    Some(Value { modified, bytes: Arc::from(to_xdr(value)) })
}

pub(super) fn label(slot: usize) -> Label {
    format!("name{slot}").parse().unwrap()
}

fn port(version: u32) -> u16 {
    u16::try_from(1000 + version).unwrap()
}

fn index(index: usize) -> u32 {
    u32::try_from(index).unwrap()
}

fn relay_value(address: &Address, port: u16) -> ScVal {
    let record = structure([
        ("control_port", ScVal::U32(port.into())),
        ("ingress_port", ScVal::U32(443)),
        ("region", string("test")),
        ("capacity", ScVal::U32(10)),
        ("acme", vector([])),
    ]);
    structure([
        ("operator", address_value(address)),
        ("relay", address_value(address)),
        ("record", record),
        ("stake", ScVal::from(1_i128)),
        ("status", variant("Active", [])),
        ("registered_at", ScVal::U64(1)),
    ])
}

fn name_value(slot: usize, expires_at: u64, domains: u32) -> ScVal {
    structure([
        ("label", string(&format!("name{slot}"))),
        ("owner", address_value(&SecretKey::from_seed(&[1; 32]).address())),
        ("target", optional(None)),
        ("relays", vector([])),
        ("registered_at", ScVal::U64(1)),
        ("expires_at", ScVal::U64(expires_at)),
        ("grace", ScVal::U64(10)),
        ("serial", ScVal::U64(1)),
        ("domains", ScVal::U32(domains)),
    ])
}
