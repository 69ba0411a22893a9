//! The agreement on TCP ports, kept on disk from one run to the next.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tunnler_protocol::ServiceName;
use tunnler_protocol::ports::Agreement;

use super::TunnelConfig;
use crate::state::StateDir;

const FILE: &str = "ports.json";

/// The ports of this client's TCP services.
pub(super) struct Ports {
    agreement: Agreement,
    services: Vec<ServiceName>,
    kept: BTreeMap<ServiceName, u16>,
    state: Arc<StateDir>,
}

impl Ports {
    /// Goes on from what an earlier run settled.
    pub(super) fn open(config: &TunnelConfig) -> Self {
        let state = config.state.clone();
        // Without the file, or with a broken one, the ports are settled anew.
        let kept = state.store().read(FILE).ok().flatten();
        let kept = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let services: Vec<ServiceName> = config.tcp_services().cloned().collect();
        let agreement =
            Agreement::new(&config.key.address(), services.iter().cloned(), &kept, config.sessions);
        Self { agreement, services, kept, state }
    }

    /// The ports that visitors can use now.
    pub(super) fn usable(&self) -> BTreeMap<ServiceName, u16> {
        let services = self.services.iter();
        services.filter_map(|service| Some((service.clone(), self.agreement.port(service)?))).collect()
    }

    /// Writes down what was settled since the last time.
    pub(super) fn keep(&mut self) {
        let settled = self.agreement.settled();
        if settled.is_empty() || settled == self.kept {
            return;
        }
        let bytes = serde_json::to_vec(&settled).expect("plain JSON");
        if let Err(error) = self.state.store().write(FILE, &bytes) {
            tracing::warn!(%error, "the ports of TCP services are not kept");
        }
        self.kept = settled;
    }
}

impl Deref for Ports {
    type Target = Agreement;

    fn deref(&self) -> &Agreement {
        &self.agreement
    }
}

impl DerefMut for Ports {
    fn deref_mut(&mut self) -> &mut Agreement {
        &mut self.agreement
    }
}
