//! What the agent is told and what it says: configuration, events, actions, states.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::control::AuthFailure;
use crate::directory::{Directory, Relay};
use crate::selection::Policy;

/// What the agent is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Sessions to hold, at least one.
    pub sessions: usize,
    /// Which relays may be used.
    pub policy: Policy,
    /// Differs between clients and runs.
    pub seed: u64,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The chain says this now.
    Directory(Arc<Directory>),
    /// A round-trip time was measured; `None`: no answer.
    Measured(Address, Option<Duration>),
    /// A session began.
    Connected(Address),
    /// A dial led to nothing.
    DialFailed(Address, DialFailure),
    /// A session is over.
    Lost(Address, Loss),
    /// The relay will close at this moment.
    Draining(Address, Instant),
    /// The relay knows a newer presence of this instance than it was sent.
    Stale(Address),
    /// The relay cannot carry a service that other relays in use carry.
    Unsuitable(Address),
    /// A visit of the own name through this relay.
    Visited(Address, Visit),
    /// An interface changed or the machine slept: what was learnt about reachability is void.
    NetworkChanged,
    /// The user wants to end.
    Stop,
}

/// Why a dial led to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialFailure {
    /// No connection, or no answer in time.
    Unreachable,
    /// Somebody else answers there.
    Untrusted,
    /// The relay refused the login.
    Refused(AuthFailure),
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The connection broke or fell silent.
    Broken,
    /// The relay closed it in order.
    Closed,
    /// Another process with the same instance took over.
    Superseded,
    /// It ended because the agent asked for it.
    Asked,
}

/// How a visit of the own name went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// The own certificate answered.
    Arrived,
    /// Nothing, or something else, answered.
    Swallowed,
    /// It could not be tried (no certificate yet).
    Untried,
}

/// What is to be done. Each action is done once, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Measure the round-trip times to these relays.
    Measure(Vec<Arc<Relay>>),
    /// Make a session with this relay.
    Dial(Arc<Relay>),
    /// Sign and send a presence with these relays, to all sessions.
    Publish(Vec<Address>),
    /// End this session once its streams are done, at the latest after this time.
    Close(Address, Duration),
    /// Visit the own name through this relay.
    Visit(Arc<Relay>),
    /// End this session unless its relay gives a sign of life within this time.
    Check(Address, Duration),
    /// Draw a new instance before anything else is signed.
    NewInstance,
}

/// The agent's state as users see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not started, or stopped.
    Disconnected,
    /// Looking for relays.
    Connecting,
    /// Logging in at the first relay.
    Authenticating,
    /// At least one relay serves.
    Connected,
    /// None serves any more; trying to get one.
    Reconnecting,
    /// No relay can be used at all; see the ranking for reasons.
    Error,
}
