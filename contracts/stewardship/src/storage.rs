//! The steward's part of the instance storage, its revision and its life time. Nothing else touches these keys.

use soroban_sdk::{Address, Env, unwrap::UnwrapOptimized};

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
    env.storage().instance().get(&StewardKey::Admin).unwrap_optimized()
}

pub(crate) fn set_admin(env: &Env, admin: &Address) {
    env.storage().instance().set(&StewardKey::Admin, admin);
}

pub(crate) fn pending_upgrade(env: &Env) -> Option<PendingUpgrade> {
    env.storage().instance().get(&StewardKey::PendingUpgrade)
}

pub(crate) fn set_pending_upgrade(env: &Env, pending: &PendingUpgrade) {
    env.storage().instance().set(&StewardKey::PendingUpgrade, pending);
}

/// Reads and removes; the removal is undone when the call fails.
pub(crate) fn take_pending_upgrade(env: &Env) -> Option<PendingUpgrade> {
    let pending = pending_upgrade(env)?;
    env.storage().instance().remove(&StewardKey::PendingUpgrade);
    Some(pending)
}

pub(crate) fn pending_admin(env: &Env) -> Option<PendingAdmin> {
    env.storage().instance().get(&StewardKey::PendingAdmin)
}

pub(crate) fn set_pending_admin(env: &Env, pending: &PendingAdmin) {
    env.storage().instance().set(&StewardKey::PendingAdmin, pending);
}

/// Reads and removes; the removal is undone when the call fails.
pub(crate) fn take_pending_admin(env: &Env) -> Option<PendingAdmin> {
    let pending = pending_admin(env)?;
    env.storage().instance().remove(&StewardKey::PendingAdmin);
    Some(pending)
}
