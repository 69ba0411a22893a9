//! What the steward keeps, all of it in the instance.

use soroban_sdk::{Address, BytesN, contracttype};

/// An announced upgrade.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PendingUpgrade {
    /// SHA-256 of the wasm.
    pub hash: BytesN<32>,
    /// Unix seconds from which it may be executed.
    pub from: u64,
}

/// An announced hand-over.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PendingAdmin {
    /// Who is to be the admin.
    pub admin: Address,
    /// Unix seconds from which it may be accepted.
    pub from: u64,
}

/// Storage keys.
#[contracttype]
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StewardKey {
    /// Persistent: `Address`.
    Admin,
    /// Instance: `u64`.
    Revision,
    /// Persistent: [`PendingUpgrade`].
    PendingUpgrade,
    /// Persistent: [`PendingAdmin`].
    PendingAdmin,
    /// Instance: `bool`. The key is OpenZeppelin's.
    Paused,
}
