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

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use http_body_util::BodyExt;
use rig::{Rig, get};

/// Tests of this file run one after another.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const MIB: u64 = 1 << 20;

/// Visits the edge until told to stop, and once afterwards; every visit must be answered in time. Returns how many were made, and the
/// slowest.
async fn others(rig: &Rig, stop: &AtomicBool) -> (usize, Duration) {
    let (mut visits, mut slowest) = (0, Duration::ZERO);
    let mut last = false;
    while !last {
        last = stop.load(Ordering::Relaxed);
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
