//! Hosts whose TLS relays end (term mode): looks at them from outside, as visitors do, because their certificates lie
//! with the relays. Never holds or judges a key.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tunnler_chain::ChainHandle;
use tunnler_protocol::HostName;
use tunnler_protocol::directory::AddressPolicy;

use super::probe::{self, Shown};
use super::{TunnelEvent, certificates};
use crate::status::{CertificateStatus, Status};

/// Time between two looks while a relay lacks a certificate, and afterwards.
const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(60);
/// Looks soon in a row; then relays without certificates are looked at less often.
const EAGER: u32 = 120;

/// What looking needs.
pub(super) struct Looking {
    pub(super) hosts: Vec<HostName>,
    pub(super) chain: ChainHandle,
    pub(super) policy: AddressPolicy,
    pub(super) status: watch::Receiver<Status>,
    pub(super) overview: Arc<watch::Sender<Vec<CertificateStatus>>>,
    pub(super) events: broadcast::Sender<TunnelEvent>,
}

/// What relays show for one host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    relays: usize,
    /// Relays with a certificate for the host.
    ready: usize,
    /// The end of the one that ends first, in Unix seconds.
    not_after: u64,
}

impl Looking {
    /// Looks until dropped.
    pub(super) async fn run(mut self) {
        let mut eager = EAGER;
        loop {
            let serving = self.serving();
            let mut all_ready = !serving.is_empty();
            for host in &self.hosts {
                let tally = look(host, &serving).await;
                all_ready &= tally.ready == tally.relays;
                self.tell(host, tally);
            }
            eager = if all_ready { EAGER } else { eager.saturating_sub(1) };
            let pause = if all_ready || eager == 0 { LATER } else { SOON };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = other_count(&mut self.status, serving.len()) => {
                    eager = EAGER;
                    tokio::time::sleep(SOON).await;
                }
            }
        }
    }

    /// The ingress addresses of each relay that serves.
    fn serving(&self) -> Vec<Vec<SocketAddr>> {
        let Some(directory) = self.chain.directory() else { return Vec::new() };
        let status = self.status.borrow();
        let serving = status.relays.iter().filter(|relay| relay.serving);
        let relays = serving.filter_map(|relay| directory.relays.get(&relay.relay));
        let ingress = relays.map(|relay| {
            relay.addresses(self.policy).map(|ip| SocketAddr::new(ip, relay.ingress_port)).collect()
        });
        ingress.collect()
    }

    fn tell(&self, host: &HostName, tally: Tally) {
        let what = match tally {
            Tally { relays: 0, .. } => "TLS ends at relays; none serves".to_owned(),
            Tally { ready: 0, .. } => "TLS ends at relays; they have no certificate yet".to_owned(),
            Tally { relays, ready, .. } => {
                format!("TLS ends at relays; {ready} of {relays} have certificates")
            }
        };
        let changed = self.overview.send_if_modified(|all| {
            certificates::update(all, host, &what, Some(tally.not_after).filter(|_| tally.relays > 0))
        });
        if changed {
            let _ = self.events.send(TunnelEvent::Certificate { host: host.clone(), what });
        }
    }
}

/// Returns when another number of relays serves.
async fn other_count(status: &mut watch::Receiver<Status>, count: usize) {
    let serving = |status: &Status| status.relays.iter().filter(|relay| relay.serving).count();
    if status.wait_for(|status| serving(status) != count).await.is_err() {
        std::future::pending().await
    }
}

async fn look(host: &HostName, serving: &[Vec<SocketAddr>]) -> Tally {
    let mut tally = Tally { relays: serving.len(), ..Tally::default() };
    for ingress in serving {
        if let Shown::Certificate(until) = probe::look(ingress, host).await {
            let first = if tally.ready == 0 { until.0 } else { tally.not_after.min(until.0) };
            tally = Tally { ready: tally.ready + 1, not_after: first, ..tally };
        }
    }
    tally
}
