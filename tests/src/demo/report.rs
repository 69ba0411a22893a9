//! What the demonstration measured: a table for people, JSON for machines.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::load::Visits;

/// The measurements in the order they were made.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Each step's result.
    pub measures: Vec<Measure>,
}

/// One result.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Measure {
    /// Something that must hold.
    Check {
        /// What.
        what: String,
        /// Whether it held.
        held: bool,
    },
    /// How long something took.
    Time {
        /// What.
        what: String,
        /// Seconds.
        seconds: f64,
    },
    /// How fast bytes moved.
    Rate {
        /// What.
        what: String,
        /// 10⁶ bytes per second.
        megabytes_per_second: f64,
    },
    /// Steady visits while a relay was taken away.
    Visits {
        /// How it was taken away.
        what: String,
        /// What the visitors met.
        visits: Visits,
    },
}

impl Report {
    /// Whether everything that must hold held.
    pub fn passed(&self) -> bool {
        !self.measures.iter().any(|measure| matches!(measure, Measure::Check { held: false, .. }))
    }

    pub(super) fn check(&mut self, what: &str, held: bool) {
        self.measures.push(Measure::Check { what: what.into(), held });
    }

    pub(super) fn time(&mut self, what: &str, time: Duration) {
        self.measures.push(Measure::Time { what: what.into(), seconds: time.as_secs_f64() });
    }

    pub(super) fn rate(&mut self, what: &str, bytes: usize, time: Duration) {
        let megabytes_per_second = bytes as f64 / 1e6 / time.as_secs_f64();
        self.measures.push(Measure::Rate { what: what.into(), megabytes_per_second });
    }

    pub(super) fn visits(&mut self, what: &str, visits: Visits) {
        self.measures.push(Measure::Visits { what: what.into(), visits });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for measure in &self.measures {
            match measure {
                Measure::Check { what, held } => {
                    writeln!(f, "  {:>12}  {what}", if *held { "ok" } else { "FAILED" })
                }
                Measure::Time { what, seconds } => writeln!(f, "  {seconds:>10.2} s  {what}"),
                Measure::Rate { what, megabytes_per_second } => {
                    writeln!(f, "  {megabytes_per_second:>7.0} MB/s  {what}")
                }
                Measure::Visits { what, visits } => {
                    let Visits { made, failed, slow, p50_ms, p99_ms, max_ms, .. } = visits;
                    writeln!(
                        f,
                        "  {made:>5} visits  {what}: {failed} failed, {slow} over 1 s; p50 {p50_ms:.0} ms, p99 {p99_ms:.0} ms, slowest {max_ms:.0} ms"
                    )?;
                    visits.failures.iter().try_for_each(|failure| writeln!(f, "                {failure}"))
                }
            }?;
        }
        writeln!(
            f,
            "\n  {}",
            if self.passed() { "The name never went away." } else { "Something did not hold." }
        )
    }
}
