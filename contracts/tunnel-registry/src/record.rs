//! Which records and configurations are accepted. Pure: touches neither storage nor authority.

use soroban_sdk::{Address, BytesN, Env};
use tunnel_text_rules as text;

use crate::error::Error;
use crate::types::{AcmeIdentity, Config, RelayRecord};

const HOST_MAX: usize = 40;
const REGION_MAX: usize = 16;
const ACME_MAX: u32 = 1;
const ACCOUNT_MAX: usize = 64;
const TERMS_MAX: usize = 32;
const CAPACITY_MAX: u32 = 1_000_000;

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;

/// Checks what an operator wants to publish.
pub fn check(env: &Env, record: &RelayRecord) -> Result<(), Error> {
    let RelayRecord { host, control_port, ingress_port, ipv4, ipv6, region, capacity, acme, terms, .. } =
        record;
    let port = 1..=u32::from(u16::MAX);
    require(port.contains(control_port) && port.contains(ingress_port), Error::BadPort)?;
    require(has_address(env, ipv4, ipv6), Error::BadAddress)?;
    require(host.as_ref().is_none_or(|host| text::is_domain(host, HOST_MAX)), Error::BadHost)?;
    require(text::is_word(region, REGION_MAX), Error::BadRegion)?;
    require((1..=CAPACITY_MAX).contains(capacity), Error::BadCapacity)?;
    require(acme.len() <= ACME_MAX, Error::BadAccount)?;
    for AcmeIdentity { issuer, account } in acme {
        require(text::is_issuer(&issuer), Error::BadIssuer)?;
        require(text::is_https_uri(&account, ACCOUNT_MAX), Error::BadAccount)?;
    }
    require(terms.as_ref().is_none_or(|terms| text::is_https_uri(terms, TERMS_MAX)), Error::BadTerms)
}

/// Checks the rules for new registrations.
pub fn check_config(config: &Config) -> Result<(), Error> {
    let Config { token: _, min_stake, unbonding, heartbeat_ttl, per_operator } = config;
    require(
        *min_stake >= 0
            && *unbonding <= 30 * DAY
            && (HOUR..=7 * DAY).contains(heartbeat_ttl)
            && (1..=1_000).contains(per_operator),
        Error::BadConfig,
    )
}

/// A relay key signs sessions and feeds by itself, so it cannot be a contract.
pub fn check_relay(relay: &Address) -> Result<(), Error> {
    require(text::is_account(relay), Error::NotAnAccount)
}

/// Turns a condition into an error.
pub fn require(condition: bool, error: Error) -> Result<(), Error> {
    if condition { Ok(()) } else { Err(error) }
}

/// At least one address, and none unspecified; which networks are acceptable is for readers to say (localnet).
fn has_address(env: &Env, ipv4: &Option<BytesN<4>>, ipv6: &Option<BytesN<16>>) -> bool {
    let some = ipv4.is_some() || ipv6.is_some();
    some && *ipv4 != Some(BytesN::from_array(env, &[0; 4]))
        && *ipv6 != Some(BytesN::from_array(env, &[0; 16]))
}
