//! What a relay remembers across restarts: which ports it holds for whom, and which clients it served lately. Losing
//! it costs convenience only, so a file that makes no sense is set aside.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tunnler_edge::Store;
use tunnler_edge::store::StoreError;
use tunnler_protocol::{Address, ServiceName, UnixSeconds};

use crate::forward::served::Served;
use crate::relay::Shared;

const PORTS: &str = "ports.json";
const SERVED: &str = "served.json";

/// A port that is held for a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPort {
    /// The port.
    pub port: u16,
    /// The client it is held for.
    pub client: Address,
    /// Its service.
    pub service: ServiceName,
    /// When the client last asked for it.
    pub asked_at: UnixSeconds,
}

/// Where things are remembered, if anywhere.
pub struct Memory(Option<Store>);

impl Memory {
    /// In `store`.
    pub fn new(store: Option<Store>) -> Self {
        Self(store)
    }

    /// The clients that were served.
    pub fn served(&self) -> Served {
        self.read(SERVED, Served::read).unwrap_or_default()
    }

    fn ports(&self) -> Vec<HeldPort> {
        self.read(PORTS, |bytes| serde_json::from_slice(bytes)).unwrap_or_default()
    }

    fn read<T>(&self, name: &str, parse: impl Fn(&[u8]) -> Result<T, serde_json::Error>) -> Option<T> {
        let store = self.0.as_ref()?;
        let bytes = store.read(name).inspect_err(|error| tracing::warn!(%error, "cannot be read")).ok()??;
        match parse(&bytes) {
            Ok(value) => Some(value),
            Err(error) => {
                let _ = store.set_aside(name, &error);
                None
            }
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let Some(store) = &self.0 else { return };
        if let Err(error @ StoreError { .. }) = store.write(name, bytes) {
            tracing::warn!(%error, "not remembered across a restart");
        }
    }
}

impl Shared {
    /// Takes up what was remembered.
    pub fn remember(self: &Arc<Self>) {
        self.reopen_ports(self.memory.ports());
        for presence in self.served.presences() {
            self.follow_names_of(&presence);
        }
    }

    /// Writes down what is new.
    pub fn write_memory(&self) {
        if let Some(served) = self.served.news() {
            self.memory.write(SERVED, &served);
        }
        if let Some(ports) = self.changed_ports() {
            self.memory.write(PORTS, &serde_json::to_vec(&ports).expect("plain JSON"));
        }
    }
}
