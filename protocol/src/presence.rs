//! The presence: a client's signed statement of what is live where (DESIGN §7). The one document that routing,
//! DNS-01 and CAA are made from.
//!
//! Verification here covers the document itself. Whether the client may speak for a name is the directory's
//! business, and which of two presences counts is the merge's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::address::{Address, SecretKey};
use crate::directory::AcmeIdentity;
use crate::instance::InstanceId;
use crate::jws::{self, JwsError, Unverified};
use crate::name::{HostName, PublicName, ServiceName};
use crate::time::{UnixMillis, UnixSeconds};

/// `typ` of a presence.
pub const TYPE: &str = "tunnler-presence+jwt";
/// Longest encoded presence in bytes.
pub const MAX_LEN: usize = 4096;
/// Longest time from `seq` to `exp`.
pub const MAX_LIFETIME: Duration = Duration::from_secs(3600);
/// How far ahead of the verifier's clock `seq` may lie.
pub const MAX_AHEAD: Duration = Duration::from_secs(60);
/// Most names one presence lists.
pub const MAX_NAMES: usize = 16;
/// Most relays one presence lists.
pub const MAX_RELAYS: usize = 8;
/// Most services one presence lists.
pub const MAX_SERVICES: usize = 16;
/// Most ACME identities one presence lists.
pub const MAX_ACME: usize = 4;
/// Most challenge values per host.
pub const MAX_TXT_VALUES: usize = 4;
/// Length of a DNS-01 challenge value: SHA-256 in base64url (RFC 8555, section 8.4).
pub const TXT_VALUE_LEN: usize = 43;

/// The claims of a presence. Unknown claims are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The client. Equal to the header's `kid`.
    pub iss: Address,
    /// Which running copy of the client.
    pub ins: InstanceId,
    /// When it was signed; each presence of an instance is later than the one before.
    pub seq: UnixMillis,
    /// When it ends, at most [`MAX_LIFETIME`] after `seq`.
    pub exp: UnixSeconds,
    /// Names and custom domains the client consents to serve; empty means the account host only.
    pub names: Vec<PublicName>,
    /// Relays that hold its sessions, preferred first; empty means it is leaving.
    pub relays: Vec<Address>,
    /// What it serves; the first one answers at the bare name.
    pub services: Vec<Service>,
    /// ACME accounts that may get certificates for its names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acme: Vec<AcmeIdentity>,
    /// Values of `_acme-challenge` per host (RFC 8555, section 8.4).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub txt: BTreeMap<HostName, Vec<String>>,
}

/// One thing a client exposes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name, the first label of `SERVICE.NAME.ZONE`.
    pub name: ServiceName,
    /// What visitors speak.
    pub kind: ServiceKind,
    /// Who ends the visitor's TLS.
    #[serde(default)]
    pub tls: TlsMode,
    /// The agreed port of a TCP service (the same on all relays).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// The transport of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceKind {
    /// HTTPS at the zone's ingress port.
    Http,
    /// Raw TCP at a port of its own.
    Tcp,
    /// Reserved; accepted in a presence, not served.
    Udp,
}

/// Who ends the visitor's TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// The client: relays see only TLS records.
    #[default]
    Pass,
    /// The relay, because the client asked for it.
    Term,
}

/// A text that is not a [`TlsMode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "neither pass (TLS ends at this machine) nor term (TLS ends at the relays, which can read everything)"
)]
pub struct TlsModeError;

impl std::str::FromStr for TlsMode {
    type Err = TlsModeError;

    fn from_str(text: &str) -> Result<Self, TlsModeError> {
        match text {
            "pass" => Ok(Self::Pass),
            "term" => Ok(Self::Term),
            _ => Err(TlsModeError),
        }
    }
}

/// Why a presence is refused.
#[derive(Debug, thiserror::Error)]
pub enum PresenceError {
    /// Encoding, header, JSON or signature.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// `iss` differs from the signing key.
    #[error("iss is not the signing key")]
    Issuer,
    /// `exp` is not within (`seq`, `seq` + 1 h].
    #[error("exp is not within an hour after seq")]
    Lifetime,
    /// `seq` lies more than 60 s ahead of the verifier's clock.
    #[error("signed in the future; check the clock")]
    Ahead,
    /// Already over.
    #[error("expired")]
    Expired,
    /// More entries than a presence may hold.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// Two services of one name, or a relay or name listed twice.
    #[error("{0} listed twice")]
    Duplicate(&'static str),
    /// A challenge value that is not 43 characters of base64url.
    #[error("a challenge value is not 43 characters of base64url")]
    TxtValue,
    /// An ACME identity whose characters could not stand in a CAA record.
    #[error("an ACME identity has characters that CAA cannot hold")]
    AcmeIdentity,
}

/// A presence whose signature and form have been checked, with the exact text that was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    claims: Claims,
    text: Arc<str>,
}

/// A presence whose form is right and whose signature has not been looked at yet.
#[derive(Debug)]
pub struct UnverifiedPresence<'a> {
    claims: Claims,
    jws: Unverified<'a>,
    text: &'a str,
}

impl Claims {
    /// Signs these claims. `iss` must be the key's address and the form must be valid.
    pub fn sign(self, key: &SecretKey) -> Result<Presence, PresenceError> {
        self.check_form(key.address())?;
        let text = jws::sign(TYPE, key, &self).map_err(JwsError::Json)?;
        if text.len() > MAX_LEN {
            return Err(JwsError::TooLong(MAX_LEN).into());
        }
        Ok(Presence { claims: self, text: text.into() })
    }

    /// Whether the presence is over at `now`.
    pub fn expired(&self, now: UnixMillis) -> bool {
        now >= self.exp.millis()
    }

    /// The service that `name` selects: the one so called, or the first for a bare name.
    pub fn service(&self, name: Option<&ServiceName>) -> Option<&Service> {
        match name {
            None => self.services.first(),
            Some(name) => self.services.iter().find(|service| &service.name == name),
        }
    }

    fn check_form(&self, signer: Address) -> Result<(), PresenceError> {
        if self.iss != signer {
            return Err(PresenceError::Issuer);
        }
        if self.exp.millis() <= self.seq || self.exp.millis() > self.seq.plus(MAX_LIFETIME) {
            return Err(PresenceError::Lifetime);
        }
        let too_many = [
            ("names", self.names.len() > MAX_NAMES),
            ("relays", self.relays.len() > MAX_RELAYS),
            ("services", self.services.len() > MAX_SERVICES),
            ("ACME identities", self.acme.len() > MAX_ACME),
            ("challenge hosts", self.txt.len() > MAX_NAMES + 1),
            ("challenge values", self.txt.values().any(|values| values.len() > MAX_TXT_VALUES)),
        ];
        if let Some((what, _)) = too_many.into_iter().find(|(_, over)| *over) {
            return Err(PresenceError::TooMany(what));
        }
        if has_duplicate(&self.names) {
            return Err(PresenceError::Duplicate("a name"));
        }
        if has_duplicate(&self.relays) {
            return Err(PresenceError::Duplicate("a relay"));
        }
        if has_duplicate(self.services.iter().map(|service| &service.name)) {
            return Err(PresenceError::Duplicate("a service"));
        }
        if !self.txt.values().flatten().all(|value| is_challenge_value(value)) {
            return Err(PresenceError::TxtValue);
        }
        if !self.acme.iter().all(AcmeIdentity::is_well_formed) {
            return Err(PresenceError::AcmeIdentity);
        }
        Ok(())
    }
}

impl<'a> UnverifiedPresence<'a> {
    /// Parses `text` and checks everything but the signature, so that a receiver can drop what it would not use
    /// before it pays for the check.
    pub fn parse(text: &'a str, now: UnixMillis) -> Result<Self, PresenceError> {
        let presence = Self::parse_of_any_time(text)?;
        if presence.claims.seq > now.plus(MAX_AHEAD) {
            return Err(PresenceError::Ahead);
        }
        if presence.claims.expired(now) {
            return Err(PresenceError::Expired);
        }
        Ok(presence)
    }

    /// The same without regard to time: for reading back what was accepted before a restart.
    pub fn parse_of_any_time(text: &'a str) -> Result<Self, PresenceError> {
        let jws = Unverified::parse(text, TYPE, MAX_LEN)?;
        let claims: Claims = jws.claims()?;
        claims.check_form(jws.signer())?;
        Ok(Self { claims, jws, text })
    }

    /// The claims, not yet proven.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Checks the signature.
    pub fn verify(self) -> Result<Presence, PresenceError> {
        self.jws.verify()?;
        Ok(Presence { claims: self.claims, text: self.text.into() })
    }
}

impl Presence {
    /// Parses and verifies in one step.
    pub fn verify(text: &str, now: UnixMillis) -> Result<Self, PresenceError> {
        UnverifiedPresence::parse(text, now)?.verify()
    }

    /// The proven claims.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The compact JWS exactly as signed.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }
}

fn has_duplicate<T: Ord>(items: impl IntoIterator<Item = T>) -> bool {
    let mut items: Vec<T> = items.into_iter().collect();
    items.sort_unstable();
    items.windows(2).any(|pair| pair[0] == pair[1])
}

/// Whether `value` can be a DNS-01 value (RFC 8555, section 8.4).
pub(crate) fn is_challenge_value(value: &str) -> bool {
    value.len() == TXT_VALUE_LEN && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}
