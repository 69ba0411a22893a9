//! Reading the relays' feeds: one task per active relay, kept in step with the chain (DESIGN §7).
//!
//! [`follow`] starts and stops readers; a reader dials ([`dial`]), checks that it speaks with the relay's key, and turns
//! frames into events ([`reader`]). What the events mean is the state's business.

mod backoff;
mod budget;
mod dial;
mod reader;

pub use dial::{DialError, Dialer};

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tunnler_protocol::address::Address;

use crate::state::task::Shared;
use crate::state::{Event, Subscription};

/// A reader that ends with this value.
struct Reader {
    subscription: Subscription,
    task: JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads the feeds that `subscriptions` asks for until `stop`.
pub async fn follow(
    dialer: Arc<Dialer>,
    mut subscriptions: watch::Receiver<Vec<Subscription>>,
    shared: Shared,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
) {
    let mut readers: HashMap<Address, Reader> = HashMap::new();
    loop {
        let wanted: HashMap<Address, Subscription> = {
            let wanted = subscriptions.borrow_and_update();
            wanted.iter().map(|subscription| (subscription.relay.address, subscription.clone())).collect()
        };
        readers.retain(|relay, reader| {
            wanted.get(relay).is_some_and(|wanted| same_feed(wanted, &reader.subscription))
        });
        for (address, subscription) in wanted {
            readers.entry(address).or_insert_with(|| {
                let relay = subscription.relay.clone();
                let reading = reader::read(dialer.clone(), relay, shared.clone(), events.clone());
                Reader { subscription, task: tokio::spawn(reading) }
            });
        }
        metrics::gauge!("tunnler_dns_feeds_followed").set(readers.len() as f64);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = subscriptions.changed() => if changed.is_err() { return },
        }
    }
}

/// Whether the same reader serves both: the same relay at the same place, not started over.
fn same_feed(a: &Subscription, b: &Subscription) -> bool {
    let place = |s: &Subscription| (s.relay.ipv4, s.relay.ipv6, s.relay.control_port, s.relay.host.clone());
    a.generation == b.generation && place(a) == place(b)
}
