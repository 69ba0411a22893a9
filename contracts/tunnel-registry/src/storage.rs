//! The registry's storage: the only place that reads or writes entries, and where their life times are.
//!
//! Each verb touches a fixed number of entries. A life time is never the truth about anything: an archived entry is
//! valid, and times that matter are stored inside records.

use soroban_sdk::{Address, Env, IntoVal, Val, unwrap::UnwrapOptimized};

use crate::error::Error;
use crate::types::{Config, DataKey, Heartbeat, RelayEntry};

/// Ledgers of about five seconds in a day.
const DAY: u32 = 17_280;
/// Entries are kept for 90 days ahead, extended once less than 60 are left.
const ENTRY_TTL: (u32, u32) = (60 * DAY, 90 * DAY);
/// Seconds between ledgers, at least about.
const LEDGER_SECONDS: u64 = 5;

/// Set by the constructor.
pub fn config(env: &Env) -> Config {
    env.storage().instance().get(&DataKey::Config).unwrap_optimized()
}

pub fn set_config(env: &Env, config: &Config) {
    env.storage().instance().set(&DataKey::Config, config);
}

/// How many slots are occupied.
pub fn count(env: &Env) -> u32 {
    env.storage().instance().get(&DataKey::Count).unwrap_or(0)
}

/// The slot of a relay key, if it is registered.
pub fn slot_of(env: &Env, relay: &Address) -> Option<u32> {
    env.storage().persistent().get(&DataKey::Relay(relay.clone()))
}

/// The entry in an occupied slot: one below the count.
pub fn entry(env: &Env, slot: u32) -> RelayEntry {
    env.storage().persistent().get(&DataKey::Slot(slot)).unwrap_optimized()
}

/// Slot and entry of a registered relay.
pub fn find(env: &Env, relay: &Address) -> Result<(u32, RelayEntry), Error> {
    let slot = slot_of(env, relay).ok_or(Error::UnknownRelay)?;
    Ok((slot, entry(env, slot)))
}

/// Replaces the entry in a slot, and keeps both it and the way to it alive.
pub fn set_entry(env: &Env, slot: u32, entry: &RelayEntry) {
    set(env, &DataKey::Slot(slot), entry);
    keep(env, &DataKey::Relay(entry.relay.clone()));
}

/// Appends an entry and tells its slot.
pub fn append(env: &Env, entry: &RelayEntry) -> u32 {
    let slot = count(env);
    set(env, &DataKey::Relay(entry.relay.clone()), &slot);
    set(env, &DataKey::Slot(slot), entry);
    env.storage().instance().set(&DataKey::Count, &(slot + 1));
    slot
}

/// Removes the entry in a slot. The last one takes its place: its key is returned, unless the slot was the last.
pub fn swap_remove(env: &Env, slot: u32, entry: &RelayEntry) -> Option<Address> {
    let last = count(env) - 1;
    let moved = (slot != last).then(|| {
        let moved = self::entry(env, last);
        set(env, &DataKey::Slot(slot), &moved);
        set(env, &DataKey::Relay(moved.relay.clone()), &slot);
        moved.relay
    });
    let persistent = env.storage().persistent();
    persistent.remove(&DataKey::Slot(last));
    persistent.remove(&DataKey::Relay(entry.relay.clone()));
    env.storage().instance().set(&DataKey::Count, &last);
    moved
}

/// Leads the new key to the slot instead of the old one.
pub fn rekey(env: &Env, slot: u32, relay: &Address, new_relay: &Address) {
    env.storage().persistent().remove(&DataKey::Relay(relay.clone()));
    set(env, &DataKey::Relay(new_relay.clone()), &slot);
}

/// How many relays an operator has.
pub fn operated(env: &Env, operator: &Address) -> u32 {
    env.storage().persistent().get(&DataKey::Operator(operator.clone())).unwrap_or(0)
}

pub fn set_operated(env: &Env, operator: &Address, relays: u32) {
    let key = DataKey::Operator(operator.clone());
    if relays == 0 {
        env.storage().persistent().remove(&key);
    } else {
        set(env, &key, &relays);
    }
}

pub fn heartbeat(env: &Env, relay: &Address) -> Option<Heartbeat> {
    env.storage().temporary().get(&DataKey::Heartbeat(relay.clone()))
}

/// Kept a day longer than it counts.
pub fn set_heartbeat(env: &Env, relay: &Address, heartbeat: &Heartbeat) {
    let key = DataKey::Heartbeat(relay.clone());
    let counts = u32::try_from(config(env).heartbeat_ttl / LEDGER_SECONDS).unwrap_or(u32::MAX);
    let temporary = env.storage().temporary();
    temporary.set(&key, heartbeat);
    temporary.extend_ttl(&key, counts, counts.saturating_add(DAY));
}

fn set<V: IntoVal<Env, Val>>(env: &Env, key: &DataKey, value: &V) {
    env.storage().persistent().set(key, value);
    keep(env, key);
}

fn keep(env: &Env, key: &DataKey) {
    let (threshold, extend_to) = ENTRY_TTL;
    env.storage().persistent().extend_ttl(key, threshold, extend_to);
}
