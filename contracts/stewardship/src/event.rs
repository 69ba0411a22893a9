//! What the steward announces and does, for everybody to see. Pause and unpause are OpenZeppelin's events.

use soroban_sdk::{Address, BytesN, contractevent};

/// An upgrade may happen from `from` on.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UpgradeAnnounced {
    pub hash: BytesN<32>,
    pub from: u64,
    pub revision: u64,
}

/// The announced upgrade will not happen.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UpgradeCancelled {
    pub revision: u64,
}

/// The contract runs other code from the next call on.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upgraded {
    pub hash: BytesN<32>,
    pub revision: u64,
}

/// Another admin may take over from `from` on.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminAnnounced {
    #[topic]
    pub new_admin: Address,
    pub from: u64,
    pub revision: u64,
}

/// The announced hand-over will not happen.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminCancelled {
    pub revision: u64,
}

/// The contract has another admin.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminAccepted {
    #[topic]
    pub new_admin: Address,
    pub revision: u64,
}
