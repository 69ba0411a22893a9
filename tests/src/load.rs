//! Steady visits at a fixed rate, each by a new visitor connection, while something is done to the network.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinSet;

use crate::visitor::Visitor;

/// What steady visits met.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Visits {
    /// Visits made.
    pub made: usize,
    /// Visits that never got the page.
    pub failed: usize,
    /// Visits that needed more than the first address or round.
    pub slow: usize,
    /// Median time to the whole page in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile in milliseconds.
    pub p99_ms: f64,
    /// Slowest visit in milliseconds.
    pub max_ms: f64,
    /// The first few failures in words.
    pub failures: Vec<String>,
    /// Visits answered per relay address.
    pub via: BTreeMap<String, usize>,
}

/// Visits `https://HOST/PATH` `rate` times a second for `duration`; every answer must contain `expected`.
pub async fn visit(
    visitor: &Visitor,
    host: &str,
    path: &'static str,
    expected: &'static str,
    rate: u32,
    duration: Duration,
) -> Visits {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let started = Instant::now();
    let mut visits = JoinSet::new();
    while started.elapsed() < duration {
        ticks.tick().await;
        let (visitor, host) = (visitor.clone(), host.to_owned());
        visits.spawn(async move {
            let begun = Instant::now();
            let result = visitor.get(&host, path).await;
            let result = result.and_then(|answer| {
                let ok =
                    answer.status.is_success() && String::from_utf8_lossy(&answer.body).contains(expected);
                anyhow::ensure!(ok, "unexpected answer {} via {}", answer.status, answer.via);
                Ok(answer.via)
            });
            (begun.elapsed(), result)
        });
    }
    let mut report = Visits::default();
    let mut times = Vec::new();
    for (time, result) in visits.join_all().await {
        report.made += 1;
        times.push(time.as_secs_f64() * 1000.0);
        report.slow += usize::from(time > Duration::from_secs(1));
        match result {
            Ok(via) => *report.via.entry(via.ip().to_string()).or_default() += 1,
            Err(error) => {
                report.failed += 1;
                if report.failures.len() < 5 {
                    report.failures.push(format!("{error:#}"));
                }
            }
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |q: f64| times.get(((times.len() as f64 - 1.0) * q) as usize).copied().unwrap_or_default();
    (report.p50_ms, report.p99_ms, report.max_ms) = (at(0.5), at(0.99), at(1.0));
    report
}
