//! Takes the relay in use away, again and again, in six ways: four under steady visits, two where nobody visits.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::process::Command;

use super::{Published, quantile};
use crate::load;
use crate::process::{Signal, run_ok};
use crate::web::SECRET_PHRASE;
use crate::world::World;

const VISITS_A_SECOND: u32 = 10;
/// Time between the restoration of a relay and the next blow: its clients have forgotten the failure by then.
const CALM: Duration = Duration::from_secs(6);
/// After so long without a stream the ends of a session ask each other seldom.
const REST: Duration = Duration::from_secs(40);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// The process dies: its connections are reset.
    Kill,
    /// The process freezes: nothing answers, connections stay.
    Stop,
    /// The same to a session at rest.
    StopAtRest,
    /// Its link is down: nothing arrives or leaves.
    Cut,
    /// The same to a session at rest.
    CutAtRest,
    /// It keeps its sessions and swallows every new visitor.
    Swallow,
}

impl Blow {
    const ALL: [Self; 6] =
        [Self::Kill, Self::Stop, Self::StopAtRest, Self::Cut, Self::CutAtRest, Self::Swallow];

    fn is_slow(self) -> bool {
        matches!(self, Self::StopAtRest | Self::CutAtRest | Self::Swallow)
    }

    /// How long visits go on, if there are any.
    fn visited(self) -> Duration {
        Duration::from_secs(match self {
            Self::Kill => 10,
            Self::Stop | Self::Cut => 20,
            Self::StopAtRest | Self::CutAtRest => 0,
            Self::Swallow => 180,
        })
    }

    /// How long it may take until DNS names two healthy relays: a frozen one is known after 10 s of silence, of a session at
    /// rest after another 38; within three visits of its own name a client leaves a relay that swallows visitors.
    fn patience(self) -> Duration {
        Duration::from_secs(match self {
            Self::Kill => 5,
            Self::Stop | Self::Cut | Self::CutAtRest => 15,
            Self::StopAtRest => 55,
            Self::Swallow => 180,
        })
    }
}

/// Deals `rounds` blows of each kind, of the slow kinds a tenth. True if no visit failed and each relay was left in time.
pub async fn run(dir: &Path, rounds: usize) -> Result<bool> {
    let filter = Filter::new().await?;
    let mut published = Published::start(dir, 4).await?;
    let mut held = true;
    for blow in Blow::ALL {
        let rounds = if blow.is_slow() { rounds.div_ceil(10) } else { rounds };
        let (mut times, mut visits, mut failed, mut slowest) = (Vec::new(), 0, 0, 0_f64);
        for round in 0..rounds {
            let (time, report) = published.suffer(blow, &filter).await?;
            eprintln!("{blow:?} {round}: two healthy relays named after {time:?}; {} visits", report.made);
            report.failures.iter().for_each(|failure| eprintln!("  failed: {failure}"));
            times.push(time.as_secs_f64());
            visits += report.made;
            failed += report.failed;
            slowest = slowest.max(report.max_ms);
        }
        times.sort_by(f64::total_cmp);
        let line = json!({
            "part": "failover", "blow": format!("{blow:?}").to_lowercase(), "rounds": rounds,
            "visits": visits, "failed": failed, "slowest_visit_ms": slowest.round(),
            "two_healthy_s": { "p50": quantile(&times, 0.5), "p99": quantile(&times, 0.99) },
        });
        println!("{line}");
        held &= failed == 0 && times.last().is_none_or(|longest| *longest <= blow.patience().as_secs_f64());
    }
    Ok(held)
}

impl Published {
    /// One blow; returns after how long DNS named two healthy relays, and what visitors met.
    async fn suffer(&mut self, blow: Blow, filter: &Filter) -> Result<(Duration, load::Visits)> {
        self.two_named().await?;
        tokio::time::sleep(CALM).await;
        let index = self.relay_in_use().await?;
        let visited = blow.visited();
        if visited.is_zero() {
            tokio::time::sleep(REST).await;
        }
        let ip = self.world.relays[index].ingress().ip();
        let visits = tokio::spawn({
            let (visitor, host) = (self.visitor.clone(), self.client.host().to_owned());
            async move { load::visit(&visitor, &host, "/", SECRET_PHRASE, VISITS_A_SECOND, visited).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begun = Instant::now();
        match blow {
            Blow::Kill => self.world.relays[index].process.kill().await?,
            Blow::Stop | Blow::StopAtRest => self.world.relays[index].process.signal(Signal::Stop)?,
            Blow::Cut | Blow::CutAtRest => filter.cut(ip).await?,
            Blow::Swallow => filter.swallow(ip).await?,
        }
        World::wait_for("two healthy relays in DNS", blow.patience() * 2, || async {
            let named = self.visitor.addresses(self.client.host()).await.unwrap_or_default();
            named.len() >= 2 && !named.contains(&ip)
        })
        .await?;
        let time = begun.elapsed();
        let visits = visits.await?;
        match blow {
            Blow::Kill => self.restart(index).await?,
            Blow::Stop | Blow::StopAtRest => self.world.relays[index].process.signal(Signal::Continue)?,
            Blow::Cut | Blow::CutAtRest | Blow::Swallow => filter.mend().await?,
        }
        Ok((time, visits))
    }
}

/// Drops packets of one address, in both directions.
struct Filter;

impl Filter {
    async fn new() -> Result<Self> {
        let root = std::fs::read_to_string("/proc/net/dev")?;
        let alone = root.lines().skip(2).all(|line| line.trim_start().starts_with("lo:"));
        ensure!(alone, "not in a network namespace of its own; run: scripts/soak failover");
        nft("add table inet soak").await?;
        for hook in ["input", "output"] {
            nft(&format!("add chain inet soak {hook} {{ type filter hook {hook} priority 0 ; }}")).await?;
        }
        Ok(Self)
    }

    async fn cut(&self, ip: IpAddr) -> Result<()> {
        nft(&format!("add rule inet soak output ip daddr {ip} drop")).await?;
        nft(&format!("add rule inet soak input ip saddr {ip} drop")).await
    }

    /// New connections do not arrive; those that exist live on.
    async fn swallow(&self, ip: IpAddr) -> Result<()> {
        nft(&format!("add rule inet soak output ip daddr {ip} tcp flags & (syn | ack) == syn drop")).await
    }

    async fn mend(&self) -> Result<()> {
        nft("flush table inet soak").await
    }
}

async fn nft(rule: &str) -> Result<()> {
    run_ok(Command::new("nft").arg(rule)).await.map(drop)
}
