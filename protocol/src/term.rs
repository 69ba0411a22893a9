//! Term mode: for which hosts a client lets its relays end the visitor's TLS, and which DNS-01 values it signs for them
//! (DESIGN §9). Pure; whoever holds the sessions passes requests in and signs what comes out.
//!
//! A relay can only ask. A value is taken for a host of a term-mode service, from a relay that the presence lists and
//! whose ACME account the chain names; the account that CAA allows is the chain's, whatever the relay says.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::address::Address;
use crate::control::AcmeValue;
use crate::directory::{AcmeIdentity, Directory};
use crate::name::{HostName, PublicName, Zone};
use crate::presence::{MAX_ACME, MAX_TXT_VALUES, Service, ServiceKind, TlsMode, is_challenge_value};
use crate::time::UnixSeconds;

/// Longest time for which a value stays in the presence.
pub const MAX_SHOWN: Duration = Duration::from_secs(900);
/// Most values at once: a presence must stay below its 4 KiB.
pub const MAX_VALUES: usize = 8;
/// A relay may change values this often in a row...
const BURST: u64 = 32;
/// ...and then once in this many seconds: each change is a new presence for every relay and DNS server.
const REFILL: u64 = 10;

/// The hosts whose TLS `client` lets relays end when its presence lists these names and services: `NAME.ZONE` for the
/// first service, `SERVICE.NAME.ZONE` for every other. Without names, those of the account.
pub fn hosts(zone: &Zone, client: Address, names: &[PublicName], services: &[Service]) -> Vec<HostName> {
    let labels = names.iter().filter(|name| matches!(name, PublicName::Label(_)));
    let mut bare: Vec<HostName> = labels.map(|name| zone.public_host(name)).collect();
    if names.is_empty() {
        bare.push(zone.account_host(&client));
    }
    let services = services.iter().enumerate().filter(|(_, service)| is_ended_by_relays(service));
    let of_service = |(index, service): (usize, &Service)| {
        let below = move |host: &HostName| match index {
            0 => Some(host.clone()),
            // A name too long for DNS cannot be asked for either.
            _ => format!("{}.{host}", service.name).parse().ok(),
        };
        bare.iter().filter_map(below).collect::<Vec<_>>()
    };
    services.flat_map(of_service).collect()
}

/// Whether relays end the TLS of this service's visitors.
pub fn is_ended_by_relays(service: &Service) -> bool {
    service.kind == ServiceKind::Http && service.tls == TlsMode::Term
}

/// The ACME accounts that a presence of a client with term-mode services names: `own`, then those that the chain says
/// are the listed relays', as far as there is room.
pub fn accounts<'a>(
    directory: &Directory,
    relays: &[Address],
    own: impl IntoIterator<Item = &'a AcmeIdentity>,
) -> Vec<AcmeIdentity> {
    let mut accounts: Vec<AcmeIdentity> = own.into_iter().cloned().collect();
    let of_relays = relays.iter().filter_map(|relay| account(directory, relay));
    for account in of_relays {
        if accounts.len() < MAX_ACME && !accounts.contains(account) {
            accounts.push(account.clone());
        }
    }
    accounts
}

/// The account that the chain says is the relay's, if the zone's policy lets its issuer issue at all.
fn account<'a>(directory: &'a Directory, relay: &Address) -> Option<&'a AcmeIdentity> {
    let account = directory.relays.get(relay)?.acme.as_ref()?;
    let issuers = &directory.zone.issuers;
    (account.is_well_formed() && (issuers.is_empty() || issuers.contains(&account.issuer))).then_some(account)
}

/// What a request is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Consent<'a> {
    /// Hosts whose TLS relays may end ([`hosts`]).
    pub hosts: &'a [HostName],
    /// Relays that the presence lists.
    pub relays: &'a [Address],
    /// What the chain says.
    pub directory: &'a Directory,
}

/// What became of a request that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A new presence must be signed.
    Changed,
    /// It was known.
    Known,
}

/// Why a value is not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum Refused {
    #[error("the presence does not list this relay")]
    NotListed,
    #[error("no relay may end the TLS of {0}")]
    NotTerm(HostName),
    #[error("the chain names no ACME account of this relay that the zone allows")]
    NoAccount,
    #[error("it is not a DNS-01 value")]
    Malformed,
    #[error("it has expired")]
    Expired,
    #[error("as many values are shown as a presence can hold")]
    TooMany,
    #[error("this relay asks too often")]
    TooOften,
}

/// The values that relays asked for: one per host and relay.
#[derive(Debug, Default)]
pub struct Requests {
    shown: BTreeMap<(HostName, Address), Shown>,
    /// When each relay may change as many values as ever, in Unix seconds.
    full_at: BTreeMap<Address, u64>,
}

#[derive(Debug)]
struct Shown {
    value: String,
    until: UnixSeconds,
}

impl Requests {
    /// Judges what `relay` asks at `now`. A request whose time is over takes the relay's own value back.
    pub fn take(
        &mut self,
        relay: Address,
        request: AcmeValue,
        consent: &Consent<'_>,
        now: UnixSeconds,
    ) -> Result<Taken, Refused> {
        if !consent.relays.contains(&relay) {
            return Err(Refused::NotListed);
        }
        if !consent.hosts.contains(&request.name) {
            return Err(Refused::NotTerm(request.name));
        }
        if account(consent.directory, &relay).is_none() {
            return Err(Refused::NoAccount);
        }
        if !is_challenge_value(&request.value) {
            return Err(Refused::Malformed);
        }
        let key = (request.name, relay);
        let same = self.shown.get(&key).is_some_and(|shown| shown.value == request.value);
        if request.until <= now {
            return match same.then(|| self.shown.remove(&key)) {
                Some(_) => Ok(Taken::Changed),
                None => Err(Refused::Expired),
            };
        }
        if !self.shown.contains_key(&key) && self.shown.len() >= MAX_VALUES {
            return Err(Refused::TooMany);
        }
        if !same {
            self.spend(relay, now)?;
        }
        let until = request.until.min(now.plus(MAX_SHOWN));
        self.shown.insert(key, Shown { value: request.value, until });
        Ok(if same { Taken::Known } else { Taken::Changed })
    }

    /// Drops values whose time is over or whose relay is no longer listed; says whether there were any.
    pub fn expire(&mut self, relays: &[Address], now: UnixSeconds) -> bool {
        let before = self.shown.len();
        self.shown.retain(|(_, relay), shown| shown.until > now && relays.contains(relay));
        self.full_at.retain(|_, full_at| *full_at > now.0);
        self.shown.len() != before
    }

    /// The values to publish, per host.
    pub fn values(&self) -> BTreeMap<HostName, Vec<String>> {
        let mut values: BTreeMap<HostName, Vec<String>> = BTreeMap::new();
        for ((host, _), shown) in &self.shown {
            let of_host = values.entry(host.clone()).or_default();
            if of_host.len() < MAX_TXT_VALUES && !of_host.contains(&shown.value) {
                of_host.push(shown.value.clone());
            }
        }
        values
    }

    fn spend(&mut self, relay: Address, now: UnixSeconds) -> Result<(), Refused> {
        let full_at = self.full_at.get(&relay).copied().unwrap_or(0).max(now.0) + REFILL;
        if full_at > now.0 + BURST * REFILL {
            return Err(Refused::TooOften);
        }
        self.full_at.insert(relay, full_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
