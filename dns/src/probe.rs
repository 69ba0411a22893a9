//! A light look at each relay's ingress: does it still answer TLS for its own host? A relay that reports sessions but
//! serves nobody is put behind the others; it is never withdrawn for that alone (DESIGN §7).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tunnler_protocol::address::Address;
use tunnler_protocol::directory::Relay;
use tunnler_protocol::live::Probe;
use tunnler_transport::tls;

use crate::state::task::Shared;
use crate::state::{Event, Subscription};

/// How long one handshake may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Handshakes at once.
const AT_ONCE: usize = 64;
/// Failures in a row until a relay counts as failing, and successes in a row until it serves again.
const FAILURES: u32 = 3;
const SUCCESSES: u32 = 2;

/// Whether and how often relays are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probing {
    /// Never.
    Off,
    /// Each relay about that often.
    Every(Duration),
}

/// What a row of looks amounts to.
#[derive(Debug)]
struct Hysteresis {
    says: Probe,
    against: u32,
}

impl Hysteresis {
    fn new() -> Self {
        Self { says: Probe::Serves, against: 0 }
    }

    /// Takes in one look and returns the verdict if that changed it.
    fn see(&mut self, seen: Probe) -> Option<Probe> {
        if seen == self.says {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let enough = if seen == Probe::Fails { FAILURES } else { SUCCESSES };
        if self.against < enough {
            return None;
        }
        *self = Self { says: seen, against: 0 };
        Some(seen)
    }
}

/// A task that ends with this value.
struct Prober {
    relay: Arc<Relay>,
    task: JoinHandle<()>,
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Probes the relays that `subscriptions` names until `stop`.
pub async fn follow(
    every: Duration,
    mut subscriptions: watch::Receiver<Vec<Subscription>>,
    shared: Shared,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
) {
    let (config, _) = tls::client_config(None);
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut probers: HashMap<Address, Prober> = HashMap::new();
    loop {
        let wanted: HashMap<Address, Arc<Relay>> = {
            let wanted = subscriptions.borrow_and_update();
            wanted.iter().map(|wanted| (wanted.relay.address, wanted.relay.clone())).collect()
        };
        let place = |relay: &Relay| (relay.ipv4, relay.ipv6, relay.ingress_port, relay.host.clone());
        probers.retain(|address, prober| {
            wanted.get(address).is_some_and(|relay| place(relay) == place(&prober.relay))
        });
        for (address, relay) in wanted {
            probers.entry(address).or_insert_with(|| {
                let look = Look { relay: relay.clone(), shared: shared.clone(), config: config.clone() };
                let task = tokio::spawn(look.repeat(every, at_once.clone(), events.clone()));
                Prober { relay, task }
            });
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = subscriptions.changed() => if changed.is_err() { return },
        }
    }
}

struct Look {
    relay: Arc<Relay>,
    shared: Shared,
    config: Arc<ClientConfig>,
}

impl Look {
    async fn repeat(self, every: Duration, at_once: Arc<Semaphore>, events: mpsc::Sender<Event>) {
        let mut hysteresis = Hysteresis::new();
        loop {
            tokio::time::sleep(every.mul_f64(0.5 + rand::random::<f64>())).await;
            let Ok(_permit) = at_once.acquire().await else { return };
            let seen = match timeout(DEADLINE, self.once()).await {
                Ok(Some(())) => Probe::Serves,
                _ => Probe::Fails,
            };
            let Some(verdict) = hysteresis.see(seen) else { continue };
            tracing::info!(relay = %self.relay.address, ?verdict, "probe of the ingress");
            if events.send(Event::Probe(self.relay.address, verdict)).await.is_err() {
                return;
            }
        }
    }

    /// Completes one TLS handshake with the relay's ingress at any of its addresses.
    async fn once(&self) -> Option<()> {
        let zone = self.shared.load().zone.clone()?;
        let policy = self.shared.load().terms.policy;
        let host = self.relay.own_host(&zone.directory.zone.zone);
        let name = ServerName::try_from(host.as_str().to_owned()).ok()?;
        for ip in self.relay.addresses(policy) {
            let address = SocketAddr::new(ip, self.relay.ingress_port);
            let Ok(tcp) = TcpStream::connect(address).await else { continue };
            if TlsConnector::from(self.config.clone()).connect(name.clone(), tcp).await.is_ok() {
                return Some(());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_needs_a_row_and_so_does_its_reversal() {
        use Probe::{Fails, Serves};
        let mut hysteresis = Hysteresis::new();
        let verdicts: Vec<_> =
            [Fails, Fails, Serves, Fails, Fails, Fails, Serves, Fails, Serves, Serves, Serves, Fails]
                .into_iter()
                .map(|seen| hysteresis.see(seen))
                .collect();
        let changes: Vec<_> = verdicts.iter().enumerate().filter_map(|(i, v)| v.map(|v| (i, v))).collect();
        assert_eq!(changes, [(5, Fails), (9, Serves)]);
    }
}
