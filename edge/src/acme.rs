//! Certificates by ACME DNS-01 (RFC 8555), in the order of DESIGN §9: account, order, values published by the caller,
//! the zone's servers agree, and only then the CA is told to look.
//!
//! [`Keeper`] keeps one host's certificate valid; [`order`] is a single issuance that survives `kill -9`;
//! [`schedule`] decides when. The caller publishes: nothing here writes DNS.

pub mod account;
mod http;
pub mod keeper;
pub mod order;
pub mod schedule;

use tunnler_protocol::directory::AcmeIdentity;
use tunnler_protocol::{HostName, UnixSeconds};

pub use account::{Account, CertificateAuthority, ExternalAccount};
pub use keeper::{Keeper, KeeperState, Keeping};
pub use order::Hosts;

use crate::certificate::CertificateError;
use crate::propagation::NotVisible;
use crate::store::StoreError;

/// What must be visible in DNS before the CA may be told to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The host; the values belong to `_acme-challenge.HOST`.
    pub host: HostName,
    /// TXT values, one per authorization.
    pub values: Vec<String>,
    /// The account that CAA must allow.
    pub account: AcmeIdentity,
    /// Whether a wildcard of the host is ordered too, so that `issuewild` counts.
    pub wildcard: bool,
}

/// How challenge values get into DNS.
pub trait Dns01: Send + Sync + 'static {
    /// Publishes the values and returns once the zone's servers agree on them, or says that they do not.
    fn present(&self, challenge: &Challenge) -> impl Future<Output = Result<(), NotVisible>> + Send;
    /// Takes the values of `host` back.
    fn withdraw(&self, host: &HostName) -> impl Future<Output = ()> + Send;
}

/// Why there is no certificate yet.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The CA cannot be reached or answers nonsense: trying again soon is harmless.
    #[error("the certificate authority at {directory} is not usable: {problem}")]
    Unavailable {
        /// Directory URL.
        directory: String,
        /// What happened.
        problem: String,
    },
    /// The CA asks to be left alone for a while, of this account or of everybody.
    #[error("the certificate authority asks to wait until {} (Unix seconds): {problem}", .until.0)]
    Limited {
        /// Until then.
        until: UnixSeconds,
        /// Its words.
        problem: String,
    },
    /// The CA said no: trying again counts against the name.
    #[error("the certificate authority refused: {0}")]
    Refused(String),
    /// The CA lost the account: set it aside ([`Account::forget`]) and open a new one.
    #[error("the certificate authority does not know this account any more")]
    AccountGone,
    /// The zone does not show the challenge; the CA knows nothing of it.
    #[error(transparent)]
    NotVisible(#[from] NotVisible),
    /// What the CA issued is not what was ordered.
    #[error("the issued certificate is unusable: {0}")]
    Issued(#[from] CertificateError),
    /// A file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The descriptor's PEM file.
    #[error("ACME root {path}: {problem}")]
    Root {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl AcmeError {
    /// `asked` is what the CA's `Retry-After` said with this answer.
    fn from_library(directory: &str, error: instant_acme::Error, asked: Option<UnixSeconds>) -> Self {
        match (error, asked) {
            (instant_acme::Error::Api(problem), asked) if asked.is_some() || is_limit(&problem) => {
                let until = asked.unwrap_or_else(|| keeper::now().plus(LIMITED_FOR));
                Self::Limited { until, problem: problem.to_string() }
            }
            (error, Some(until)) => Self::Limited { until, problem: error_chain(&error) },
            (error, None) => Self::from_answer(directory, error),
        }
    }

    fn from_answer(directory: &str, error: instant_acme::Error) -> Self {
        match error {
            instant_acme::Error::Api(problem) if is_kind(&problem, ":accountDoesNotExist") => {
                Self::AccountGone
            }
            instant_acme::Error::Api(problem) if !is_passing(&problem) => Self::Refused(problem.to_string()),
            error => Self::Unavailable { directory: directory.into(), problem: error_chain(&error) },
        }
    }
}

/// A limit without a word about its end is taken to last this long.
const LIMITED_FOR: std::time::Duration = std::time::Duration::from_secs(3600);

fn is_limit(problem: &instant_acme::Problem) -> bool {
    problem.status == Some(429) || is_kind(problem, ":rateLimited")
}

/// Problems that say nothing about this order: nonces, and the server's own trouble.
fn is_passing(problem: &instant_acme::Problem) -> bool {
    let server = problem.status.is_some_and(|status| status >= 500);
    server || is_kind(problem, ":badNonce") || is_kind(problem, ":serverInternal")
}

fn is_kind(problem: &instant_acme::Problem, suffix: &str) -> bool {
    problem.r#type.as_deref().is_some_and(|kind| kind.ends_with(suffix))
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
