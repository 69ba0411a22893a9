//! Floods of HTTP/2 frames (SECURITY 20, 35): whoever sends them is cut off or held back, others are served.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::adversary::floods::floods;
use crate::adversary::watch::Watch;
use crate::rig::{self, HOST, hello};
use crate::{ALONE, MIB, others};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_are_cut_off_or_held_back_and_others_are_served() {
    let _alone = ALONE.lock().await;
    let rig = rig::start(hello).await;
    for flood in floods(HOST) {
        let (name, ends) = (flood.name, flood.ends);
        let (watch, stop, seen) = (Watch::begin(), AtomicBool::new(false), rig.lines().len());
        let flooding = async {
            let end = flood.pour(rig.connect(HOST, b"h2").await.unwrap()).await;
            stop.store(true, Ordering::Relaxed);
            end
        };
        let (end, (visits, slowest)) = tokio::join!(flooding, others(&rig, &stop));
        let (grown, reached) = (watch.end(), rig.lines().len() - seen - visits);
        println!(
            "{name}: {end:?}, memory +{} KiB, {reached} requests passed on, others {visits} (slowest {slowest:?})",
            grown >> 10
        );
        assert!(ends.contains(&end), "{name}: {end:?}");
        assert!(grown < 24 * MIB, "{name}: memory grew by {grown} bytes");
        assert!(reached <= 300, "{name}: {reached} requests reached the upstream");
    }
}
