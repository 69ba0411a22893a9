//! The steward's part of the storage, its revision and its life time. Nothing else touches these keys.
//!
//! The admin and what is announced have entries of their own: each mutation writes the instance, so what is in it makes
//! all of them dearer.

use soroban_sdk::{Address, Env, IntoVal, TryFromVal, Val, unwrap::UnwrapOptimized};

use crate::types::{PendingAdmin, PendingUpgrade, StewardKey};

/// Ledgers of about five seconds in a day.
const DAY: u32 = 17_280;
/// The instance is kept for 90 days ahead, extended once less than 60 are left. The code is not: its rent is a thousand
/// times that of a registration, so whoever runs the zone pays it (`scripts/deploy`), and anybody can.
const INSTANCE_TTL: (u32, u32) = (60 * DAY, 90 * DAY);

/// Counts a mutation, keeps the instance alive, and tells the new revision.
pub fn mutated(env: &Env) -> u64 {
    let instance = env.storage().instance();
    let revision = revision(env) + 1;
    instance.set(&StewardKey::Revision, &revision);
    let (threshold, extend_to) = INSTANCE_TTL;
    env.deployer().extend_ttl_for_contract_instance(env.current_contract_address(), threshold, extend_to);
    revision
}

pub(crate) fn revision(env: &Env) -> u64 {
    env.storage().instance().get(&StewardKey::Revision).unwrap_or(0)
}

/// Set by the constructor, for ever.
pub(crate) fn admin(env: &Env) -> Address {
    kept(env, &StewardKey::Admin).unwrap_optimized()
}

pub(crate) fn set_admin(env: &Env, admin: &Address) {
    keep(env, &StewardKey::Admin, admin);
}

/// Absent means running, and is cheaper.
pub(crate) fn forget_pause(env: &Env) {
    env.storage().instance().remove(&StewardKey::Paused);
}

pub(crate) fn pending_upgrade(env: &Env) -> Option<PendingUpgrade> {
    kept(env, &StewardKey::PendingUpgrade)
}

pub(crate) fn set_pending_upgrade(env: &Env, pending: &PendingUpgrade) {
    keep(env, &StewardKey::PendingUpgrade, pending);
}

/// Reads and removes; the removal is undone when the call fails.
pub(crate) fn take_pending_upgrade(env: &Env) -> Option<PendingUpgrade> {
    take(env, &StewardKey::PendingUpgrade)
}

pub(crate) fn pending_admin(env: &Env) -> Option<PendingAdmin> {
    kept(env, &StewardKey::PendingAdmin)
}

pub(crate) fn set_pending_admin(env: &Env, pending: &PendingAdmin) {
    keep(env, &StewardKey::PendingAdmin, pending);
}

/// Reads and removes; the removal is undone when the call fails.
pub(crate) fn take_pending_admin(env: &Env) -> Option<PendingAdmin> {
    take(env, &StewardKey::PendingAdmin)
}

fn kept<V: TryFromVal<Env, Val>>(env: &Env, key: &StewardKey) -> Option<V> {
    env.storage().persistent().get(key)
}

/// Lives as long as the instance does after a mutation, which is far longer than the notice. Archived after that, it is
/// restored by the call that needs it.
fn keep<V: IntoVal<Env, Val>>(env: &Env, key: &StewardKey, value: &V) {
    let (threshold, extend_to) = INSTANCE_TTL;
    env.storage().persistent().set(key, value);
    env.storage().persistent().extend_ttl(key, threshold, extend_to);
}

fn take<V: TryFromVal<Env, Val>>(env: &Env, key: &StewardKey) -> Option<V> {
    let pending = kept(env, key)?;
    env.storage().persistent().remove(key);
    Some(pending)
}
