//! Carries out the reader's calls on one endpoint: keys to ledger keys, entries to values. No decision is taken here.

use std::collections::HashMap;
use std::sync::Arc;

use stellar_xdr::{LedgerEntryData, LedgerKey, ScMap};

use crate::contract::{Contract, Contracts, Key, instance_storage};
use crate::reader::cell::Value;
use crate::reader::endpoint::ContractHead;
use crate::reader::hints::Hint;
use crate::reader::{Answer, Call, Head, Page};
use crate::rpc::{Entries, EventsFrom, Failure, Rpc};
use crate::value::{Fields, FromValue, to_xdr};

/// Events in one page.
const EVENTS_PER_PAGE: usize = 1000;

/// Makes `call` at `rpc`.
pub(crate) async fn fetch(rpc: &Rpc, contracts: &Contracts, call: &Call) -> Result<Answer, Failure> {
    match call {
        Call::Network => rpc.network().await.map(Answer::Network),
        Call::Head(keys) => head(rpc, contracts, keys).await,
        Call::Entries(keys) => {
            let read = Read::of(rpc, contracts, keys).await?;
            let values = keys.iter().map(|key| (key.clone(), read.value(contracts, key))).collect();
            Ok(Answer::Entries { ledger: read.ledger, values })
        }
        Call::Events(from) => events(rpc, contracts, from).await,
    }
}

async fn head(rpc: &Rpc, contracts: &Contracts, keys: &[Key]) -> Result<Answer, Failure> {
    const WITH_HEAD: [Key; 4] = [Key::RegistryConfig, Key::Zone, Key::Terms, Key::Publication];
    let health = rpc.health().await?;
    let keys: Vec<Key> = WITH_HEAD.into_iter().chain(keys.iter().cloned()).collect();
    let read = Read::of(rpc, contracts, &keys).await?;
    let registry = read.contract_head(contracts, Contract::Registry, "Count");
    let namespace = read.contract_head(contracts, Contract::Namespace, "Next");
    let values = keys.iter().map(|key| (key.clone(), read.value(contracts, key))).collect();
    let contracts = registry.zip(namespace).map(|(registry, namespace)| [registry, namespace]);
    Ok(Answer::Head(Box::new(Head { health, ledger: read.ledger, contracts, values })))
}

async fn events(rpc: &Rpc, contracts: &Contracts, from: &EventsFrom) -> Result<Answer, Failure> {
    let id = |id: [u8; 32]| stellar_strkey::Contract(id).to_string().as_str().to_owned();
    let ids = [id(contracts.registry), id(contracts.namespace)];
    let page = rpc.events(from, &ids, EVENTS_PER_PAGE).await?;
    let hint = |event: &stellar_rpc_client::Event| {
        let contract = match &event.contract_id {
            id if *id == ids[0] => Contract::Registry,
            id if *id == ids[1] => Contract::Namespace,
            _ => return None,
        };
        Some(Hint::of_event(contract, event))
    };
    let hints = page.events.iter().filter_map(hint).collect();
    let full = page.events.len() >= EVENTS_PER_PAGE;
    Ok(Answer::Events(Page { hints, full, cursor: page.cursor, latest: page.latest_ledger }))
}

/// The entries of one reply.
struct Read {
    ledger: u32,
    entries: HashMap<LedgerKey, (LedgerEntryData, u32)>,
}

impl Read {
    async fn of(rpc: &Rpc, contracts: &Contracts, keys: &[Key]) -> Result<Self, Failure> {
        let mut asked: Vec<LedgerKey> = keys.iter().map(|key| ledger_key(contracts, key)).collect();
        asked.sort_unstable();
        asked.dedup();
        let Entries { ledger, entries } = rpc.entries(&asked).await?;
        let found = asked.into_iter().zip(entries);
        let found = found.filter_map(|(key, entry)| entry.map(|entry| (key, (entry.data, entry.modified))));
        Ok(Self { ledger, entries: found.collect() })
    }

    fn value(&self, contracts: &Contracts, key: &Key) -> Option<Value> {
        let (contract, name) = match key {
            Key::RegistryConfig => (Contract::Registry, "Config"),
            Key::Zone => (Contract::Namespace, "Zone"),
            Key::Terms => (Contract::Namespace, "Terms"),
            _ => {
                let (LedgerEntryData::ContractData(entry), modified) =
                    self.entries.get(&ledger_key(contracts, key))?
                else {
                    return None;
                };
                return Some(Value { modified: *modified, bytes: Arc::from(to_xdr(&entry.val)) });
            }
        };
        let value = Fields::of_map(self.storage(contracts, contract)?).variant(name)?;
        Some(Value { modified: 0, bytes: Arc::from(to_xdr(value)) })
    }

    fn contract_head(&self, contracts: &Contracts, contract: Contract, slots: &str) -> Option<ContractHead> {
        let fields = Fields::of_map(self.storage(contracts, contract)?);
        // A contract that was never changed has not written them yet.
        let revision = fields.variant("Revision").map_or(Ok(0), u64::from_value).ok()?;
        let slots = fields.variant(slots).map_or(Ok(0), u32::from_value).ok()?;
        Some(ContractHead { revision, slots })
    }

    fn storage(&self, contracts: &Contracts, contract: Contract) -> Option<&ScMap> {
        instance_storage(&self.entries.get(&contracts.instance(contract))?.0)
    }
}

/// The entry that holds `key`.
fn ledger_key(contracts: &Contracts, key: &Key) -> LedgerKey {
    contracts.entry(key).unwrap_or_else(|| match key {
        Key::RegistryConfig => contracts.instance(Contract::Registry),
        _ => contracts.instance(Contract::Namespace),
    })
}
