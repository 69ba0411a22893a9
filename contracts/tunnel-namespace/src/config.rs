//! Which configurations are accepted, and how one is kept: what calls need in the instance, the rest apart.

use soroban_sdk::{String, Vec};
use tunnel_text_rules as text;

use crate::error::Error;
use crate::types::{Config, Publication, Terms, ZoneServer};

const GRACE_MAX: u64 = 90 * 24 * 60 * 60;
const PER_OWNER_MAX: u32 = 64;
const ISSUERS_MAX: u32 = 4;
const SERVERS_MAX: u32 = 5;
const SERVER_HOST_MAX: usize = 72;
/// Longest zone: it is written with each change, and `ADDRESS.relay.ZONE` must fit in a DNS name.
const ZONE_MAX: usize = 48;
/// Bounds fees so that no multiplication overflows; far above all tokens there are.
const FEE_MAX: i128 = 1 << 96;

/// Checks the zone's name.
pub fn check_zone(zone: &String) -> Result<(), Error> {
    if text::is_domain(zone, ZONE_MAX) { Ok(()) } else { Err(Error::BadConfig) }
}

impl Config {
    /// Checks all values against their ranges.
    pub fn check(&self) -> Result<(), Error> {
        let fees = [self.fees.three, self.fees.four, self.fees.longer];
        let sound = fees.iter().all(|fee| (0..=FEE_MAX).contains(fee))
            && self.grace <= GRACE_MAX
            && (1..=PER_OWNER_MAX).contains(&self.per_owner)
            && self.acme_issuers.len() <= ISSUERS_MAX
            && self.acme_issuers.iter().all(|issuer| text::is_issuer(&issuer))
            && are_sound(&self.servers);
        if sound { Ok(()) } else { Err(Error::BadConfig) }
    }

    /// Takes the configuration apart for storage.
    pub fn into_parts(self) -> (Terms, Publication) {
        let Config { token, fees, grace, commit_reveal, per_owner, address_hosts, acme_issuers, servers } =
            self;
        (
            Terms { token, fees, grace, commit_reveal, per_owner },
            Publication { address_hosts, acme_issuers, servers },
        )
    }

    /// Puts it together again.
    pub fn from_parts(terms: Terms, publication: Publication) -> Self {
        let Terms { token, fees, grace, commit_reveal, per_owner } = terms;
        let Publication { address_hosts, acme_issuers, servers } = publication;
        Self { token, fees, grace, commit_reveal, per_owner, address_hosts, acme_issuers, servers }
    }
}

fn are_sound(servers: &Vec<ZoneServer>) -> bool {
    servers.len() <= SERVERS_MAX
        && servers.iter().all(|server| {
            (server.ipv4.is_some() || server.ipv6.is_some()) && text::is_domain(&server.host, SERVER_HOST_MAX)
        })
}
