//! What the reader can say about itself: endpoints, ages, agreement. Plain values for `/health`, `status` commands and
//! metrics; nothing here decides anything.

use std::fmt;
use std::mem::{Discriminant, discriminant};
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

/// What anybody may know of a reader: no URLs, which may hold their operators' keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainHealth {
    /// Configured endpoints.
    pub endpoints: usize,
    /// Those of them that count now.
    pub usable: usize,
    /// How many of them must agree.
    pub quorum: usize,
    /// Whether a single endpoint is believed, whatever it says.
    pub trusts_one_endpoint: bool,
    /// Seconds since the ledger of the directory closed.
    pub ledger_age: Option<u64>,
    /// What an operator should look at.
    pub alarms: Vec<Alarm>,
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

impl Alarm {
    /// Every kind, by the name under which metrics show it.
    pub(crate) fn kinds() -> [(Discriminant<Self>, &'static str); 4] {
        [
            (discriminant(&Self::Stale { age: 0 }), "stale"),
            (discriminant(&Self::NoQuorum { usable: 0 }), "no_quorum"),
            (discriminant(&Self::Disagreement { entries: 0 }), "disagreement"),
            (discriminant(&Self::Empty), "empty"),
        ]
    }
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

    /// What anybody may know.
    pub fn health(&self, now: UnixSeconds) -> ChainHealth {
        ChainHealth {
            endpoints: self.endpoints.len(),
            usable: self.usable(),
            quorum: self.quorum,
            trusts_one_endpoint: self.quorum == 1,
            ledger_age: self.age(now).map(|age| age.as_secs()),
            alarms: self.alarms(now),
        }
    }

    /// How many endpoints count now.
    pub fn usable(&self) -> usize {
        self.endpoints.iter().filter(|endpoint| endpoint.usable).count()
    }

    /// Whether every endpoint has spoken or failed, and too few of them are of use.
    pub fn lacks_quorum(&self) -> bool {
        let heard = |endpoint: &EndpointStatus| endpoint.usable || endpoint.last_error.is_some();
        self.endpoints.iter().all(heard) && self.usable() < self.quorum
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
        let usable = self.usable();
        if usable < self.quorum {
            alarms.push(Alarm::NoQuorum { usable });
        }
        if self.disputed > 0 {
            alarms.push(Alarm::Disagreement { entries: self.disputed });
        }
        alarms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_tells_alarms_and_trust_but_no_urls() {
        let endpoint = EndpointStatus {
            url: "https://rpc.example/?key=secret".into(),
            ledger: None,
            usable: false,
            last_error: Some("https://rpc.example/?key=secret: down".into()),
            contradictions: 0,
            calls: (1, 1),
        };
        let mut status = ChainStatus {
            endpoints: vec![endpoint],
            quorum: 1,
            ledger: Some(LedgerTime { sequence: 9, closed_at: UnixSeconds(1_000) }),
            revisions: Some((1, 1)),
            pending: 0,
            disputed: 2,
            ignored_records: 0,
        };
        let health = serde_json::to_value(status.health(UnixSeconds(1_400))).unwrap();
        assert!(!health.to_string().contains("secret"), "{health}");
        assert_eq!(health["trusts_one_endpoint"], true);
        assert_eq!(health["ledger_age"], 400);
        let alarms = serde_json::json!([
            { "alarm": "stale", "age": 400 },
            { "alarm": "no_quorum", "usable": 0 },
            { "alarm": "disagreement", "entries": 2 },
        ]);
        assert_eq!(health["alarms"], alarms);
        status.endpoints[0].usable = true;
        (status.quorum, status.disputed) = (2, 0);
        let health = status.health(UnixSeconds(1_010));
        assert!(!health.trusts_one_endpoint);
        assert_eq!(health.alarms, [Alarm::NoQuorum { usable: 1 }]);
    }
}
