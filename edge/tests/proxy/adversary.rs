//! An adversary at the door: requests that are meant to be understood differently by two servers in a row, headers that
//! lie, and floods (SECURITY 17–20). Knows nothing of the TLS end under attack but how to connect to it, so every user of the edge can be tried.
//!
//! Other crates include this file with `#[path]`; it needs nothing but tokio and futures.

#[path = "adversary/floods.rs"]
pub mod floods;
#[path = "adversary/frames.rs"]
pub mod frames;
#[path = "adversary/http1.rs"]
mod http1;
#[path = "adversary/http2.rs"]
mod http2;
#[path = "adversary/lies.rs"]
mod lies;
#[path = "adversary/recorder.rs"]
pub mod recorder;
#[path = "adversary/watch.rs"]
pub mod watch;

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

pub use recorder::Recorder;

/// Bounds every single conversation.
const DEADLINE: Duration = Duration::from_secs(20);

/// What must come of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// Nothing reaches the upstream.
    Refused,
    /// The upstream sees exactly one request, the first.
    One,
    /// The upstream sees no request but, at most, the first.
    AtMostOne,
    /// The upstream sees as many requests as the visitor got answers: both sides frame alike.
    Answered,
}

/// A TLS connection, whatever carries it.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Tries every case on the TLS end that `connect` leads to with an ALPN protocol, and which serves `host` from
/// `recorder`. Panics with the names of the cases that got through.
pub async fn smuggle<C, F, S>(connect: C, host: &str, recorder: &Recorder)
where
    C: Fn(&'static [u8]) -> F,
    F: Future<Output = io::Result<S>>,
    S: Wire,
{
    let mut failures = Vec::new();
    let (old, new) = (http1::cases(host), http2::cases(host));
    // Side by side: most of the time is spent waiting whether more comes.
    let talks = old.iter().enumerate().map(async |(number, case)| {
        let wire = connect(b"http/1.1").await.expect("a connection");
        let bytes = case.text.replace("{n}", &format!("h1-{number}"));
        let statuses = tokio::time::timeout(DEADLINE, http1::talk(wire, bytes.as_bytes())).await;
        statuses.unwrap_or_else(|_| panic!("{}: no end of it", case.name))
    });
    let answers = futures::future::join_all(talks).await;
    for (number, (case, statuses)) in old.iter().zip(answers).enumerate() {
        let answered = statuses.iter().filter(|status| **status == 200).count();
        judge(&mut failures, case.name, case.expect, recorder, &format!("/h1-{number}/"), answered);
    }
    let talks = new.iter().enumerate().map(async |(number, case)| {
        let wire = connect(b"h2").await.expect("a connection");
        let ended = tokio::time::timeout(DEADLINE, http2::talk(wire, case, &format!("/h2-{number}/"))).await;
        ended.unwrap_or_else(|_| panic!("{}: no end of it", case.name));
    });
    futures::future::join_all(talks).await;
    for (number, case) in new.iter().enumerate() {
        judge(&mut failures, case.name, case.expect, recorder, &format!("/h2-{number}/"), 1);
    }
    let odd = recorder.odd();
    assert!(odd.is_empty(), "the upstream was sent what is not HTTP: {odd:#?}");
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Tells lies in headers to the TLS end that `connect` leads to. Panics if the upstream hears of them.
pub async fn lie<C, F, S>(connect: C, host: &str, recorder: &Recorder)
where
    C: Fn(&'static [u8]) -> F,
    F: Future<Output = io::Result<S>>,
    S: Wire,
{
    let old = connect(b"http/1.1").await.expect("a connection");
    let new = connect(b"h2").await.expect("a connection");
    let told = lies::tell(old, new, host, recorder);
    tokio::time::timeout(DEADLINE, told).await.expect("an end of it");
}

fn judge(
    failures: &mut Vec<String>,
    name: &str,
    expect: Expect,
    recorder: &Recorder,
    prefix: &str,
    answered: usize,
) {
    let seen = recorder.paths(prefix);
    let smuggled = seen.iter().any(|path| path.contains("smuggled"));
    let good = match expect {
        Expect::Refused => seen.is_empty(),
        Expect::One => seen.len() == 1 && !smuggled,
        Expect::AtMostOne => seen.len() <= 1 && !smuggled,
        Expect::Answered => seen.len() == answered,
    };
    if !good {
        failures.push(format!("{name}: expected {expect:?}; answers {answered}; the upstream saw {seen:?}"));
    }
}
