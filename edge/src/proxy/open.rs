//! How many requests of a connection are open, and whether it has had any for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Open {
    now: AtomicUsize,
    ever: AtomicUsize,
}

/// Counts a request as open for as long as it lives.
#[derive(Debug)]
pub(super) struct OpenRequest(Arc<Open>);

impl Open {
    /// One more.
    pub(super) fn hold(self: &Arc<Self>) -> OpenRequest {
        self.now.fetch_add(1, Ordering::Relaxed);
        self.ever.fetch_add(1, Ordering::Relaxed);
        OpenRequest(self.clone())
    }

    /// Ends once no request has been open for `long`.
    pub(super) async fn quiet(&self, long: Duration) {
        let (mut quiet, mut ever) = (0, self.ever.load(Ordering::Relaxed));
        while quiet < 4 {
            tokio::time::sleep(long / 4).await;
            let before = std::mem::replace(&mut ever, self.ever.load(Ordering::Relaxed));
            let none = self.now.load(Ordering::Relaxed) == 0 && before == ever;
            quiet = if none { quiet + 1 } else { 0 };
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_quiet_only_when_nothing_was_asked_for_long_enough() {
        let (open, begun) = (Arc::new(Open::default()), tokio::time::Instant::now());
        let pause = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        let asking = async {
            let held = open.hold();
            pause(100).await;
            drop(held);
            // Short ones, between two looks.
            for _ in 0..10 {
                pause(20).await;
                drop(open.hold());
            }
        };
        tokio::join!(asking, open.quiet(Duration::from_secs(60)));
        let took = begun.elapsed();
        assert!((Duration::from_secs(345)..=Duration::from_secs(375)).contains(&took), "{took:?}");
    }
}
