//! What changed about names, one event per change. `revision` is the value after it.

use soroban_sdk::{Address, String, Vec, contractevent};

/// A name was registered, for the first time or after its lapse.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NameRegistered {
    #[topic]
    pub name: String,
    #[topic]
    pub owner: Address,
    pub slot: u32,
    pub target: Address,
    pub expires_at: u64,
    pub serial: u64,
    pub revision: u64,
}

/// A name lives longer.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NameRenewed {
    #[topic]
    pub name: String,
    pub slot: u32,
    pub payer: Address,
    pub expires_at: u64,
    pub revision: u64,
}

/// A name has another owner and starts clean.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NameTransferred {
    #[topic]
    pub name: String,
    #[topic]
    pub owner: Address,
    #[topic]
    pub new_owner: Address,
    pub slot: u32,
    pub serial: u64,
    pub revision: u64,
}

/// A name points to another target, or to none.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TargetSet {
    #[topic]
    pub name: String,
    pub slot: u32,
    pub target: Option<Address>,
    pub revision: u64,
}

/// Other relays may carry a name.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RelaysSet {
    #[topic]
    pub name: String,
    pub slot: u32,
    pub relays: Vec<Address>,
    pub revision: u64,
}

/// A target chose its first name.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PrimarySet {
    #[topic]
    pub target: Address,
    pub name: String,
    pub slot: u32,
    pub revision: u64,
}

/// A name was given up and can be registered by anybody.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NameReleased {
    #[topic]
    pub name: String,
    #[topic]
    pub owner: Address,
    pub slot: u32,
    pub revision: u64,
}

/// A name claims a custom domain; the proof is in that domain's DNS.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DomainMapped {
    #[topic]
    pub name: String,
    pub slot: u32,
    pub domain: String,
    pub revision: u64,
}

/// A name no longer claims a custom domain.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DomainUnmapped {
    #[topic]
    pub name: String,
    pub slot: u32,
    pub domain: String,
    pub revision: u64,
}

/// The admin set a label aside.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NameReserved {
    #[topic]
    pub name: String,
    pub revision: u64,
}

/// A label can be registered again.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NameUnreserved {
    #[topic]
    pub name: String,
    pub revision: u64,
}

/// The admin stopped a name from resolving.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NameSuspended {
    #[topic]
    pub name: String,
    pub slot: u32,
    pub reason: String,
    pub revision: u64,
}

/// A name resolves again.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NameUnsuspended {
    #[topic]
    pub name: String,
    pub slot: u32,
    pub revision: u64,
}

/// New registrations follow other rules, or the zone is published differently.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamespaceConfigured {
    pub revision: u64,
}

/// The admin took fees out.
#[contractevent]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FeesWithdrawn {
    #[topic]
    pub to: Address,
    pub amount: i128,
    pub revision: u64,
}
