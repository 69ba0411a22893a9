//! What the reader can say about itself: endpoints, ages, agreement. Plain values for `/health`, `status` commands and
//! metrics; nothing here decides anything.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tunnler_protocol::time::{LedgerTime, UnixSeconds};

/// The state of the reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainStatus {
    /// The configured endpoints, in their order.
    pub endpoints: Vec<EndpointStatus>,
    /// How many endpoints must agree on an entry. One means that a single endpoint is fully trusted.
    pub quorum: usize,
    /// The ledger of the directory that is served, if there is one.
    pub ledger: Option<LedgerTime>,
    /// Revisions of Registry and Namespace that the directory covers.
    pub revisions: Option<(u64, u64)>,
    /// Entries that wait for agreement.
    pub pending: usize,
    /// Entries about which endpoints contradict each other; their last agreed state is kept.
    pub disputed: usize,
    /// Records left out because they break the rules of names, hosts or addresses.
    pub ignored_records: usize,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointStatus {
    /// Its URL.
    pub url: String,
    /// The newest ledger it told of.
    pub ledger: Option<LedgerTime>,
    /// Whether its last call succeeded and its ledger is neither stale nor far ahead of the others.
    pub usable: bool,
    /// What went wrong last, until a call succeeds again.
    pub last_error: Option<String>,
    /// Answers that contradicted what the others agree on, since the start.
    pub contradictions: u64,
    /// Calls made and calls that failed, since the start.
    pub calls: (u64, u64),
}

/// Something an operator should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "alarm")]
pub enum Alarm {
    /// The newest known ledger is old: endpoints are down or behind.
    Stale {
        /// Seconds since it closed.
        age: u64,
    },
    /// Fewer usable endpoints than the quorum: nothing new takes effect.
    NoQuorum {
        /// Usable endpoints.
        usable: usize,
    },
    /// Endpoints contradict each other.
    Disagreement {
        /// Entries concerned.
        entries: usize,
    },
    /// Nothing has been read yet.
    Empty,
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale { age } => {
                write!(
                    f,
                    "the newest ledger closed {age} s ago: the endpoints are down or behind; add others"
                )
            }
            Self::NoQuorum { usable } => {
                write!(
                    f,
                    "only {usable} endpoints are usable, fewer than must agree: nothing new takes effect"
                )
            }
            Self::Disagreement { entries } => {
                write!(f, "endpoints contradict each other about {entries} entries: the older state is kept")
            }
            Self::Empty => f.write_str("nothing has been read yet: no endpoint gave a usable answer"),
        }
    }
}

/// Age of the newest ledger at which [`Alarm::Stale`] is raised.
pub const STALE_AFTER: Duration = Duration::from_secs(300);

impl ChainStatus {
    /// Time since the ledger of the directory closed; zero when the clock is behind it.
    pub fn age(&self, now: UnixSeconds) -> Option<Duration> {
        self.ledger.map(|ledger| now.since(ledger.closed_at))
    }

    /// What the endpoints last said, for an error message.
    pub fn problem(&self) -> String {
        let problem = |endpoint: &EndpointStatus| {
            let said =
                endpoint.last_error.as_deref().unwrap_or(if endpoint.usable { "answers" } else { "silent" });
            format!("{}: {said}", endpoint.url)
        };
        let told: Vec<String> = self.endpoints.iter().map(problem).collect();
        format!("{} (agreement of {} needed)", told.join("; "), self.quorum)
    }

    /// What an operator should look at now.
    pub fn alarms(&self, now: UnixSeconds) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        match self.age(now) {
            None => alarms.push(Alarm::Empty),
            Some(age) if age > STALE_AFTER => alarms.push(Alarm::Stale { age: age.as_secs() }),
            Some(_) => {}
        }
        let usable = self.endpoints.iter().filter(|endpoint| endpoint.usable).count();
        if usable < self.quorum {
            alarms.push(Alarm::NoQuorum { usable });
        }
        if self.disputed > 0 {
            alarms.push(Alarm::Disagreement { entries: self.disputed });
        }
        alarms
    }
}
