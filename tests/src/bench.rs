//! Our data path beside its peers: the same visitors, upstreams and machine, in interleaved rounds.
//!
//! Relays and clients are the release programs on a local ledger. Speed is reported as medians and ratios; what a user
//! must be able to rely on is a bar.

pub mod bare;
mod link;
pub mod peers;
pub mod report;
pub mod roles;
pub mod sessions;
mod stand;
pub mod usage;
pub mod visits;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process::Scratch;
use report::{Report, Strictness, Wanted};
use stand::{
    BARE, DIRECT, EDGE, FAR, Measured, NGINX, NGINX_RATHOLE, PASS, Path, RATHOLE, RATHOLE_AS_IT_COMES,
    RATHOLE_WS, RATHOLE_WS_AS_IT_COMES, Stand, TCP, TERM,
};
use visits::Way;

/// How long and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rounds, each over all paths.
    pub rounds: usize,
    /// Length of one measurement of requests or connections.
    pub span: Duration,
    /// Only paths whose name contains one of these; all if there are none.
    pub only: Vec<String>,
    /// Where JSON goes.
    pub out: PathBuf,
}

const AT_ONCE: [usize; 3] = [1, 32, 256];
/// At this many, paths of which only requests are measured are, too.
const A_FEW: usize = 32;
const NEW_AT_ONCE: usize = 16;
/// Bodies each way in a round: each is over in a third of a second, which anything else on the machine can spoil.
const BODIES: usize = 3;

/// Measures everything.
pub async fn run(options: &Options) -> Result<Report> {
    let scratch = Scratch::new()?;
    let begun = Instant::now();
    let say = |what: &str| eprintln!("{:>6.1} s  {what}", begun.elapsed().as_secs_f64());
    let stand = Stand::start(scratch.path(), say).await?;
    let mut report = Report::new(peers::versions().await?);
    let only = &options.only;
    let wanted = |path: &&Path| only.is_empty() || only.iter().any(|part| path.name.contains(part.as_str()));
    let paths: Vec<&Path> = stand.paths.iter().filter(wanted).collect();
    if only.is_empty() {
        say("memory of a session");
        stand.memory_of_a_session(&mut report).await?;
    }
    for round in 1..=options.rounds {
        say(&format!("round {round} of {}", options.rounds));
        for at_once in AT_ONCE {
            for path in paths.iter().filter(|path| {
                path.measured == Measured::All || path.measured == Measured::Requests && at_once == A_FEW
            }) {
                let found = path.page.requests(APART, at_once, options.span)?;
                report.add(&requests(at_once), "1/s", path.name, found.per_second);
                report.add(&format!("median answer, {at_once} connections"), "ms", path.name, found.p50_ms);
                report.add(&p99(at_once), "ms", path.name, found.p99_ms);
            }
        }
        for path in paths.iter().filter(|path| path.measured != Measured::Bodies) {
            let found = path.page.requests(WHOLE, A_FEW, options.span)?;
            report.add(IN_ONE, "1/s", path.name, found.per_second);
        }
        for turn in 0..BODIES {
            for (measure, way) in [(DOWN, Way::Down), (UP, Way::Up)] {
                for path in paths.iter().filter(|path| {
                    path.measured == Measured::All || path.measured == Measured::Bodies && turn == 0
                }) {
                    report.add(measure, "MB/s", path.name, path.bodies.bulk(way)?);
                }
            }
        }
        for path in paths.iter().filter(|path| path.measured == Measured::All) {
            report.add(NEW, "1/s", path.name, path.page.connections(NEW_AT_ONCE, options.span)?);
        }
    }
    if only.is_empty() {
        say("memory");
        stand.memory(&mut report)?;
    }
    judge(&mut report);
    std::fs::write(&options.out, serde_json::to_string_pretty(&report)?)?;
    drop(stand);
    scratch.done();
    Ok(report)
}

/// A page whose head and body leave the upstream in two segments, which is where most peers were first measured: those
/// that hold a small segment back until the one before is acknowledged lose 40 ms now and then.
const APART: &str = "/";
/// The same in one segment.
const WHOLE: &str = "/whole";
const IN_ONE: &str = "requests, 32 connections, answers in one segment";
const DOWN: &str = "one body to the visitor";
const UP: &str = "one body from the visitor";
const NEW: &str = "new connections";

fn requests(at_once: usize) -> String {
    format!("requests, {at_once} connections")
}

fn p99(at_once: usize) -> String {
    format!("99th percentile of answers, {at_once} connections")
}

/// The bars and aims: those of the data path, then those of the HTTP edge.
fn judge(report: &mut Report) {
    use Strictness::{Aim, Bar};
    use Wanted::{AtLeast, AtMost};
    let many = requests(A_FEW);
    report.compare(&many, TCP, Some(RATHOLE_WS), AtLeast(2.5), Bar);
    report.compare(DOWN, TCP, Some(RATHOLE_WS), AtLeast(1.3), Bar);
    report.compare(UP, TCP, Some(RATHOLE_WS), AtLeast(1.3), Bar);
    report.compare(&many, TCP, Some(RATHOLE), AtLeast(1.5), Bar);
    report.compare(DOWN, TCP, Some(RATHOLE), AtLeast(1.0), Bar);
    report.compare(UP, TCP, Some(RATHOLE), AtLeast(1.0), Bar);
    report.compare(&many, PASS, Some(NGINX_RATHOLE), AtLeast(1.2), Aim);
    report.compare(NEW, TCP, Some(RATHOLE_WS), AtLeast(2.0), Aim);
    report.compare(NEW, TCP, Some(RATHOLE), AtLeast(2.0), Aim);
    report.compare(DOWN, FAR, None, AtLeast(60.0), Bar);
    report.compare(UP, FAR, None, AtLeast(60.0), Bar);
    for path in [EDGE, PASS, TERM] {
        report.compare(&many, path, Some(NGINX), AtLeast(0.7), Aim);
        report.compare(DOWN, path, Some(NGINX), AtLeast(0.7), Aim);
        report.compare(UP, path, Some(NGINX), AtLeast(0.7), Aim);
        report.compare(&p99(A_FEW), path, Some(NGINX), AtMost(1.5), Aim);
    }
    report.compare(IN_ONE, TCP, Some(RATHOLE_WS), AtLeast(2.5), Aim);
    report.compare(IN_ONE, TCP, Some(RATHOLE), AtLeast(1.5), Aim);
    report.compare(&many, TCP, Some(BARE), AtLeast(1.0), Aim);
    report.compare(&many, BARE, Some(RATHOLE_WS), AtLeast(2.5), Aim);
    report.compare(&many, TCP, Some(DIRECT), AtLeast(0.5), Aim);
    report.compare(&many, TCP, Some(RATHOLE_WS_AS_IT_COMES), AtLeast(2.5), Aim);
    report.compare(&many, TCP, Some(RATHOLE_AS_IT_COMES), AtLeast(1.5), Aim);
}
