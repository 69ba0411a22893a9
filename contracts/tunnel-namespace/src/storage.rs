//! The namespace's storage: the only place that reads or writes entries, and where their life times are.
//!
//! Each verb touches a fixed number of entries. A life time is never the truth about anything: an archived entry is
//! valid, and times that matter are stored inside records.

use soroban_sdk::{Address, BytesN, Env, IntoVal, String, Val, Vec, unwrap::UnwrapOptimized};

use crate::commitment;
use crate::error::Error;
use crate::types::{Config, DataKey, DomainsEntry, LabelEntry, NameRecord, PrimaryEntry, Publication, Terms};

/// Ledgers of about five seconds in a day.
const DAY: u32 = 17_280;
/// Entries are kept for 90 days ahead, extended once less than 60 are left.
const ENTRY_TTL: (u32, u32) = (60 * DAY, 90 * DAY);

/// Set by the constructor.
pub fn zone(env: &Env) -> String {
    env.storage().instance().get(&DataKey::Zone).unwrap_optimized()
}

pub fn set_zone(env: &Env, zone: &String) {
    env.storage().instance().set(&DataKey::Zone, zone);
}

/// Set by the constructor.
pub fn terms(env: &Env) -> Terms {
    env.storage().instance().get(&DataKey::Terms).unwrap_optimized()
}

pub fn config(env: &Env) -> Config {
    let publication: Option<Publication> = env.storage().persistent().get(&DataKey::Publication);
    Config::from_parts(terms(env), publication.unwrap_optimized())
}

pub fn set_config(env: &Env, config: Config) {
    let (terms, publication) = config.into_parts();
    env.storage().instance().set(&DataKey::Terms, &terms);
    set(env, &DataKey::Publication, &publication);
}

/// How many slots were ever used.
pub fn slots(env: &Env) -> u32 {
    env.storage().instance().get(&DataKey::Next).unwrap_or(0)
}

/// The record in a used slot: one below [`slots`].
pub fn record(env: &Env, slot: u32) -> NameRecord {
    env.storage().persistent().get(&DataKey::Slot(slot)).unwrap_optimized()
}

/// What is known about a label, whether or not it was ever registered.
pub fn label(env: &Env, name: &String) -> LabelEntry {
    let none = LabelEntry { slot: None, reserved: false };
    env.storage().persistent().get(&DataKey::Label(name.clone())).unwrap_or(none)
}

pub fn set_label(env: &Env, name: &String, entry: &LabelEntry) {
    set(env, &DataKey::Label(name.clone()), entry);
}

/// Slot and record of a name that was ever registered.
pub fn find(env: &Env, name: &String) -> Result<(u32, NameRecord), Error> {
    let slot = label(env, name).slot.ok_or(Error::UnknownName)?;
    Ok((slot, record(env, slot)))
}

/// The slot of a label: the one it ever had, or the next.
pub fn claim(env: &Env, name: &String) -> u32 {
    let entry = label(env, name);
    entry.slot.unwrap_or_else(|| {
        let slot = slots(env);
        set_label(env, name, &LabelEntry { slot: Some(slot), ..entry });
        env.storage().instance().set(&DataKey::Next, &(slot + 1));
        slot
    })
}

/// Replaces the record in a slot, and keeps both it and the way to it alive.
pub fn set_record(env: &Env, slot: u32, record: &NameRecord) {
    set(env, &DataKey::Slot(slot), record);
    keep(env, &DataKey::Label(record.label.clone()));
}

/// Slots of the names an owner holds. One entry of bounded length (64 at most, by the configuration), because taking a
/// name out of a list of entries would touch four of them for each side of a transfer.
pub fn held(env: &Env, owner: &Address) -> Vec<u32> {
    env.storage().persistent().get(&DataKey::Owner(owner.clone())).unwrap_or(Vec::new(env))
}

/// Adds a name to those an owner holds, of which there can be `cap`.
pub fn hold(env: &Env, owner: &Address, slot: u32, cap: u32) -> Result<(), Error> {
    let mut slots = held(env, owner);
    if slots.len() >= cap {
        return Err(Error::OwnerCap);
    }
    slots.push_back(slot);
    set(env, &DataKey::Owner(owner.clone()), &slots);
    Ok(())
}

/// Takes a name out of those an owner holds, if it is among them.
pub fn let_go(env: &Env, owner: &Address, slot: u32) {
    let key = DataKey::Owner(owner.clone());
    let mut slots = held(env, owner);
    let Some(index) = slots.first_index_of(slot) else { return };
    slots.remove(index);
    if slots.is_empty() {
        env.storage().persistent().remove(&key);
    } else {
        set(env, &key, &slots);
    }
}

pub fn primary(env: &Env, target: &Address) -> Option<PrimaryEntry> {
    env.storage().persistent().get(&DataKey::Primary(target.clone()))
}

pub fn set_primary(env: &Env, target: &Address, entry: &PrimaryEntry) {
    set(env, &DataKey::Primary(target.clone()), entry);
}

/// Custom domains of the name in a slot, without those of an earlier serial.
pub fn domains(env: &Env, slot: u32, record: &NameRecord) -> Vec<String> {
    let entry: Option<DomainsEntry> = env.storage().persistent().get(&DataKey::Domains(slot));
    entry.filter(|entry| entry.serial == record.serial).map_or(Vec::new(env), |entry| entry.domains)
}

pub fn set_domains(env: &Env, slot: u32, entry: &DomainsEntry) {
    set(env, &DataKey::Domains(slot), entry);
}

pub fn set_commitment(env: &Env, owner: &Address, hash: &BytesN<32>) {
    let key = DataKey::Commitment(owner.clone(), hash.clone());
    let temporary = env.storage().temporary();
    temporary.set(&key, &env.ledger().sequence());
    temporary.extend_ttl(&key, commitment::OLDEST, commitment::OLDEST + 1);
}

/// The ledger of a commitment, which is gone afterwards.
pub fn take_commitment(env: &Env, owner: &Address, hash: &BytesN<32>) -> Option<u32> {
    let key = DataKey::Commitment(owner.clone(), hash.clone());
    let made = env.storage().temporary().get(&key)?;
    env.storage().temporary().remove(&key);
    Some(made)
}

fn set<V: IntoVal<Env, Val>>(env: &Env, key: &DataKey, value: &V) {
    env.storage().persistent().set(key, value);
    keep(env, key);
}

fn keep(env: &Env, key: &DataKey) {
    let (threshold, extend_to) = ENTRY_TTL;
    env.storage().persistent().extend_ttl(key, threshold, extend_to);
}
