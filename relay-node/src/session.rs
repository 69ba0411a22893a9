//! One client connection from the upgrade to its end: challenge, login, control messages, renewal, expiry.

mod grants;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tunnler_protocol::challenge::Exporter;
use tunnler_protocol::control::{
    AuthFailure, AuthResponse, CloseCode, Closing, PortGrant, ToClient, ToRelay,
};
use tunnler_protocol::presence::Presence;
use tunnler_protocol::stream::StreamHeader;
use tunnler_protocol::token::Role;
use tunnler_protocol::{ServiceName, UnixSeconds};
use tunnler_transport::link::LinkConfig;
use tunnler_transport::relay::{
    Challenge, Challenger, HandshakeError, PendingLogin, RelayControl, RelaySession,
};
use tunnler_transport::{OpenError, Transport, UnreadLimits, Worker};

use crate::clock;
use crate::forward::arrivals;
use crate::ingress::Newcomer;
use crate::limits::shares::Origin;
use crate::login::{Login, ask_in, failed};
use crate::places::{Places, Prospect, Seated};
use crate::relay::Shared;
use crate::sessions::{Attachment, Connection, Refusal};

/// How long streams may go on after their session was replaced or lost its authority to be renewed.
const WIND_DOWN: Duration = Duration::from_secs(30);

/// A client's connection as the table of sessions holds it.
#[derive(Clone, Debug)]
pub struct Line {
    /// The connection itself.
    pub session: RelaySession,
    /// Where it lives.
    pub worker: Worker,
    places: Arc<Places>,
}

impl Line {
    fn new(session: RelaySession, streams: u32) -> Self {
        Self { session, worker: Worker::here(), places: Places::new(streams as usize) }
    }

    /// Opens a stream for a visitor from `origin`. Waits up to 2 s for a place; `displaced` is cancelled when the visitor
    /// must give it up.
    pub async fn open(
        &self,
        header: &StreamHeader,
        origin: Origin,
        displaced: CancellationToken,
    ) -> Result<Seated, OpenError> {
        self.places.seat(origin, displaced, self.session.open(header)).await
    }
}

impl Connection for Line {
    fn streams(&self) -> usize {
        self.session.taken_streams()
    }

    fn prospect(&self, origin: Origin) -> Prospect {
        self.places.prospect(origin)
    }

    fn close(&self, code: CloseCode, text: &str) {
        self.session.close(Closing { code, text: text.into() }, WIND_DOWN);
    }
}

/// Serves one connection on which `/connect` was upgraded: challenges the client unless it brought a `bearer` token.
/// Logs what became of it.
pub async fn serve<S: Transport>(
    shared: Arc<Shared>,
    (io, read_ahead): (S, Vec<u8>),
    exporter: Exporter,
    peer: SocketAddr,
    newcomer: Newcomer,
    bearer: Option<AuthResponse>,
) {
    let arrived = Instant::now();
    let limits = shared.announced();
    let challenger = Challenger::new(shared.key.clone(), exporter, limits);
    let pending = match bearer {
        Some(response) => Ok(PendingLogin::unasked(io, read_ahead, challenger, response)),
        None => PendingLogin::challenge(io, read_ahead, challenger).await,
    };
    let pending = match pending {
        Ok(pending) => pending,
        Err(error) => {
            shared.gate.count_failure(peer.ip());
            let reason = if matches!(error, HandshakeError::Timeout) { "Timeout" } else { "Handshake" };
            metrics::counter!("tunnler_login_failures_total", "reason" => reason).increment(1);
            tracing::debug!(%peer, %error, "no login");
            return;
        }
    };
    let login = if shared.draining.is_cancelled() {
        Err(failed(AuthFailure::Draining, "this relay is about to stop"))
    } else {
        shared.gate.judge(&pending.response, pending.challenge.as_ref(), peer.ip())
    };
    let login = match login {
        Ok(login) => login,
        Err(failure) => {
            tracing::info!(%peer, code = ?failure.code, error = failure.error, "login refused");
            return pending.refuse(failure).await;
        }
    };
    if login.role == Role::Forwarder {
        return arrivals::serve(shared, pending, login.identity.client, login.until, (peer, newcomer)).await;
    }
    let stale = login.presence.clone().and_then(|presence| shared.take_presence(presence).err());
    let config = LinkConfig {
        streams: shared.limits.streams,
        unread: UnreadLimits::default(),
        budget: shared.budget.clone(),
    };
    let (session, accepted) = pending.accept(login.identity.client, &config);
    let (identity, services) = (login.identity.clone(), login.services.clone());
    let line = Line::new(session.clone(), shared.limits.streams);
    let attachment = match shared.sessions.attach(identity, services, line, clock::millis()) {
        Ok(attachment) => attachment,
        Err(refusal) => {
            let text = match refusal {
                Refusal::Full => "this relay holds as many sessions as it can",
                Refusal::TooManyConnections => "this session has as many connections as it may",
            };
            return accepted.refuse(failed(AuthFailure::Full, text)).await;
        }
    };
    let control = accepted.begin(shared.auth_ok(&login.identity, login.until, limits));
    shared.term.look_again();
    drop(newcomer);
    metrics::histogram!("tunnler_login_seconds").record(arrived.elapsed().as_secs_f64());
    if let Some(stale) = stale {
        session.send(&ToClient::PresenceStale(stale));
    }
    let client = login.identity.client;
    tracing::info!(%client, ins = %login.identity.ins, %peer, "session attached");
    let began = Instant::now();
    let until = login.until;
    let actor = Actor {
        shared,
        session,
        control,
        attachment,
        peer,
        until,
        asked: None,
        renewing: false,
        services: login.services,
        ports: vec![],
        allowance: Allowance::new(Instant::now()),
    };
    let end = actor.run().await;
    metrics::counter!("tunnler_sessions_ended_total", "reason" => end.kind()).increment(1);
    metrics::histogram!("tunnler_session_seconds").record(began.elapsed().as_secs_f64());
    tracing::info!(%client, %peer, %end, "session ended");
}

/// Control messages cost signature checks, and presences go to every feed reader: a burst, then one a second.
struct Allowance {
    full_at: Instant,
}

impl Allowance {
    const BURST: u32 = 64;
    const REFILL: Duration = Duration::from_secs(1);

    fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Whether one more message is allowed.
    fn spend(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + Self::REFILL;
        let allowed = full_at <= now + Self::REFILL * Self::BURST;
        if allowed {
            self.full_at = full_at;
        }
        allowed
    }
}

struct Actor {
    shared: Arc<Shared>,
    session: RelaySession,
    control: RelayControl,
    attachment: Attachment<Line>,
    peer: SocketAddr,
    until: UnixSeconds,
    asked: Option<Challenge>,
    renewing: bool,
    services: Vec<ServiceName>,
    ports: Vec<PortGrant>,
    allowance: Allowance,
}

impl Actor {
    async fn run(mut self) -> tunnler_transport::link::End {
        loop {
            let next_step = self.next_step();
            tokio::select! {
                message = self.control.next() => match message {
                    Some(message) if self.allowance.spend(Instant::now()) => self.on_message(message),
                    Some(_) => {
                        let text = "more control messages than this relay answers";
                        let closing = Closing { code: CloseCode::Overloaded, text: text.into() };
                        self.session.close(closing, Duration::ZERO);
                        return self.session.ended().await;
                    }
                    None => return self.session.ended().await,
                },
                () = tokio::time::sleep(next_step) => self.on_time(),
            }
        }
    }

    /// When authority must be asked for, or ends.
    fn next_step(&self) -> Duration {
        let left = self.until.since(clock::seconds());
        if self.renewing {
            return left;
        }
        ask_in(left)
    }

    fn on_time(&mut self) {
        if clock::seconds() >= self.until {
            let closing = Closing {
                code: CloseCode::AuthorityLost,
                text: "the token expired and was not renewed".into(),
            };
            self.session.close(closing, Duration::ZERO);
            // Nothing more to do but to wait for the end.
            self.until = UnixSeconds(u64::MAX);
        } else if !self.renewing {
            let (challenge, message) = self.control.challenger.challenge();
            self.asked = Some(challenge);
            self.renewing = true;
            self.session.send(&message);
        }
    }

    fn on_message(&mut self, message: ToRelay) {
        match message {
            ToRelay::AuthResponse(response) => {
                let Some(challenge) = self.asked.take() else { return };
                let judged = self.shared.gate.judge(&response, Some(&challenge), self.peer.ip());
                let same = |login: &Login| {
                    let (new, old) = (&login.identity, self.attachment.identity());
                    login.role == Role::Client
                        && (new.client, new.ins, new.session) == (old.client, old.ins, old.session)
                };
                match judged {
                    Ok(login) if same(&login) => self.renew(login),
                    Ok(_) => {
                        self.refuse(failed(AuthFailure::Mismatch, "another client, instance or session"))
                    }
                    Err(failure) => self.refuse(failure),
                }
            }
            ToRelay::Presence(update) => self.on_presence(&update.presence),
            ToRelay::Leaving(_) => self.shared.sessions.leave(self.attachment.identity()),
            ToRelay::Ports(ports) => {
                self.ports = self.shared.grant_ports(self.session.client(), &ports.ports, &self.services);
                self.tell_grants();
            }
            // The connection below has dealt with it.
            ToRelay::Reset(_) => {}
        }
    }

    fn renew(&mut self, login: Login) {
        self.attachment.set_services(login.services.clone());
        if let Some(Err(stale)) = login.presence.clone().map(|presence| self.shared.take_presence(presence)) {
            self.session.send(&ToClient::PresenceStale(stale));
        }
        self.until = login.until;
        self.services = login.services;
        self.renewing = false;
        self.tell_grants();
    }

    fn tell_grants(&self) {
        let limits = self.control.challenger.limits();
        let mut auth_ok = self.shared.auth_ok(self.attachment.identity(), self.until, limits);
        auth_ok.ports.clone_from(&self.ports);
        self.session.send(&ToClient::AuthOk(auth_ok));
    }

    fn refuse(&self, failure: tunnler_protocol::control::AuthFailed) {
        tracing::info!(client = %self.attachment.identity().client, code = ?failure.code, "renewal refused");
        self.session.send(&ToClient::AuthFailed(failure));
    }

    fn on_presence(&mut self, text: &str) {
        let identity = self.attachment.identity();
        let presence = match Presence::verify(text, clock::millis()) {
            Ok(presence)
                if presence.claims().iss == identity.client && presence.claims().ins == identity.ins =>
            {
                presence
            }
            Ok(_) => {
                return self
                    .refuse(failed(AuthFailure::Mismatch, "the presence is of another client or instance"));
            }
            Err(error) => return self.refuse(failed(AuthFailure::BadPresence, error)),
        };
        let answer = match self.shared.take_presence(Arc::new(presence)) {
            Ok(ok) => ToClient::PresenceOk(ok),
            Err(stale) => ToClient::PresenceStale(stale),
        };
        self.session.send(&answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_messages_then_one_a_second() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        assert_eq!((0..100).filter(|_| allowance.spend(start)).count(), 64);
        let later = start + Duration::from_secs(3);
        assert_eq!((0..100).filter(|_| allowance.spend(later)).count(), 3);
    }
}
