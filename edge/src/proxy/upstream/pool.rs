//! Several equal upstreams: requests go to each in turn, past those that fail.
//!
//! A request is tried again elsewhere only if nothing of it left here: no connection, no part of its body read.

mod health;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::header::HeaderValue;
use http::uri::PathAndQuery;
use http::{Request, Response};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Upstream;
use crate::proxy::body::{RequestBody, ResponseBody, Source};
use crate::proxy::hints::Hints;
use crate::proxy::refusal::Refusal;
use crate::proxy::request::Checked;
use health::{Health, Trials};

/// How long an upstream may take to answer a check.
const CHECK_DEADLINE: Duration = Duration::from_secs(5);

/// Equal upstreams. Clones share what is known about their health.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    members: Arc<[Member]>,
    next: AtomicUsize,
    checks: Option<Checks>,
    /// Begun with the first visitor; aborted when the pool is dropped.
    checking: OnceLock<JoinSet<()>>,
}

/// Requests that an upstream must answer to count as healthy. Without them only visitors' requests tell.
#[derive(Clone, Debug)]
pub struct Checks {
    /// What is fetched; any status below 400 is good.
    pub path: PathAndQuery,
    /// How often.
    pub every: Duration,
}

#[derive(Debug)]
struct Member {
    upstream: Upstream,
    health: Mutex<Health>,
}

impl Pool {
    /// Upstreams that all serve the same; `checks` asks them also when no visitor does.
    ///
    /// # Panics
    /// Without any upstream.
    pub fn new(upstreams: Vec<Upstream>, checks: Option<Checks>) -> Self {
        assert!(!upstreams.is_empty(), "a pool of no upstream");
        let member = |upstream| Member { upstream, health: Mutex::default() };
        let members = upstreams.into_iter().map(member).collect();
        Self(Arc::new(Shared { members, next: AtomicUsize::new(0), checks, checking: OnceLock::new() }))
    }

    pub(in crate::proxy) async fn pass(
        &self,
        mut checked: Checked,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let mut refusal = Refusal::Unreachable;
        for member in self.in_turn() {
            let body = std::mem::replace(&mut checked.body, Source::Nothing);
            let (request, returned) = member.upstream.outgoing(checked.head(body));
            match member.upstream.exchange(request, &checked.hints).await {
                Ok(answer) => {
                    // Where there are checks they decide: a page may be there although the service is unwell.
                    if self.0.checks.is_none() {
                        member.health().passed();
                    }
                    return Ok(answer);
                }
                Err(refused) => refusal = refused,
            }
            if refusal.is_upstreams_fault() {
                member.failed();
            }
            if !refusal.is_unconnected() {
                break;
            }
            match returned.await {
                Ok(untouched) => checked.body = untouched,
                Err(_) => break,
            }
        }
        Err(refusal)
    }

    /// The upstream whose turn it is.
    pub(in crate::proxy) fn choose(&self) -> &Upstream {
        &self.in_turn()[0].upstream
    }

    /// All members from the one whose turn it is, the healthy ones first: when none is, trying is better than refusing.
    fn in_turn(&self) -> Vec<&Member> {
        let Shared { members, next, checks, checking } = &*self.0;
        if let Some(checks) = checks {
            checking.get_or_init(|| start(members, checks));
        }
        let now = Instant::now();
        let first = next.fetch_add(1, Ordering::Relaxed);
        let rotated = (0..members.len()).map(|i| &members[first.wrapping_add(i) % members.len()]);
        let trials = if checks.is_some() { Trials::ByChecks } else { Trials::ByVisitors };
        let (mut usable, rest): (Vec<_>, Vec<_>) =
            rotated.partition(|member| member.health().usable(now, trials));
        usable.extend(rest);
        usable
    }
}

impl Member {
    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) {
        if self.health().failed(Instant::now()) {
            tracing::warn!(target = %self.upstream.target, "upstream fails; others are asked first");
        }
    }

    async fn check(&self, path: PathAndQuery) {
        let mut request = Request::new(RequestBody::empty());
        let host =
            HeaderValue::from_str(&format!("{}:{}", self.upstream.target.host, self.upstream.target.port));
        self.upstream.address(&mut request, path, &host.expect("a target's host is visible ASCII"));
        match tokio::time::timeout(CHECK_DEADLINE, self.upstream.send(request, &Hints::unwanted())).await {
            Ok(Ok(answer)) if answer.status().as_u16() < 400 => self.health().passed(),
            _ => self.failed(),
        }
    }
}

/// One task for each member.
fn start(members: &Arc<[Member]>, checks: &Checks) -> JoinSet<()> {
    let mut checking = JoinSet::new();
    for i in 0..members.len() {
        let (members, checks) = (members.clone(), checks.clone());
        checking.spawn(async move {
            let mut ticks = tokio::time::interval(checks.every);
            loop {
                ticks.tick().await;
                members[i].check(checks.path.clone()).await;
            }
        });
    }
    checking
}
