//! The Stellar JWT a client logs in with: the format of the Python package `hvym_stellar`, verified strictly
//! (DESIGN §6, `docs/protocol.md`).
//!
//! Says nothing about replay: the driver keeps that state, keyed on [`Claims::replay_key`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::address::{Address, SecretKey};
use crate::jws::{self, JwsError, Unverified};
use crate::name::ServiceName;
use crate::time::UnixSeconds;

/// `typ` of a login token.
pub const TYPE: &str = "JWT";
/// `iss` of every login token, kept from the older system.
pub const ISSUER: &str = "hvym_tunnler";
/// Tolerated clock difference between signer and verifier.
pub const SKEW: Duration = Duration::from_secs(60);
/// Longest lifetime (`exp − iat`) that a relay accepts of a token without a challenge.
pub const BEARER_MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Longest encoded token in bytes.
pub const MAX_LEN: usize = 4096;
/// Most services one token names.
pub const MAX_SERVICES: usize = 16;

/// The claims of a login token, in the order `hvym_stellar` writes them. Unknown claims are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Issuer, always [`ISSUER`].
    pub iss: String,
    /// Subject: the client. Equal to the header's `kid`.
    pub sub: Address,
    /// Audience: the relay this token is for.
    pub aud: Address,
    /// Issued at.
    pub iat: UnixSeconds,
    /// Services the client may serve in this session.
    pub services: Vec<ServiceName>,
    /// Expiry.
    pub exp: UnixSeconds,
    /// The relay's challenge, verbatim. Absent only in the older bearer way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<String>,
    /// As what `sub` logs in; absent for clients.
    #[serde(default, skip_serializing_if = "Role::is_client")]
    pub role: Role,
}

/// As what a key logs in. Signed, because it decides which side opens streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Serves visitors, which the relay hands to it.
    #[default]
    Client,
    /// A registered relay that hands visitors of this relay's clients to it (DESIGN §9).
    Forwarder,
}

impl Role {
    fn is_client(&self) -> bool {
        *self == Self::Client
    }
}

/// What a verifier demands of a token.
#[derive(Clone, Copy, Debug)]
pub struct Expectation<'a> {
    /// The verifying relay.
    pub audience: Address,
    /// The challenge it sent, or that there is none.
    pub challenge: ChallengeRule<'a>,
    /// The verifier's clock.
    pub now: UnixSeconds,
}

/// Whether a token must answer a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeRule<'a> {
    /// The claim `challenge` must equal this text.
    Answers(&'a str),
    /// There must be none: the older bearer way. The relay also holds it to [`BEARER_MAX_LIFETIME`] and one use.
    Absent,
}

/// Why a login token is refused.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Encoding, header, JSON or signature.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// `sub` differs from the signing key.
    #[error("sub is not the signing key")]
    Subject,
    /// `iss` is not [`ISSUER`].
    #[error("iss is {0:?}, expected \"hvym_tunnler\"")]
    Issuer(String),
    /// The token is for another relay.
    #[error("the token is for relay {0}")]
    Audience(Address),
    /// `challenge` is missing or another.
    #[error("the token does not answer this connection's challenge")]
    Challenge,
    /// `exp` has passed.
    #[error("the token expired; check the clock")]
    Expired,
    /// `iat` lies further ahead than [`SKEW`].
    #[error("the token is from the future; check the clock")]
    FromTheFuture,
    /// `exp` is not after `iat`.
    #[error("the token ends before it begins")]
    Lifetime,
    /// More than [`MAX_SERVICES`] services.
    #[error("more than 16 services")]
    TooManyServices,
}

impl Claims {
    /// Signs these claims. `sub` must be the key's address.
    pub fn sign(&self, key: &SecretKey) -> String {
        debug_assert_eq!(self.sub, key.address());
        jws::sign(TYPE, key, self).expect("claims are plain JSON")
    }

    /// Parses and verifies `token` against every rule but replay.
    pub fn verify(token: &str, expected: Expectation<'_>) -> Result<Self, TokenError> {
        let jws = Unverified::parse(token, TYPE, MAX_LEN)?;
        let claims: Self = jws.claims()?;
        claims.check(jws.signer(), expected)?;
        jws.verify()?;
        Ok(claims)
    }

    /// `exp − iat`.
    pub fn lifetime(&self) -> Duration {
        self.exp.since(self.iat)
    }

    /// What identifies this token for replay protection, whatever its spelling.
    pub fn replay_key(&self) -> (Address, UnixSeconds, UnixSeconds, Option<&str>) {
        (self.sub, self.iat, self.exp, self.challenge.as_deref())
    }

    fn check(&self, signer: Address, expected: Expectation<'_>) -> Result<(), TokenError> {
        if self.sub != signer {
            return Err(TokenError::Subject);
        }
        if self.iss != ISSUER {
            return Err(TokenError::Issuer(self.iss.clone()));
        }
        if self.aud != expected.audience {
            return Err(TokenError::Audience(self.aud));
        }
        match (expected.challenge, &self.challenge) {
            (ChallengeRule::Answers(sent), Some(answer)) if sent == answer => {}
            (ChallengeRule::Absent, None) => {}
            _ => return Err(TokenError::Challenge),
        }
        if self.exp <= self.iat {
            return Err(TokenError::Lifetime);
        }
        if expected.now > self.exp.plus(SKEW) {
            return Err(TokenError::Expired);
        }
        if self.iat > expected.now.plus(SKEW) {
            return Err(TokenError::FromTheFuture);
        }
        if self.services.len() > MAX_SERVICES {
            return Err(TokenError::TooManyServices);
        }
        Ok(())
    }
}
