//! Where the zone's servers say a host is, for visitors whose client is at none of the relays that this one remembers.
//!
//! Asked once for all visitors that want to know, and an answer counts for a few seconds, also one that names nobody:
//! however many come, the zone's servers hear little of it. Bounded in memory; whom to ask about is for the caller.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tunnler_edge::question;
use tunnler_protocol::HostName;

/// How long an answer counts, from the question on.
const COUNTS: Duration = Duration::from_secs(5);
/// How long the servers may take.
const ANSWER: Duration = Duration::from_secs(2);
/// Addresses of an answer that count; a zone names three relays.
const MOST_ADDRESSES: usize = 8;
/// Hosts asked about within [`COUNTS`].
const MOST: usize = 1024;

/// Questions asked lately.
#[derive(Debug, Default)]
pub struct Asked(Mutex<HashMap<HostName, Question>>);

/// What one host's addresses are; set once the servers have said it, or nothing in time.
type Answer = Arc<OnceCell<Vec<IpAddr>>>;

#[derive(Debug)]
struct Question {
    at: Instant,
    answer: Answer,
}

impl Asked {
    /// The addresses of `host`, as the first of `servers` says that names any; empty when none does within 2 s.
    pub async fn addresses(&self, host: &HostName, servers: &[SocketAddr]) -> Vec<IpAddr> {
        let Some(answer) = self.question(host, Instant::now()) else { return vec![] };
        answer.get_or_init(|| ask(host, servers)).await.clone()
    }

    /// The question that is under way or was answered lately, else a new one; `None` when there are too many.
    fn question(&self, host: &HostName, now: Instant) -> Option<Answer> {
        let mut questions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = |question: &Question| now.saturating_duration_since(question.at) < COUNTS;
        if let Some(question) = questions.get(host).filter(|question| counts(question)) {
            return Some(question.answer.clone());
        }
        if questions.len() >= MOST {
            questions.retain(|_, question| counts(question));
            if questions.len() >= MOST {
                return None;
            }
        }
        let answer = Answer::default();
        questions.insert(host.clone(), Question { at: now, answer: answer.clone() });
        Some(answer)
    }

    /// Forgets what does not count any more.
    pub fn sweep(&self, now: Instant) {
        let mut questions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        questions.retain(|_, question| now.saturating_duration_since(question.at) < COUNTS);
    }
}

/// Asks all servers at once: one that is down or behind costs no time.
async fn ask(host: &HostName, servers: &[SocketAddr]) -> Vec<IpAddr> {
    metrics::counter!("tunnler_zone_questions_total").increment(1);
    let mut answers: FuturesUnordered<_> =
        servers.iter().map(|server| question::addresses(std::slice::from_ref(server), host)).collect();
    let first = async {
        while let Some(mut found) = answers.next().await {
            found.truncate(MOST_ADDRESSES);
            if !found.is_empty() {
                return found;
            }
        }
        vec![]
    };
    timeout(ANSWER, first).await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: usize) -> HostName {
        format!("name{n}.tun.test").parse().unwrap()
    }

    #[test]
    fn a_host_is_asked_about_once_in_five_seconds() {
        let (asked, now) = (Asked::default(), Instant::now());
        let first = asked.question(&host(1), now).unwrap();
        let soon = asked.question(&host(1), now + COUNTS - Duration::from_millis(1)).unwrap();
        assert!(Arc::ptr_eq(&first, &soon));
        assert!(!Arc::ptr_eq(&first, &asked.question(&host(2), now).unwrap()));
        assert!(!Arc::ptr_eq(&first, &asked.question(&host(1), now + COUNTS).unwrap()));
    }

    #[test]
    fn memory_is_bounded() {
        let (asked, now) = (Asked::default(), Instant::now());
        for n in 0..MOST {
            asked.question(&host(n), now).unwrap();
        }
        assert!(asked.question(&host(MOST), now).is_none());
        assert!(asked.question(&host(1), now).is_some(), "those asked about are known");
        assert!(asked.question(&host(MOST), now + COUNTS).is_some());
        assert_eq!(asked.0.lock().unwrap().len(), 1);
        asked.sweep(now + COUNTS * 2);
        assert!(asked.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn an_answer_that_names_nobody_counts_too() {
        let asked = Asked::default();
        assert_eq!(asked.addresses(&host(1), &[]).await, [] as [IpAddr; 0]);
        let answer = asked.question(&host(1), Instant::now()).unwrap();
        assert!(answer.initialized());
    }
}
