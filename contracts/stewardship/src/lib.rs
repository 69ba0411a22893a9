//! What both contracts share about power: one admin, pause, and changes that are announced before they happen.
//!
//! The admin can neither upgrade a contract nor hand it over without an announcement on chain seven days before, so
//! that everybody who disagrees can leave first. The pause is OpenZeppelin's; their two-step ownership and their
//! upgrade know no notice period, so those two are written here. Nothing in this crate touches names, relays or money.
#![no_std]

mod error;
mod event;
mod storage;
mod types;

use soroban_sdk::{Address, BytesN, ContractExecutable, Env, contracttrait};
use stellar_contract_utils::pausable;

pub use error::StewardError;
pub use event::{
    AdminAccepted, AdminAnnounced, AdminCancelled, UpgradeAnnounced, UpgradeCancelled, Upgraded,
};
pub use storage::mutated;
pub use types::{PendingAdmin, PendingUpgrade, StewardKey};

/// Seconds between the announcement of an upgrade or a new admin and its execution.
pub const NOTICE: u64 = 7 * 24 * 60 * 60;

/// Makes `admin` the first admin. For constructors only.
pub fn appoint(env: &Env, admin: &Address) {
    storage::set_admin(env, admin);
}

/// Demands the admin's authority.
pub fn require_admin(env: &Env) {
    storage::admin(env).require_auth();
}

/// Fails with OpenZeppelin's `EnforcedPause` while the contract is paused.
pub fn require_running(env: &Env) {
    pausable::when_not_paused(env);
}

/// The calls by which a contract is governed, the same in both contracts.
#[contracttrait]
pub trait Steward {
    /// Who may configure, pause, and announce.
    fn admin(env: &Env) -> Address {
        storage::admin(env)
    }

    /// Grows by one with each mutation. Readers compare it to know whether they are up to date.
    fn revision(env: &Env) -> u64 {
        storage::revision(env)
    }

    /// Whether registrations, updates and transfers are stopped.
    fn paused(env: &Env) -> bool {
        pausable::paused(env)
    }

    /// Stops registrations, updates and transfers. Auth: admin.
    fn pause(env: &Env) {
        require_admin(env);
        pausable::pause(env);
        mutated(env);
    }

    /// Lets them go on. Auth: admin.
    fn unpause(env: &Env) {
        require_admin(env);
        pausable::unpause(env);
        storage::forget_pause(env);
        mutated(env);
    }

    /// The upgrade that is announced, if one is.
    fn announced_upgrade(env: &Env) -> Option<PendingUpgrade> {
        storage::pending_upgrade(env)
    }

    /// Announces an upgrade. The contract can run the code `hash` in seven days at the earliest. Announcing again starts
    /// the notice anew. Auth: admin.
    fn announce_upgrade(env: &Env, hash: BytesN<32>) {
        require_admin(env);
        let from = env.ledger().timestamp() + NOTICE;
        storage::set_pending_upgrade(env, &PendingUpgrade { hash: hash.clone(), from });
        UpgradeAnnounced { hash, from, revision: mutated(env) }.publish(env);
    }

    /// Takes the announcement back. Auth: admin.
    fn cancel_upgrade(env: &Env) -> Result<(), StewardError> {
        require_admin(env);
        storage::take_pending_upgrade(env).ok_or(StewardError::NothingAnnounced)?;
        UpgradeCancelled { revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Runs the announced code from now on. Auth: admin.
    fn upgrade(env: &Env) -> Result<(), StewardError> {
        require_admin(env);
        let PendingUpgrade { hash, from } =
            storage::take_pending_upgrade(env).ok_or(StewardError::NothingAnnounced)?;
        require_notice_given(env, from)?;
        env.deployer().update_current_contract(ContractExecutable::Wasm(hash.clone()));
        Upgraded { hash, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// The new admin that is announced, if one is.
    fn announced_admin(env: &Env) -> Option<PendingAdmin> {
        storage::pending_admin(env)
    }

    /// Announces a new admin. It may take over in seven days at the earliest. Announcing again starts the notice
    /// anew. Auth: admin.
    fn announce_admin(env: &Env, new_admin: Address) {
        require_admin(env);
        let from = env.ledger().timestamp() + NOTICE;
        storage::set_pending_admin(env, &PendingAdmin { admin: new_admin.clone(), from });
        AdminAnnounced { new_admin, from, revision: mutated(env) }.publish(env);
    }

    /// Takes the announcement back. Auth: admin.
    fn cancel_admin(env: &Env) -> Result<(), StewardError> {
        require_admin(env);
        storage::take_pending_admin(env).ok_or(StewardError::NothingAnnounced)?;
        AdminCancelled { revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Completes the hand-over. Auth: the announced admin.
    fn accept_admin(env: &Env) -> Result<(), StewardError> {
        let PendingAdmin { admin: new_admin, from } =
            storage::take_pending_admin(env).ok_or(StewardError::NothingAnnounced)?;
        new_admin.require_auth();
        require_notice_given(env, from)?;
        storage::set_admin(env, &new_admin);
        AdminAccepted { new_admin, revision: mutated(env) }.publish(env);
        Ok(())
    }
}

fn require_notice_given(env: &Env, from: u64) -> Result<(), StewardError> {
    if env.ledger().timestamp() < from { Err(StewardError::NoticeNotOver) } else { Ok(()) }
}
