//! Where things are on the ledger: the ids of the two contracts and the keys of their entries. What the entries hold
//! is in [`registry`] and [`namespace`], mirrors of `contracts/*/src/types.rs`; what they mean is decided elsewhere.

pub(crate) mod namespace;
pub(crate) mod registry;

use stellar_xdr::{
    ContractDataDurability, LedgerEntryData, LedgerKey, LedgerKeyContractData, ScContractInstance, ScMap,
    ScVal,
};
use tunnler_protocol::Address;
use tunnler_protocol::name::Label;
use tunnler_protocol::network::Network;

use crate::error::ChainError;
use crate::value::{address_value, sc_contract, string, variant};

/// The two contracts of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contracts {
    /// TunnelRegistry.
    pub(crate) registry: [u8; 32],
    /// TunnelNamespace.
    pub(crate) namespace: [u8; 32],
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Contract {
    Registry,
    Namespace,
}

/// A piece of the contracts' state that endpoints have to agree on. The first three live inside an instance entry,
/// the others are entries of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    /// The registry's configuration.
    RegistryConfig,
    /// The namespace's zone.
    Zone,
    /// What a registration of a name costs, and its grace.
    Terms,
    /// How the zone is published.
    Publication,
    /// A relay.
    RelaySlot(u32),
    /// A relay's last heartbeat.
    Heartbeat(Address),
    /// The slot of a label.
    Label(Label),
    /// A name.
    NameSlot(u32),
    /// The custom domains of a name.
    Domains(u32),
}

impl Contract {
    /// Position in pairs of both: Registry, Namespace.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Registry => 0,
            Self::Namespace => 1,
        }
    }
}

impl Contracts {
    /// The contracts that a descriptor names.
    pub(crate) fn of(network: &Network) -> Result<Self, ChainError> {
        let id = |key, text: &str| match stellar_strkey::Contract::from_string(text) {
            Ok(id) => Ok(id.0),
            Err(_) => Err(ChainError::ContractId { key, text: text.into() }),
        };
        Ok(Self {
            registry: id("registry", &network.registry)?,
            namespace: id("namespace", &network.namespace)?,
        })
    }

    pub(crate) fn id(&self, contract: Contract) -> [u8; 32] {
        match contract {
            Contract::Registry => self.registry,
            Contract::Namespace => self.namespace,
        }
    }

    pub(crate) fn instance(&self, contract: Contract) -> LedgerKey {
        instance_key(self.id(contract))
    }

    /// The entry of its own that `key` names; `None` for what lives inside an instance.
    pub(crate) fn entry(&self, key: &Key) -> Option<LedgerKey> {
        let (contract, durability, key) = match key {
            Key::RegistryConfig | Key::Zone | Key::Terms => return None,
            Key::Publication => (self.namespace, PERSISTENT, variant("Publication", [])),
            Key::RelaySlot(slot) => (self.registry, PERSISTENT, variant("Slot", [ScVal::U32(*slot)])),
            Key::Heartbeat(relay) => {
                let key = variant("Heartbeat", [address_value(relay)]);
                (self.registry, ContractDataDurability::Temporary, key)
            }
            Key::Label(label) => (self.namespace, PERSISTENT, variant("Label", [string(label.as_str())])),
            Key::NameSlot(slot) => (self.namespace, PERSISTENT, variant("Slot", [ScVal::U32(*slot)])),
            Key::Domains(slot) => (self.namespace, PERSISTENT, variant("Domains", [ScVal::U32(*slot)])),
        };
        Some(LedgerKey::ContractData(LedgerKeyContractData {
            contract: sc_contract(contract),
            key,
            durability,
        }))
    }
}

const PERSISTENT: ContractDataDurability = ContractDataDurability::Persistent;

/// The entry that holds a contract's instance storage.
pub(crate) fn instance_key(contract: [u8; 32]) -> LedgerKey {
    LedgerKey::ContractData(LedgerKeyContractData {
        contract: sc_contract(contract),
        key: ScVal::LedgerKeyContractInstance,
        durability: PERSISTENT,
    })
}

/// The instance storage in an instance entry.
pub(crate) fn instance_storage(data: &LedgerEntryData) -> Option<&ScMap> {
    match data {
        LedgerEntryData::ContractData(entry) => match &entry.val {
            ScVal::ContractInstance(ScContractInstance { storage, .. }) => storage.as_ref(),
            _ => None,
        },
        _ => None,
    }
}
