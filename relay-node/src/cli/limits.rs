//! The `[limits]` table of the configuration file: what is not named there keeps its default.

use serde::Deserialize;

use super::config::ConfigError;
use crate::limits::{Bearer, Limits, Rule};

/// The table as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    streams: Option<u32>,
    connections: Option<u32>,
    newcomers: Option<usize>,
    newcomers_per_network: Option<usize>,
    feed_readers: Option<usize>,
    memory_mib: Option<usize>,
    forwarders: Option<usize>,
    bearer_tokens: bool,
    network: RawRule,
    name: RawRule,
    client: RawRule,
    all: RawRule,
    forwarder: RawRule,
}

/// A bound on visitors as written; 0 bytes a second is no bound.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRule {
    at_once: Option<usize>,
    per_second: Option<u32>,
    bytes_per_second: Option<u64>,
}

/// Slower than this nobody is served.
const SLOWEST: u64 = 16 * 1024;

impl RawLimits {
    /// The bounds of a relay that holds `sessions`.
    pub fn resolve(self, sessions: usize) -> Result<Limits, ConfigError> {
        let usual = Limits::default();
        let memory = self.memory_mib.map_or(usual.memory_budget, |mib| mib.saturating_mul(1 << 20));
        let limits = Limits {
            sessions,
            streams: self.streams.unwrap_or(usual.streams),
            connections: self.connections.unwrap_or(usual.connections),
            newcomers: self.newcomers.unwrap_or(usual.newcomers),
            newcomers_per_prefix: self.newcomers_per_network.unwrap_or(usual.newcomers_per_prefix),
            feed_readers: self.feed_readers.unwrap_or(usual.feed_readers),
            memory_budget: memory,
            per_network: self.network.resolve(usual.per_network)?,
            per_name: self.name.resolve(usual.per_name)?,
            per_client: self.client.resolve(usual.per_client)?,
            in_all: self.all.resolve(usual.in_all)?,
            forwarders: self.forwarders.unwrap_or(usual.forwarders),
            per_forwarder: self.forwarder.resolve(usual.per_forwarder)?,
            bearer: if self.bearer_tokens { Bearer::Accepted } else { Bearer::Refused },
        };
        let bounds = [
            ((1..=1024).contains(&limits.streams), "limits.streams: between 1 and 1024"),
            ((1..=4).contains(&limits.connections), "limits.connections: between 1 and 4"),
            (limits.newcomers > 0, "limits.newcomers: at least 1"),
            (limits.newcomers_per_prefix > 0, "limits.newcomers_per_network: at least 1"),
            (limits.memory_budget >= 16 << 20, "limits.memory_mib: at least 16"),
        ];
        match bounds.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(ConfigError::Value(rule)),
            None => Ok(limits),
        }
    }
}

impl RawRule {
    fn resolve(self, usual: Rule) -> Result<Rule, ConfigError> {
        let rule = Rule {
            at_once: self.at_once.unwrap_or(usual.at_once),
            per_second: self.per_second.unwrap_or(usual.per_second),
            bytes_per_second: match self.bytes_per_second {
                None => usual.bytes_per_second,
                Some(0) => None,
                Some(rate) => Some(rate),
            },
        };
        if rule.at_once == 0 || rule.per_second == 0 {
            return Err(ConfigError::Value("limits: at_once and per_second are at least 1"));
        }
        if rule.bytes_per_second.is_some_and(|rate| rate < SLOWEST) {
            return Err(ConfigError::Value("limits: bytes_per_second is at least 16384, or 0 for no bound"));
        }
        Ok(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Limits, ConfigError> {
        toml::from_str::<RawLimits>(text).unwrap().resolve(7)
    }

    #[test]
    fn what_is_not_named_keeps_its_default() {
        assert_eq!(read("").unwrap(), Limits { sessions: 7, ..Limits::default() });
        let text = "streams = 9\nbearer_tokens = true\n[name]\nat_once = 5\nbytes_per_second = 100000\n[forwarder]\nbytes_per_second = 0";
        let limits = read(text).unwrap();
        let usual = Limits::default();
        let name = Rule { at_once: 5, bytes_per_second: Some(100_000), ..usual.per_name };
        assert_eq!((limits.streams, limits.per_name, limits.bearer), (9, name, Bearer::Accepted));
        assert_eq!(limits.per_forwarder, Rule { bytes_per_second: None, ..usual.per_forwarder });
        assert_eq!(limits.per_client, usual.per_client);
    }

    #[test]
    fn the_operators_guide_shows_the_defaults() {
        #[derive(Deserialize)]
        struct File {
            limits: RawLimits,
        }
        let guide = include_str!("../../../docs/operator.md");
        let (_, rest) = guide.split_once("```toml\n[limits]").expect("a table of limits");
        let (table, _) = rest.split_once("```").expect("its end");
        let file: File = toml::from_str(&format!("[limits]{table}")).unwrap();
        assert_eq!(file.limits.resolve(7).unwrap(), Limits { sessions: 7, ..Limits::default() });
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            "streams = 0",
            "connections = 5",
            "memory_mib = 1",
            "[all]\nper_second = 0",
            "[name]\nbytes_per_second = 1",
        ];
        for text in cases {
            assert!(read(text).unwrap_err().to_string().starts_with("limits"), "{text}");
        }
        assert!(toml::from_str::<RawLimits>("[visitor]\nat_once = 1").is_err());
    }
}
