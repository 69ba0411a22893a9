//! What visitors can make the edge hold in memory: big bodies, floods of HTTP/2 frames, slow visitors. Visitors and
//! upstream share this process, so every bound here is generous to them. One test at a time.

#[path = "../proxy/adversary.rs"]
#[allow(dead_code)]
mod adversary;
#[path = "../proxy/rig.rs"]
#[allow(dead_code)]
mod rig;

mod bulk;
mod floods;
mod slow;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use http_body_util::BodyExt;
use rig::{Rig, get};

/// Tests of this file run one after another.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const MIB: u64 = 1 << 20;

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Watches how much memory is used at most.
struct Watch {
    before: u64,
    most: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Watch {
    fn begin() -> Self {
        let before = resident();
        let (most, done) = (Arc::new(AtomicU64::new(before)), Arc::new(AtomicBool::new(false)));
        let (kept, stopped) = (most.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                kept.fetch_max(resident(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { before, most, done, thread }
    }

    /// The growth since the beginning, in bytes.
    fn end(self) -> u64 {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.most.load(Ordering::Relaxed) - self.before
    }
}

/// Visits the edge until told to stop; every visit must be answered in time. Returns how many were made, and the
/// slowest.
async fn others(rig: &Rig, stop: &AtomicBool) -> (usize, Duration) {
    let (mut visits, mut slowest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let visit = async {
            let answer = rig.http1().await.send_request(get("/")).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            answer.into_body().collect().await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(10), visit).await.expect("others are served meanwhile");
        visits += 1;
        slowest = slowest.max(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (visits, slowest)
}
