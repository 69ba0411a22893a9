//! What goes on when something else fails: the clock, every feed at once, the chain. Answers stay what they were; health
//! says so.

use super::*;

impl World {
    async fn see(&self, path: &str) -> String {
        let admin = self.server.admin_address().unwrap();
        request(admin, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    }

    /// Waits until `path` says `what`.
    async fn until_said(&self, path: &str, what: &str) {
        let start = Instant::now();
        loop {
            let said = self.see(path).await;
            if said.contains(what) {
                return;
            }
            assert!(start.elapsed() < 10 * SECOND, "no {what:?} in {said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The next ledger, closed so many seconds from now.
    fn close_ledger(&self, relays: &[&FeedRelay], sequence: u32, from_now: i64) {
        let mut chain = chain(relays);
        chain.ledger.sequence = sequence;
        let closed_at = &mut chain.ledger.closed_at.0;
        *closed_at = closed_at.saturating_add_signed(from_now);
        self.directory.send_replace(Some(Arc::new(chain)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_ten_minutes_off_keeps_the_last_answers_and_says_so() {
    let (world, [one, two]) = two_relays().await;
    let both = Ok(vec![one.ip(), two.ip()]);
    world.until_said("/ready", "HTTP/1.1 200").await;
    for (sequence, from_now, complaint) in [(10, 600, "behind the ledger"), (11, -600, "clock is ahead")] {
        world.close_ledger(&[&one, &two], sequence, from_now);
        world.until_said("/ready", complaint).await;
        assert!(world.see("/ready").await.starts_with("HTTP/1.1 503"));
        world.until_said("/health", complaint).await;
        assert_eq!(world.addresses().await, both);
    }
    // A client whose clock is right is ten minutes ahead of ours: not believed, and nothing is lost by it.
    let ahead = UnixMillis(clock::unix_now().0 + 1_200_000);
    one.publish(&signed(101, claims_at(ahead, 101, &["mynode"], &[1])));
    world.close_ledger(&[&one, &two], 12, 0);
    world.until_said("/ready", "HTTP/1.1 200").await;
    assert_eq!(world.addresses().await, both);
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_feeds_cut_at_once_empty_no_name() {
    let (world, [one, two]) = two_relays().await;
    let both = Ok(vec![one.ip(), two.ip()]);
    one.kill();
    two.kill();
    // Past the moment at which silence counts, and past the one at which feeds are given up on.
    let start = Instant::now();
    while start.elapsed() < 6 * SECOND {
        let answer = world.addresses().await;
        // One may be cut a moment before the other; the last one is never withdrawn.
        assert!(
            answer.as_ref().is_ok_and(|found| !found.is_empty()),
            "{answer:?} after {:?}",
            start.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.addresses().await, both);
    world.until_said("/health", "\"silent\":2").await;
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_that_falls_silent_is_served_until_the_staleness_bound() {
    install_provider();
    let relay = FeedRelay::start(1).await;
    relay.attach(&presence_now(101, &["mynode"], &[1]));
    let mut config = config(None);
    config.terms.staleness = 5 * SECOND;
    // The reader of the chain ends, as after an outage of every endpoint; its last word stands.
    let World { server, directory } = World::start(config, chain(&[&relay])).await;
    drop(directory);
    let world = World { server, directory: watch::channel(None).0 };
    world.until(Ok(vec![relay.ip()]), 4 * SECOND).await;
    world.until(Err(ResponseCode::ServFail), 10 * SECOND).await;
    world.until_said("/ready", "older than the staleness bound").await;
    // The zone itself does not depend on who is live.
    let apex = ask_udp(world.dns(), "tunnel.example.", RecordType::SOA).await;
    assert_eq!(apex.answers.len(), 1);
    world.server.shutdown().await;
}
