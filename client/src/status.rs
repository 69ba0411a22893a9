//! What a running tunnel says about itself; also written to `status.json` in the state directory for
//! `tunnler status`. Holds no secrets and no visitors' addresses.

use serde::{Deserialize, Serialize};
use tunnler_protocol::Address;
use tunnler_protocol::agent::State;

use crate::state::{StateDir, StateError};

const FILE: &str = "status.json";

/// A running tunnel at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The client's address.
    pub address: Address,
    /// Name of the network.
    pub network: String,
    /// What the agent is doing.
    pub state: State,
    /// Public URLs, first the main one.
    pub urls: Vec<String>,
    /// Whether visitors are served at all of them: a relay serves, certificates and ports are there.
    pub serving: bool,
    /// Relays in use or tried lately.
    pub relays: Vec<RelayStatus>,
    /// Certificates, one per host.
    pub certificates: Vec<CertificateStatus>,
    /// Visitors' connections open now.
    pub visitors: usize,
    /// Visitors' connections since the start.
    pub visitors_total: u64,
    /// The ledger that the directory in use was read at.
    pub ledger: Option<u32>,
}

/// One relay as this tunnel sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayStatus {
    /// Its address.
    pub relay: Address,
    /// Whether visitors come through it now.
    pub serving: bool,
    /// Visitors' streams open now.
    pub streams: usize,
    /// What went wrong last; empty when nothing did since it last connected.
    pub problem: String,
}

/// One host's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// The host.
    pub host: String,
    /// End of validity in Unix seconds; 0 when there is none yet.
    pub not_after: u64,
    /// What is being done, or went wrong.
    pub state: String,
}

impl Status {
    /// Writes it where [`Status::read`] finds it.
    pub(crate) fn write(&self, state: &StateDir) -> Result<(), StateError> {
        Ok(state.store().write_unsynced(FILE, &serde_json::to_vec_pretty(self).expect("plain JSON"))?)
    }

    /// The status of the tunnel that holds this state directory; `None` when none runs.
    pub fn read(path: &std::path::Path) -> Option<Self> {
        if !StateDir::is_held(path) {
            return None;
        }
        serde_json::from_slice(&std::fs::read(path.join(FILE)).ok()?).ok()
    }
}
