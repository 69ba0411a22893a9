//! The steward's part of the instance storage, its revision and its life time. Nothing else touches these keys.

use soroban_sdk::{Address, Env, unwrap::UnwrapOptimized};

use crate::types::{PendingAdmin, PendingUpgrade, StewardKey};

/// Ledgers of about five seconds in a day.
const DAY: u32 = 17_280;
/// How long instance and code are kept alive ahead.
const INSTANCE_TTL: u32 = 60 * DAY;
/// Rent for the code is by far the dearest of all: one call never pays for more than a week of it, nor bothers for
/// less than a day.
const INSTANCE_TTL_STEP: (u32, u32) = (DAY, 7 * DAY);

/// Counts a mutation, keeps the contract alive, and tells the new revision.
pub fn mutated(env: &Env) -> u64 {
    let instance = env.storage().instance();
    let revision = revision(env) + 1;
    instance.set(&StewardKey::Revision, &revision);
    let (least, most) = INSTANCE_TTL_STEP;
    instance.extend_ttl_with_limits(INSTANCE_TTL, least, most);
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
