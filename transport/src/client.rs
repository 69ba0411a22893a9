//! The client's end of a session: connect, prove who both sides are, take in visitors' streams.

mod control;
mod handshake;
mod streams;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tunnler_protocol::control::{AcmeValue, AuthFailed, AuthOk, Closing, Limits};
use tunnler_protocol::instance::{InstanceId, SessionId};
use tunnler_protocol::presence::Presence;
use tunnler_protocol::stream::StreamHeader;
use tunnler_protocol::token::Role;
use tunnler_protocol::{Address, HostName, SecretKey, ServiceName, UnixMillis, UnixSeconds};

pub use self::control::{SessionControl, SessionEnded, SessionEvents};
pub use self::streams::IncomingStreams;
use crate::driver;
use crate::link::LinkConfig;
use crate::opener::StreamOpener;
use crate::relay::HANDSHAKE_DEADLINE;
use crate::stream::SessionStream;
use crate::unread::{MemoryBudget, Opener, UnreadLimits};

/// Where a relay is, from its chain record.
#[derive(Clone, Debug)]
pub struct RelayTarget {
    /// The relay's key, which it must prove.
    pub relay: Address,
    /// Its own host: SNI and `Host`, never looked up.
    pub host: HostName,
    /// Addresses with the control port, tried in order.
    pub addresses: Vec<SocketAddr>,
}

/// What a client program's sessions share.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Roots for judging relays' certificates, which only ever leads to a warning; `None` judges nothing.
    pub roots: Option<Arc<RootCertStore>>,
    /// What may lie unread in all sessions together.
    pub budget: Arc<MemoryBudget>,
}

/// Who logs in.
#[derive(Clone, Debug)]
pub struct Login {
    /// The client's key; signs the token of this and later challenges of the session.
    pub key: SecretKey,
    /// Which running copy of the client.
    pub instance: InstanceId,
    /// Which process of it.
    pub session: SessionId,
    /// Services that visitors may reach through this session, at most 16.
    pub services: Vec<ServiceName>,
    /// What is live where; without one the session is attached but not routed.
    pub presence: Option<Presence>,
}

/// A session that a relay accepted. Take it apart: streams and events are read independently.
///
/// The session lives until it is lost, closed, or every [`SessionControl`] of it is dropped. `events` must be read:
/// a session whose events pile up is closed.
#[derive(Debug)]
pub struct ClientSession {
    /// What the relay granted.
    pub auth_ok: AuthOk,
    /// Sends messages; cheap to clone.
    pub control: SessionControl,
    /// Visitors.
    pub streams: IncomingStreams,
    /// What the relay says.
    pub events: SessionEvents,
}

/// A session through which a relay hands visitors to another one. It lives until it is lost, closed, or every
/// [`SessionControl`] of it is dropped. `events` must be read.
#[derive(Debug)]
pub struct ForwarderSession {
    /// Opens visitors' streams.
    pub opener: StreamOpener,
    /// Closes the session; cheap to clone.
    pub control: SessionControl,
    /// What the other relay says.
    pub events: SessionEvents,
}

/// One visitor.
#[derive(Debug)]
pub struct IncomingStream {
    /// Who it is and what it wants, as the relay claims.
    pub header: StreamHeader,
    /// Its bytes.
    pub io: SessionStream,
}

/// What happens to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The relay took over the presence with this sequence number.
    PresenceOk(UnixMillis),
    /// The relay knows a newer presence of this instance: sign one later than this.
    PresenceStale(UnixMillis),
    /// Term mode: a DNS-01 value to sign into the presence.
    AcmeValue(AcmeValue),
    /// The relay closes at this moment; new visitors should go elsewhere.
    Draining(UnixSeconds),
    /// The relay changed what the session may use.
    Limits(Limits),
    /// The relay renewed the session's authority, or changed endpoints or ports.
    Renewed(AuthOk),
    /// The relay refused to renew the session's authority.
    Refused(AuthFailed),
    /// The relay ends the session, for this reason. [`SessionEvent::Lost`] follows.
    Closing(Closing),
    /// The session is over. Always the last event.
    Lost(String),
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No address accepted a TCP connection: try later or another relay.
    #[error("relay {relay} does not answer at {address}: {source}")]
    Unreachable {
        /// The relay.
        relay: Address,
        /// The last address that was tried.
        address: SocketAddr,
        /// What happened there.
        source: io::Error,
    },
    /// The chain record has no usable address.
    #[error("relay {0} has no usable address on chain")]
    NoAddress(Address),
    /// TLS failed.
    #[error("TLS with relay {relay} failed: {source}")]
    Tls {
        /// The relay.
        relay: Address,
        /// Why.
        source: io::Error,
    },
    /// The relay's proof does not fit this TLS channel. Nothing signed was sent.
    #[error("something between you and the relay opens TLS: relay {0} did not sign this channel")]
    Intercepted(Address),
    /// Another relay answered.
    #[error("the address of relay {expected} is served by {found}")]
    WrongRelay {
        /// The relay that was asked for.
        expected: Address,
        /// The one that answered.
        found: Address,
    },
    /// The relay refused the login; `code` says whether another try can help.
    #[error("relay refused the login: {} ({:?})", .0.error, .0.code)]
    Refused(AuthFailed),
    /// The other end does not speak the protocol.
    #[error("relay {relay} does not speak tunnler.v1: {problem}")]
    Protocol {
        /// The relay.
        relay: Address,
        /// What was wrong.
        problem: String,
    },
    /// No session within the deadline (10 s).
    #[error("relay {0} did not complete the handshake within 10 s")]
    Timeout(Address),
}

/// Connects, checks the relay's proof against its key, logs in. Within 10 s.
///
/// # Panics
/// Without a process-wide rustls provider.
pub async fn connect(
    target: &RelayTarget,
    login: Login,
    options: &ConnectOptions,
) -> Result<ClientSession, ConnectError> {
    let attached = attach(target, login, Role::Client, options).await?;
    Ok(ClientSession {
        auth_ok: attached.auth_ok,
        control: attached.control,
        streams: IncomingStreams::new(attached.accepted.expect("the relay opens")),
        events: attached.events,
    })
}

/// Connects one relay to another, to hand visitors to it: the same handshake, but here the side that dials opens
/// streams. `key` is the dialling relay's; the other refuses it unless the chain knows it as active.
///
/// # Panics
/// Without a process-wide rustls provider.
pub async fn connect_forwarder(
    target: &RelayTarget,
    key: SecretKey,
    options: &ConnectOptions,
) -> Result<ForwarderSession, ConnectError> {
    let (instance, session) = (InstanceId(rand::random()), SessionId(rand::random()));
    let login = Login { key, instance, session, services: vec![], presence: None };
    let attached = attach(target, login, Role::Forwarder, options).await?;
    Ok(ForwarderSession { opener: attached.opener, control: attached.control, events: attached.events })
}

struct Attached {
    auth_ok: AuthOk,
    control: SessionControl,
    events: SessionEvents,
    opener: StreamOpener,
    accepted: Option<mpsc::Receiver<SessionStream>>,
}

async fn attach(
    target: &RelayTarget,
    login: Login,
    role: Role,
    options: &ConnectOptions,
) -> Result<Attached, ConnectError> {
    let attempt = handshake::log_in(target, &login, role, options.roots.clone());
    let accepted =
        timeout(HANDSHAKE_DEADLINE, attempt).await.map_err(|_| ConnectError::Timeout(target.relay))??;
    let config = LinkConfig {
        streams: accepted.auth_ok.limits.streams.clamp(1, MOST_STREAMS),
        unread: UnreadLimits::default(),
        budget: options.budget.clone(),
    };
    let opener = match role {
        Role::Client => Opener::Them { at_most: 0 },
        Role::Forwarder => Opener::Us,
    };
    let (ends, driver) = driver::start(accepted.websocket, opener, &config);
    let identity = handshake::Identity { relay: target.relay, exporter: accepted.exporter, login, role };
    let opener = StreamOpener::new(ends.link.clone(), ends.opens);
    let (control, events, conversation) =
        control::start(ends.link.clone(), ends.texts_out, ends.texts_in, identity);
    // Both end with the connection: the conversation when the driver drops its queue.
    let task = tokio::spawn(async move { tokio::join!(driver, conversation) });
    let control = control.owning(Arc::new(AbortOnDropHandle::new(task)));
    Ok(Attached { auth_ok: accepted.auth_ok, control, events, opener, accepted: ends.accepted })
}

/// More streams than this a relay does not get, whatever it grants itself.
const MOST_STREAMS: u32 = 1024;
/// How long a relay may take to send the header of a stream it opened.
const STREAM_HEADER_DEADLINE: Duration = Duration::from_secs(10);
