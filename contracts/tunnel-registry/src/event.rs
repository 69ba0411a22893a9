//! What changed about relays, one event per change. `revision` is the value after it.

use soroban_sdk::{Address, String, contractevent};

use crate::types::RelayStatus;

/// A relay was registered into `slot`, the last one.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RelayRegistered {
    #[topic]
    pub relay: Address,
    #[topic]
    pub operator: Address,
    pub slot: u32,
    pub revision: u64,
}

/// A relay published another record.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RelayUpdated {
    #[topic]
    pub relay: Address,
    pub slot: u32,
    pub revision: u64,
}

/// A relay has another key; its slot stays.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RelayRotated {
    #[topic]
    pub relay: Address,
    #[topic]
    pub new_relay: Address,
    pub slot: u32,
    pub revision: u64,
}

/// A relay takes clients, or no longer does.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RelayStatusSet {
    #[topic]
    pub relay: Address,
    pub slot: u32,
    pub status: RelayStatus,
    pub revision: u64,
}

/// A relay leaves; its stake is locked until `until`.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RelayDeregistered {
    #[topic]
    pub relay: Address,
    #[topic]
    pub operator: Address,
    pub slot: u32,
    pub until: u64,
    pub revision: u64,
}

/// A relay is gone and its stake returned. `slot` now holds `moved`, or, without it, is beyond the end.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RelayWithdrawn {
    #[topic]
    pub relay: Address,
    #[topic]
    pub operator: Address,
    pub slot: u32,
    pub stake: i128,
    pub moved: Option<Address>,
    pub revision: u64,
}

/// The admin took a relay off the list.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RelayDelisted {
    #[topic]
    pub relay: Address,
    pub slot: u32,
    pub reason: String,
    pub revision: u64,
}

/// The admin put a relay back on the list.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RelayRelisted {
    #[topic]
    pub relay: Address,
    pub slot: u32,
    pub revision: u64,
}

/// New registrations follow other rules.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RegistryConfigured {
    pub revision: u64,
}
