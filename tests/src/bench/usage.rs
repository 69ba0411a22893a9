//! What a process uses, from /proc.

use std::time::Duration;

use anyhow::{Context, Result};

/// Ticks of /proc times in a second: fixed at 100 for user space on every architecture that Rust runs on.
const TICKS: f64 = 100.0;

/// Resident memory of process `pid` in bytes.
pub fn resident(pid: u32) -> Result<usize> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: usize = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024)
}

/// Processor time of process `pid` so far.
pub fn processor_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command's name may hold spaces; fields count from the closing parenthesis.
    let (_, fields) = stat.rsplit_once(')').context("unreadable stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks =
        |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).context("no times");
    Ok(Duration::from_secs_f64((ticks(11)? + ticks(12)?) / TICKS))
}
