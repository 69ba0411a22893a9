//! One client under steady visits while a relay dies every few minutes: its memory must stay flat and its certificate
//! be ordered once.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use super::Published;
use crate::load;
use crate::process::Process;
use crate::web::SECRET_PHRASE;

const VISITS_A_SECOND: u32 = 5;
/// Time between two deaths.
const DEATHS: Duration = Duration::from_secs(360);
/// How long a dead relay stays dead.
const ABSENCE: Duration = Duration::from_secs(30);
/// Growth that still counts as flat, beside 10 %: pages of the allocator.
const SLACK: u64 = 6 * 1024 * 1024;

/// Runs for `length`. True if no visit failed, nothing grew and one order was made.
pub async fn run(dir: &Path, length: Duration) -> Result<bool> {
    let mut published = Published::start(dir, 3).await?;
    let orders_of_relays = orders(dir)?.saturating_sub(1);
    let visits = tokio::spawn({
        let (visitor, host) = (published.visitor.clone(), published.client.host().to_owned());
        async move { load::visit(&visitor, &host, "/", SECRET_PHRASE, VISITS_A_SECOND, length).await }
    });
    let begun = Instant::now();
    let (mut client, mut dns) = (Vec::new(), Vec::new());
    let (mut deaths, mut next_death, mut dead) = (0_usize, DEATHS, None);
    while begun.elapsed() + ABSENCE < length {
        tokio::time::sleep(Duration::from_secs(15)).await;
        client.push(resident(&published.client.process)?);
        dns.push(resident(&published.world.dns[0].process)?);
        match dead {
            Some((index, at)) if begun.elapsed() > at => {
                published.restart(index).await?;
                dead = None;
            }
            None if begun.elapsed() > next_death => {
                let index = deaths % published.world.relays.len();
                published.world.relays[index].process.kill().await?;
                deaths += 1;
                next_death += DEATHS;
                dead = Some((index, begun.elapsed() + ABSENCE));
            }
            _ => {}
        }
        if client.len() % 20 == 0 {
            eprintln!("{:?}: client {:?} bytes", begun.elapsed(), client.last());
        }
    }
    let visits = visits.await?;
    visits.failures.iter().for_each(|failure| eprintln!("failed: {failure}"));
    let orders = orders(dir)? - orders_of_relays;
    let flat = is_flat(&client) && is_flat(&dns);
    let line = json!({
        "part": "hour", "minutes": length.as_secs() / 60, "deaths": deaths, "visits": visits.made,
        "failed": visits.failed, "p50_ms": visits.p50_ms.round(), "p99_ms": visits.p99_ms.round(),
        "orders": orders, "client_bytes": summary(&client), "dns_bytes": summary(&dns), "flat": flat,
    });
    println!("{line}");
    Ok(visits.failed == 0 && flat && orders == 1)
}

/// Resident memory of a process in bytes.
fn resident(process: &Process) -> Result<u64> {
    let id = process.id().context("a process ended")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// Whether the last third is no larger than the second one.
fn is_flat(samples: &[u64]) -> bool {
    let third = samples.len() / 3;
    let mean = |part: &[u64]| part.iter().sum::<u64>() / part.len().max(1) as u64;
    let (before, after) = (mean(&samples[third..2 * third]), mean(&samples[2 * third..]));
    after <= before + before / 10 + SLACK
}

fn summary(samples: &[u64]) -> serde_json::Value {
    let at = |part: f64| samples.get(((samples.len() - 1) as f64 * part) as usize);
    json!({ "start": at(0.0), "third": at(0.33), "two_thirds": at(0.66), "end": at(1.0), "most": samples.iter().max() })
}

/// Orders that the certificate authority has taken.
fn orders(dir: &Path) -> Result<usize> {
    Ok(std::fs::read_to_string(dir.join("pebble.log"))?.matches("Added order ").count())
}
