//! Keeps one host's certificate valid for as long as it runs: loads, orders, renews, waits after failures. A thin
//! driver over [`super::schedule`] and [`super::order`].
//!
//! The old certificate keeps serving until a new one is on disk.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use instant_acme::CertificateIdentifier;
use tokio::sync::watch;
use tunnler_protocol::UnixSeconds;

use super::schedule::{self, Failures, Window};
use super::{Account, AcmeError, Dns01, Hosts, order};
use crate::certificate::{Certificate, Certificates};
use crate::store::Store;

const FAILURES_FILE: &str = "failures.json";
/// Trouble that the CA does not count (it cannot be reached, the zone does not show the values yet).
const PASSING_WAIT: Duration = Duration::from_secs(15);
const PASSING_WAIT_MAX: Duration = Duration::from_secs(900);

/// What a keeper is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeeperState {
    /// Looking at the disk.
    Starting,
    /// Talking to the CA. A certificate may be in place meanwhile.
    Ordering,
    /// A certificate is in place.
    Valid {
        /// Until then.
        not_after: UnixSeconds,
        /// When it will be renewed.
        renewal: UnixSeconds,
    },
    /// The last attempt failed. A certificate may be in place nevertheless.
    Failed {
        /// Why, for people.
        problem: String,
        /// When the next attempt is made.
        next: UnixSeconds,
    },
}

/// Keeps the certificate of one host.
pub struct Keeper<D> {
    /// The account that orders.
    pub account: Account,
    /// What for.
    pub hosts: Hosts,
    /// Where key, chain and unfinished orders lie; one directory per host.
    pub store: Store,
    /// How values get into DNS.
    pub dns: D,
    /// Where the certificate is put to use.
    pub certificates: Arc<Certificates>,
    /// Tells what happens.
    pub state: watch::Sender<KeeperState>,
}

impl<D: Dns01> Keeper<D> {
    /// Runs until dropped; only a file that cannot be written ends it, or a CA that lost the account.
    pub async fn run(self) -> Result<Infallible, AcmeError> {
        let mut keeping = self.begin()?;
        loop {
            keeping.due().await?;
            keeping.attempt().await?;
        }
    }

    /// Puts the certificate on disk to use. The caller then goes on with [`Keeping::due`] and [`Keeping::attempt`] in
    /// turns: for those that let only so many orders happen.
    pub fn begin(self) -> Result<Keeping<D>, AcmeError> {
        let current = order::load(&self.store, &self.hosts)?;
        if let Some(certificate) = &current {
            self.certificates.install(certificate);
        }
        Ok(Keeping { keeper: self, current, passing: PASSING_WAIT, rest: UnixSeconds(0) })
    }
}

/// A keeper at work.
pub struct Keeping<D> {
    keeper: Keeper<D>,
    current: Option<Certificate>,
    /// How long to wait after the next trouble that the CA does not count.
    passing: Duration,
    /// No attempt before.
    rest: UnixSeconds,
}

impl<D: Dns01> Keeping<D> {
    /// Returns when a certificate is to be ordered.
    pub async fn due(&self) -> Result<(), AcmeError> {
        sleep_until(self.rest).await;
        if let Some(certificate) = &self.current {
            self.keeper.sleep_until_renewal(certificate).await;
        }
        let failures = self.keeper.failures()?;
        if failures.next_attempt(now()) > now() {
            sleep_until(failures.next_attempt(now())).await;
        }
        Ok(())
    }

    /// Whether an attempt takes up an order that the CA already has.
    pub fn is_resumed(&self) -> bool {
        order::is_pending(&self.keeper.store)
    }

    /// Tries once, now. What fails is kept in mind for [`Keeping::due`]; errors are those that end [`Keeper::run`].
    pub async fn attempt(&mut self) -> Result<(), AcmeError> {
        let keeper = &self.keeper;
        keeper.tell(KeeperState::Ordering);
        let current = self.current.as_ref();
        match order::obtain(&keeper.account, &keeper.store, &keeper.hosts, &keeper.dns, current).await {
            Ok(certificate) => {
                keeper.store.remove(FAILURES_FILE)?;
                keeper.certificates.install(&certificate);
                (self.current, self.passing) = (Some(certificate), PASSING_WAIT);
                Ok(())
            }
            Err(error @ (AcmeError::Store(_) | AcmeError::AccountGone)) => Err(error),
            Err(error) => {
                let counted = matches!(error, AcmeError::Refused(_) | AcmeError::Issued(_));
                self.rest = if let AcmeError::Limited { until, .. } = error {
                    keeper.remember(keeper.failures()?.told_to_wait(until))?
                } else if counted {
                    keeper.remember(keeper.failures()?.failed(now()))?
                } else {
                    let next = now().plus(self.passing);
                    self.passing = (self.passing * 2).min(PASSING_WAIT_MAX);
                    next
                };
                tracing::warn!(host = %keeper.hosts.host, %error, "no certificate yet");
                keeper.tell(KeeperState::Failed { problem: error.to_string(), next: self.rest });
                Ok(())
            }
        }
    }
}

impl<D> Keeper<D> {
    fn tell(&self, new: KeeperState) {
        self.state.send_if_modified(|state| std::mem::replace(state, new.clone()) != new);
    }

    async fn sleep_until_renewal(&self, certificate: &Certificate) {
        let seed = certificate.leaf().iter().rev().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        loop {
            let suggested = self.suggested_window(certificate).await;
            let (from, to) = (certificate.not_before(), certificate.not_after());
            let renewal = schedule::renewal(from, to, suggested, seed);
            self.tell(KeeperState::Valid { not_after: to, renewal });
            if now() >= renewal {
                return;
            }
            // Asked again twice a day at least, as RFC 9773 wants; `nap` is an hour at most.
            tokio::time::sleep(schedule::nap(now(), renewal)).await;
        }
    }

    async fn suggested_window(&self, certificate: &Certificate) -> Option<Window> {
        let identifier = CertificateIdentifier::try_from(certificate.leaf()).ok()?;
        let (info, _) = self.account.inner.renewal_info(&identifier).await.ok()?;
        let seconds = |time: i64| UnixSeconds(u64::try_from(time).unwrap_or(0));
        let window = info.suggested_window;
        Some(Window {
            start: seconds(window.start.unix_timestamp()),
            end: seconds(window.end.unix_timestamp()),
        })
    }

    fn failures(&self) -> Result<Failures, AcmeError> {
        let Some(bytes) = self.store.read(FAILURES_FILE)? else { return Ok(Failures::default()) };
        match serde_json::from_slice(&bytes) {
            Ok(failures) => Ok(failures),
            Err(error) => {
                self.store.set_aside(FAILURES_FILE, &error)?;
                Ok(Failures::default())
            }
        }
    }

    fn remember(&self, failures: Failures) -> Result<UnixSeconds, AcmeError> {
        self.store.write(FAILURES_FILE, &serde_json::to_vec(&failures).expect("plain JSON"))?;
        Ok(failures.next_attempt(now()))
    }
}

async fn sleep_until(then: UnixSeconds) {
    while now() < then {
        tokio::time::sleep(schedule::nap(now(), then)).await;
    }
}

pub(super) fn now() -> UnixSeconds {
    UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}
