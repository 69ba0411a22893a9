//! The receiving side: another relay's session, whose streams are visitors that it hands over. They go where this
//! relay's own visitors of that host go, or get the same alert; never to the own host, never to a third relay.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tunnler_protocol::control::{AuthFailed, AuthFailure, AuthOk, CloseCode, Closing, Limits, ToRelay};
use tunnler_protocol::presence::ServiceKind;
use tunnler_protocol::stream::Payload;
use tunnler_protocol::token::Role;
use tunnler_protocol::{Address, UnixSeconds};
use tunnler_transport::link::LinkConfig;
use tunnler_transport::relay::{Challenge, PendingLogin, RelayControl, RelaySession};
use tunnler_transport::{Abort, IncomingStream, IncomingStreams, Transport, UnreadLimits};

use crate::clock;
use crate::ingress::visitor::{Alert, Visitor};
use crate::ingress::{self, HELLO_DEADLINE, Newcomer, count_drop, hello};
use crate::login::{ask_in, failed};
use crate::relay::Shared;

/// What one forwarder may leave unread here: a quarter of a client's.
const UNREAD: UnreadLimits = UnreadLimits { bytes: 4 << 20, frames: 2048 };
/// Control messages between two renewals.
const MOST_MESSAGES: u32 = 64;
/// How long streams may go on after their session was replaced or its token ended.
const WIND_DOWN: Duration = Duration::from_secs(30);

/// The relays that hand visitors to this one, each with its one session.
#[derive(Debug, Default)]
pub struct Forwarders(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    sessions: HashMap<Address, (u64, RelaySession)>,
    next_id: u64,
}

impl Forwarders {
    /// Closes the sessions of relays that `may` denies.
    pub fn recheck(&self, may: impl Fn(&Address) -> bool) {
        for (relay, (_, session)) in &self.lock().sessions {
            if !may(relay) {
                tracing::info!(%relay, "no longer an active relay; its session ends");
                session
                    .close(closing(CloseCode::AuthorityLost, "not an active relay any more"), Duration::ZERO);
            }
        }
    }

    /// Ends every session in order.
    pub fn close(&self) {
        for (_, session) in self.lock().sessions.values() {
            session.close(closing(CloseCode::ShuttingDown, "this relay stops"), Duration::ZERO);
        }
    }

    /// Enters a session; the same relay's older one is replaced.
    fn enter(&self, relay: Address, session: &RelaySession, most: usize) -> Option<u64> {
        let mut entries = self.lock();
        if entries.sessions.len() >= most && !entries.sessions.contains_key(&relay) {
            return None;
        }
        entries.next_id += 1;
        let id = entries.next_id;
        if let Some((_, older)) = entries.sessions.insert(relay, (id, session.clone())) {
            older.close(closing(CloseCode::Superseded, "a newer session of the same relay"), WIND_DOWN);
        }
        Some(id)
    }

    fn leave(&self, relay: &Address, id: u64) {
        let mut entries = self.lock();
        if entries.sessions.get(relay).is_some_and(|(current, _)| *current == id) {
            entries.sessions.remove(relay);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
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
    let control = accepted.begin(ok);
    let mut host =
        Host { shared: shared.clone(), relay, peer, session, control, until, asked: None, heard: 0 };
    let end = host.run(arrivals).await;
    shared.forwarders.leave(&relay, id);
    tracing::info!(%relay, %end, "another relay's session ended");
}

/// What takes the visitors of one forwarder in.
struct Host {
    shared: Arc<Shared>,
    relay: Address,
    peer: SocketAddr,
    session: RelaySession,
    control: RelayControl,
    until: UnixSeconds,
    asked: Option<Challenge>,
    heard: u32,
}

impl Host {
    async fn run(&mut self, mut arrivals: IncomingStreams) -> tunnler_transport::link::End {
        let most = self.shared.limits.per_forwarder.at_once;
        let mut visitors = JoinSet::new();
        loop {
            let left = self.until.since(clock::seconds());
            let next_step = if self.asked.is_some() { left } else { ask_in(left) };
            tokio::select! {
                arrival = arrivals.next() => match arrival {
                    Some(arrival) if visitors.len() < most => {
                        visitors.spawn(welcome(self.shared.clone(), arrival, self.relay));
                    }
                    Some(arrival) => {
                        count_drop("forwarder_at_once");
                        arrival.io.reset();
                    }
                    None => break,
                },
                Some(message) = self.control.next() => self.on_message(message),
                Some(_) = visitors.join_next() => {}
                () = sleep(next_step) => self.on_time(),
            }
        }
        self.session.ended().await
    }

    fn on_time(&mut self) {
        if clock::seconds() < self.until {
            let (challenge, message) = self.control.challenger.challenge();
            self.asked = Some(challenge);
            self.session.send(&message);
        } else {
            self.session.close(closing(CloseCode::AuthorityLost, "the token was not renewed"), WIND_DOWN);
            // Nothing more to do but to wait for the end.
            self.until = UnixSeconds(u64::MAX);
        }
    }

    /// A forwarder only ever renews its token.
    fn on_message(&mut self, message: ToRelay) {
        self.heard += 1;
        if self.heard > MOST_MESSAGES {
            let text = "more control messages than a forwarder has reason to send";
            return self.session.close(closing(CloseCode::Overloaded, text), Duration::ZERO);
        }
        let (ToRelay::AuthResponse(response), Some(challenge)) = (message, self.asked.take()) else { return };
        let judged = self.shared.gate.judge(&response, Some(&challenge), self.peer.ip());
        match judged {
            Ok(login) if login.role == Role::Forwarder && login.identity.client == self.relay => {
                (self.until, self.heard) = (login.until, 0);
            }
            // Not asked again: the session ends with its token.
            _ => self.asked = Some(challenge),
        }
    }
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
