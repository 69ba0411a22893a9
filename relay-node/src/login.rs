//! Decides about logins: what a client says against what it may. Verifies everything that a token and a presence
//! claim; never touches a socket.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tunnler_protocol::control::{AuthFailed, AuthFailure, AuthResponse};
use tunnler_protocol::presence::Presence;
use tunnler_protocol::token::{BEARER_MAX_LIFETIME, ChallengeRule, Claims, Expectation, Role};
use tunnler_protocol::{Address, ServiceName, UnixSeconds};
use tunnler_transport::relay::Challenge;

use crate::clock;
use crate::failures::{Culprit, Failures};
use crate::replay::UsedTokens;
use crate::sessions::Identity;

/// Longest authority one token gives, whatever its `exp`.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A relay asks for fresh authority this long before the old one ends...
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// ...or after half of what is left, for shorter ones.
const RENEW_AT_LEAST: Duration = Duration::from_secs(1);

/// When to ask for fresh authority if the old one is `left` for so long.
pub fn ask_in(left: Duration) -> Duration {
    if left > RENEW_BEFORE * 2 { left - RENEW_BEFORE } else { (left / 2).max(RENEW_AT_LEAST.min(left)) }
}

/// A login that holds.
#[derive(Debug)]
pub struct Login {
    /// Who it is.
    pub identity: Identity,
    /// As what.
    pub role: Role,
    /// What the token lets it serve.
    pub services: Vec<ServiceName>,
    /// When the authority ends.
    pub until: UnixSeconds,
    /// Its presence, if it sent one.
    pub presence: Option<Arc<Presence>>,
}

/// The relay's judgement and its memory.
#[derive(Debug)]
pub struct Gate {
    relay: Address,
    started: UnixSeconds,
    failures: Mutex<Failures>,
    used: Mutex<UsedTokens>,
}

/// A refusal, with the key that is to blame if a signature proved it.
type Refused = (AuthFailed, Option<Address>);

impl Gate {
    /// The gate of the relay with this address.
    pub fn new(relay: Address) -> Self {
        Self { relay, started: clock::seconds(), failures: Mutex::default(), used: Mutex::default() }
    }

    /// Whether visitors of this prefix have failed too often to be listened to.
    pub fn is_shut_to(&self, address: IpAddr) -> bool {
        lock(&self.failures).exhausted(Culprit::prefix(address), Instant::now())
    }

    /// Counts a login that never got as far as a token.
    pub fn count_failure(&self, address: IpAddr) {
        lock(&self.failures).count(Culprit::prefix(address), Instant::now());
    }

    /// Judges an answer to `challenge`, or a token that answers none, that came from `address`.
    pub fn judge(
        &self,
        response: &AuthResponse,
        challenge: Option<&Challenge>,
        address: IpAddr,
    ) -> Result<Login, AuthFailed> {
        let prefix = Culprit::prefix(address);
        let judged = if lock(&self.failures).exhausted(prefix, Instant::now()) {
            Err((failed(AuthFailure::RateLimited, "too many failed logins from your network"), None))
        } else {
            self.verify(response, challenge)
        };
        judged.map_err(|(failed, key)| {
            let now = Instant::now();
            let mut failures = lock(&self.failures);
            failures.count(prefix, now);
            if let Some(key) = key {
                failures.count(Culprit::Key(key), now);
            }
            let reason = format!("{:?}", failed.code);
            metrics::counter!("tunnler_login_failures_total", "reason" => reason).increment(1);
            failed
        })
    }

    fn verify(&self, response: &AuthResponse, challenge: Option<&Challenge>) -> Result<Login, Refused> {
        let now = clock::seconds();
        let challenge = challenge.map_or(ChallengeRule::Absent, |sent| ChallengeRule::Answers(sent.as_str()));
        let expectation = Expectation { audience: self.relay, challenge, now };
        let claims = Claims::verify(&response.jwt, expectation)
            .map_err(|error| (failed(AuthFailure::BadToken, error), None))?;
        let client = claims.sub;
        let blame = |failed: AuthFailed| (failed, Some(client));
        if lock(&self.failures).exhausted(Culprit::Key(client), Instant::now()) {
            return Err(blame(failed(AuthFailure::RateLimited, "too many failed logins of your key")));
        }
        if challenge == ChallengeRule::Absent {
            self.check_bearer(&claims).map_err(|text| blame(failed(AuthFailure::BadToken, text)))?;
        }
        // A token that the skew alone keeps alive gives no time to serve in.
        let until = claims.exp.min(now.plus(LONGEST));
        if until <= now {
            return Err(blame(failed(AuthFailure::BadToken, "the token expired; check the clock")));
        }
        if claims.role == Role::Forwarder && !(response.presence.is_none() && claims.services.is_empty()) {
            return Err(blame(failed(AuthFailure::Mismatch, "a forwarder serves nothing of its own")));
        }
        let presence = match &response.presence {
            None => None,
            Some(text) => {
                let presence = Presence::verify(text, clock::millis())
                    .map_err(|error| blame(failed(AuthFailure::BadPresence, error)))?;
                if presence.claims().iss != client || presence.claims().ins != response.ins {
                    let text = "the presence is of another client or instance than the token";
                    return Err(blame(failed(AuthFailure::Mismatch, text)));
                }
                Some(Arc::new(presence))
            }
        };
        if !lock(&self.used).spend(&claims, now) {
            return Err(blame(failed(AuthFailure::Replayed, "this token was used before")));
        }
        let identity = Identity { client, ins: response.ins, session: response.session };
        Ok(Login { identity, role: claims.role, services: claims.services, until, presence })
    }
}

impl Gate {
    /// Nothing binds such a token to a channel, so it must be short-lived, and none from before this process, whose
    /// memory of used ones would not have it.
    fn check_bearer(&self, claims: &Claims) -> Result<(), &'static str> {
        if claims.lifetime() > BEARER_MAX_LIFETIME {
            return Err("a token without a challenge lasts a day at most");
        }
        if claims.iat < self.started {
            return Err("the token is older than this relay's process; sign another");
        }
        if claims.role != Role::Client {
            return Err("a forwarder answers a challenge");
        }
        Ok(())
    }
}

/// A refusal in words.
pub fn failed(code: AuthFailure, error: impl ToString) -> AuthFailed {
    AuthFailed { code, error: error.to_string() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
