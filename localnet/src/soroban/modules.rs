//! Parsed contract modules, kept from one transaction to the next.
//!
//! Simulation prices an instantiation as cached, as validators do; without this cache an invocation would run out of
//! its own simulated budget. Modules are added with their upload and never dropped (code is never replaced).

use soroban_env_host::storage::Storage;
use soroban_env_host::{Host, ModuleCache};
use stellar_xdr::{LedgerEntry, LedgerEntryChange, LedgerEntryData};

use super::Prices;
use crate::genesis;

/// The module cache.
#[derive(Clone)]
pub(crate) struct Modules {
    cache: ModuleCache,
}

impl Modules {
    /// An empty cache.
    pub(crate) fn new(prices: &Prices) -> Self {
        let cache = ModuleCache::new(&parsing_host(prices)).expect("an empty module cache can be made");
        Self { cache }
    }

    /// A handle on the cache for one invocation.
    pub(crate) fn handle(&self) -> ModuleCache {
        self.cache.clone()
    }

    /// Parses the code that these changes brought.
    pub(crate) fn follow(&self, changes: &[LedgerEntryChange], prices: &Prices) {
        for change in changes {
            if let LedgerEntryChange::Created(entry) | LedgerEntryChange::Restored(entry) = change {
                self.add(entry, prices);
            }
        }
    }

    /// Parses an entry's code, if it is code.
    pub(crate) fn add(&self, entry: &LedgerEntry, prices: &Prices) {
        if let LedgerEntryData::ContractCode(code) = &entry.data
            && let Err(error) = self.cache.parse_and_cache_module_simple(
                &parsing_host(prices),
                genesis::PROTOCOL,
                code.code.as_slice(),
            )
        {
            // The host checked it at upload; calling it will say the same again.
            tracing::warn!(hash = %code.hash, ?error, "contract code does not parse");
        }
    }
}

fn parsing_host(prices: &Prices) -> Host {
    Host::with_storage_and_budget(Storage::default(), super::budget(prices, u64::MAX, u64::MAX))
}
