//! What visitors can make a relay hold in memory that ends their TLS. Visitors, relay, client and web server share this
//! process, and nothing else happens in it, so every bound here is generous to them.

#[path = "../../../edge/tests/proxy/adversary.rs"]
#[allow(dead_code, reason = "the edge's own tests use the rest")]
mod adversary;
#[path = "../relay/comparison.rs"]
#[allow(dead_code, reason = "shared with the tests of the relay")]
mod comparison;
#[path = "../relay/ended.rs"]
#[allow(dead_code, reason = "the relay's other tests use the rest")]
mod ended;
#[path = "../relay/world.rs"]
#[allow(dead_code, reason = "the relay's other tests use the rest")]
mod world;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use adversary::Recorder;
use adversary::floods::floods;
use adversary::watch::Watch;
use ended::{HOST, Term};

const MIB: u64 = 1 << 20;

/// Visits until told to stop, and once afterwards; every visit must be answered in time. Returns how many were made, and the slowest.
async fn others(term: &Term, stop: &AtomicBool) -> (usize, Duration) {
    let (mut visits, mut slowest) = (0, Duration::ZERO);
    let mut last = false;
    while !last {
        last = stop.load(Ordering::Relaxed);
        let begun = Instant::now();
        let visit = async {
            let mut stream = term.visit(b"http/1.1").await;
            let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        };
        tokio::time::timeout(Duration::from_secs(10), visit).await.expect("others are served meanwhile");
        visits += 1;
        slowest = slowest.max(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (visits, slowest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_end_at_the_relay_and_others_are_served() {
    let recorder = Recorder::start("ok").await;
    let term = Term::before(recorder.address).await;
    for flood in floods(HOST) {
        let (name, ends) = (flood.name, flood.ends);
        let (watch, stop, seen) = (Watch::begin(), AtomicBool::new(false), recorder.requests().len());
        let flooding = async {
            let end = flood.pour(term.visit(b"h2").await).await;
            stop.store(true, Ordering::Relaxed);
            end
        };
        let (end, (visits, slowest)) = tokio::join!(flooding, others(&term, &stop));
        let (grown, reached) = (watch.end(), recorder.requests().len() - seen - visits);
        println!(
            "{name}: {end:?}, memory +{} KiB, {reached} requests passed on, others {visits} (slowest {slowest:?})",
            grown >> 10
        );
        assert!(ends.contains(&end), "{name}: {end:?}");
        assert!(grown < 24 * MIB, "{name}: memory grew by {grown} bytes");
        assert!(reached <= 300, "{name}: {reached} requests reached the web server");
    }
    assert!(!term.client.is_finished(), "the client lost its session");
}
