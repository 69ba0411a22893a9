//! What a relay allows: the bounds themselves. Who has taken how much of them is counted in [`shares`](self::shares).

pub mod metered;
pub mod shares;

/// What a relay allows. All bounds are per process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at once.
    pub sessions: usize,
    /// Streams at once in one connection of a session.
    pub streams: u32,
    /// Connections of one session (1–4).
    pub connections: u32,
    /// Connections at once that have neither named a host nor logged in.
    pub newcomers: usize,
    /// The same, of one network (IPv4 address or IPv6 /64).
    pub newcomers_per_prefix: usize,
    /// Feed readers that are no servers of the zone.
    pub feed_readers: usize,
    /// Bytes that may lie unread in all sessions together.
    pub memory_budget: usize,
    /// Visitors from one network (IPv4 /24 or IPv6 /56).
    pub per_network: Rule,
    /// Visitors of one name.
    pub per_name: Rule,
    /// Visitors of one client, whatever name they come by.
    pub per_client: Rule,
    /// All visitors.
    pub in_all: Rule,
    /// Relays that hand visitors to this one, at once.
    pub forwarders: usize,
    /// Visitors that one relay hands to this one: a small share.
    pub per_forwarder: Rule,
    /// Whether a token in `Authorization: Bearer` logs in without a challenge.
    pub bearer: Bearer,
}

/// A bound on visitors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Most at once.
    pub at_once: usize,
    /// Most new ones a second, and in one burst.
    pub per_second: u32,
    /// Bytes a second, both ways together; `None` is no bound.
    pub bytes_per_second: Option<u64>,
}

/// Whether logins without a challenge are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bearer {
    /// Every login answers a challenge.
    #[default]
    Refused,
    /// The older way too: whoever sees such a token first may use it, once.
    Accepted,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 10_000,
            streams: 256,
            connections: 4,
            newcomers: 4096,
            newcomers_per_prefix: 1024,
            feed_readers: 8,
            memory_budget: 512 << 20,
            per_network: Rule { at_once: 4096, per_second: 10_000, bytes_per_second: None },
            per_name: Rule { at_once: 4096, per_second: 10_000, bytes_per_second: None },
            per_client: Rule { at_once: 8192, per_second: 10_000, bytes_per_second: None },
            in_all: Rule { at_once: 16_384, per_second: 50_000, bytes_per_second: None },
            forwarders: 64,
            per_forwarder: Rule { at_once: 64, per_second: 64, bytes_per_second: Some(16 << 20) },
            bearer: Bearer::Refused,
        }
    }
}
