//! Asking one question of whichever endpoint answers: in turn, beginning with the one that answered last, in rounds with
//! backoff and jitter. For reads that need no agreement and for sending; the reader has its own ways.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tunnler_protocol::network::Network;

use crate::error::ChainError;
use crate::rpc::{Failure, Rpc};

/// How often all endpoints are asked before giving up.
const ROUNDS: u32 = 6;
/// Pause after the first round; doubles.
const PAUSE: Duration = Duration::from_millis(200);

/// The endpoints of a network.
#[derive(Clone)]
pub(crate) struct Endpoints {
    all: Arc<[Rpc]>,
    preferred: Arc<AtomicUsize>,
}

impl Endpoints {
    pub(crate) fn of(network: &Network) -> Result<Self, ChainError> {
        let all: Vec<Rpc> = network.rpc.iter().map(|url| Rpc::new(url)).collect::<Result<_, _>>()?;
        Ok(Self { all: all.into(), preferred: Arc::new(AtomicUsize::new(0)) })
    }

    /// The endpoint that answered last; `turn` counts on from it.
    pub(crate) fn pick(&self, turn: usize) -> &Rpc {
        &self.all[(self.preferred.load(Ordering::Relaxed) + turn) % self.all.len()]
    }

    /// Prefers another endpoint from now on: the last one was behind.
    pub(crate) fn turn_away(&self) {
        self.preferred.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks until one answers.
    pub(crate) async fn ask<T, F>(&self, question: impl Fn(Rpc) -> F) -> Result<T, ChainError>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let mut problem = String::new();
        for round in 0..ROUNDS {
            if round > 0 {
                pause(PAUSE * (1 << (round - 1))).await;
            }
            let first = self.preferred.load(Ordering::Relaxed);
            for turn in 0..self.all.len() {
                let index = (first + turn) % self.all.len();
                match question(self.all[index].clone()).await {
                    Ok(answer) => {
                        self.preferred.store(index, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Err(failure) => problem = format!("{}: {failure}", self.all[index].url()),
                }
            }
        }
        Err(ChainError::Unreachable(problem))
    }
}

/// Waits for half to all of `longest`, so that those who failed together do not return together.
pub(crate) async fn pause(longest: Duration) {
    tokio::time::sleep(longest.mul_f64(rand::random_range(0.5..1.0))).await;
}
