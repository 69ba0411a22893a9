//! The receiving side: another relay's session, whose streams are visitors that it hands over. They go where this
//! relay's own visitors of that host go, or get the same alert; never to the own host, never to a third relay.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tunnler_protocol::control::{AuthFailed, AuthFailure, AuthOk, CloseCode, Closing, Limits};
use tunnler_protocol::presence::ServiceKind;
use tunnler_protocol::stream::Payload;
use tunnler_protocol::{Address, UnixSeconds};
use tunnler_transport::link::LinkConfig;
use tunnler_transport::relay::{AcceptedLogin, PendingLogin, RelaySession};
use tunnler_transport::{Abort, IncomingStream, IncomingStreams, Transport, UnreadLimits};

use crate::clock;
use crate::ingress::visitor::{Alert, Visitor};
use crate::ingress::{self, HELLO_DEADLINE, Newcomer, count_drop, hello};
use crate::login::failed;
use crate::relay::Shared;

/// What one forwarder may leave unread here: a quarter of a client's.
const UNREAD: UnreadLimits = UnreadLimits { bytes: 4 << 20, frames: 2048 };
/// How long streams may go on after their session was replaced or its token ended.
const WIND_DOWN: Duration = Duration::from_secs(30);

/// The relays that hand visitors to this one, each with its one session.
#[derive(Debug, Default)]
pub struct Forwarders(Mutex<HashMap<Address, (u64, RelaySession)>>);

impl Forwarders {
    /// Closes the sessions of relays that `may` denies.
    pub fn recheck(&self, may: impl Fn(&Address) -> bool) {
        for (relay, (_, session)) in self.lock().iter() {
            if !may(relay) {
                tracing::info!(%relay, "no longer an active relay; its session ends");
                session
                    .close(closing(CloseCode::AuthorityLost, "not an active relay any more"), Duration::ZERO);
            }
        }
    }

    /// Ends every session in order.
    pub fn close(&self) {
        for (_, session) in self.lock().values() {
            session.close(closing(CloseCode::ShuttingDown, "this relay stops"), Duration::ZERO);
        }
    }

    /// Enters a session; the same relay's older one is replaced.
    fn enter(&self, relay: Address, session: &RelaySession, most: usize) -> Option<u64> {
        let mut sessions = self.lock();
        if sessions.len() >= most && !sessions.contains_key(&relay) {
            return None;
        }
        let id = sessions.get(&relay).map_or(0, |(id, _)| id + 1);
        if let Some((_, older)) = sessions.insert(relay, (id, session.clone())) {
            older.close(closing(CloseCode::Superseded, "a newer session of the same relay"), WIND_DOWN);
        }
        Some(id)
    }

    fn leave(&self, relay: &Address, id: u64) {
        let mut sessions = self.lock();
        if sessions.get(relay).is_some_and(|(current, _)| *current == id) {
            sessions.remove(relay);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Address, (u64, RelaySession)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves a relay whose login holds, until its session ends. It was a newcomer at `peer`.
pub async fn serve<S: Transport>(
    shared: Arc<Shared>,
    pending: PendingLogin<S>,
    relay: Address,
    until: UnixSeconds,
    (peer, newcomer): (SocketAddr, Newcomer),
) {
    if relay == shared.address || !shared.is_active_relay(&relay) {
        shared.gate.count_failure(peer.ip());
        tracing::info!(%relay, %peer, "a forwarder that is no active relay is refused");
        return pending.refuse(failed(AuthFailure::Mismatch, "not an active relay of this network")).await;
    }
    let streams = u32::try_from(shared.limits.per_forwarder.at_once).unwrap_or(u32::MAX);
    let limits = Limits { streams, connections: 1, ..shared.announced() };
    let config = LinkConfig { streams, unread: UNREAD, budget: shared.budget.clone() };
    let (session, accepted, arrivals) = pending.accept_forwarder(relay, &config);
    let Some(id) = shared.forwarders.enter(relay, &session, shared.limits.forwarders) else {
        count_drop("forwarders");
        let full = AuthFailed { code: AuthFailure::Full, error: "as many forwarders as it takes".into() };
        return accepted.refuse(full).await;
    };
    drop(newcomer);
    tracing::info!(%relay, %peer, "another relay hands visitors over");
    let ok =
        AuthOk { server_address: shared.address, endpoints: vec![], ports: vec![], limits, expires: until };
    let end = take_in(&shared, session, accepted, ok, arrivals, relay).await;
    shared.forwarders.leave(&relay, id);
    tracing::info!(%relay, %end, "another relay's session ended");
}

async fn take_in(
    shared: &Arc<Shared>,
    session: RelaySession,
    accepted: AcceptedLogin,
    ok: AuthOk,
    mut arrivals: IncomingStreams,
    relay: Address,
) -> tunnler_transport::link::End {
    let until = ok.expires;
    let mut control = accepted.begin(ok);
    let mut visitors = JoinSet::new();
    let expiry = sleep(until.since(clock::seconds()));
    tokio::pin!(expiry);
    let mut expired = false;
    loop {
        tokio::select! {
            arrival = arrivals.next() => match arrival {
                Some(arrival) if visitors.len() < shared.limits.per_forwarder.at_once => {
                    visitors.spawn(welcome(shared.clone(), arrival, relay));
                }
                Some(arrival) => {
                    count_drop("forwarder_at_once");
                    arrival.io.reset();
                }
                None => break,
            },
            // It has nothing to say, but what it says must not pile up.
            Some(_) = control.next() => {}
            Some(_) = visitors.join_next() => {}
            () = &mut expiry, if !expired => {
                expired = true;
                session.close(closing(CloseCode::AuthorityLost, "the token ended; log in again"), WIND_DOWN);
            }
        }
    }
    session.ended().await
}

/// One visitor that `relay` hands over.
async fn welcome(shared: Arc<Shared>, arrival: IncomingStream, relay: Address) {
    let IncomingStream { header, mut io } = arrival;
    let arrived = Instant::now();
    let proper = header.kind == ServiceKind::Http && header.payload == Payload::Untouched;
    if header.forwarder != Some(relay) || !proper {
        tracing::info!(%relay, "a stream whose header is not what a forwarder sends is reset");
        return io.abort();
    }
    let hello = timeout(HELLO_DEADLINE, hello::read(&mut io)).await;
    let visitor = Visitor { io, address: header.visitor, ingress: header.ingress, forwarder: Some(relay) };
    let Ok(Ok(hello)) = hello else { return visitor.io.abort() };
    match hello.host {
        Some(host) if header.host.as_ref() == Some(&host) && host != shared.own_host => {
            ingress::pass(&shared, visitor, hello.raw, host, arrived).await;
        }
        _ => visitor.refuse(Alert::UnrecognizedName).await,
    }
}

fn closing(code: CloseCode, text: &str) -> Closing {
    Closing { code, text: text.into() }
}
