//! The server's sockets with a hand-made snapshot behind them: what resolvers and probes of other makes say.

mod caa;
mod probes;
mod validators;

use std::net::Ipv4Addr;

use arc_swap::ArcSwap;

use super::limit::Rate;
use super::*;
use crate::clock;
use crate::dnssec::keys::ZoneKeys;
use crate::fixture;

/// A served snapshot; it ends with this value.
struct Served {
    address: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(keys: ZoneKeys, rate: Rate) -> Served {
    let shared = Arc::new(ArcSwap::from_pointee(fixture::showcase(clock::unix_now(), keys)));
    let bound = Bound::bind((Ipv4Addr::LOCALHOST, 0).into(), 1).await.unwrap();
    let (address, stop) = (bound.address(), CancellationToken::new());
    bound.serve(&Arc::new(Responder::new(shared, rate)), &TaskTracker::new(), &stop);
    Served { address, stop }
}
