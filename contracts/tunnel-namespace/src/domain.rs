//! Custom domains of a name. The list belongs to the name, so nobody can block a domain by claiming it; the proof that
//! the client key may serve it is in the domain's DNS and is checked off chain.

use soroban_sdk::{Env, String, Vec};
use tunnel_text_rules::{DOMAIN_MAX, Text, is_domain};

use crate::error::Error;
use crate::storage;
use crate::types::{DomainsEntry, NameRecord};

/// Longest custom domain: shorter than DNS allows, because all of a name are written with each of them.
const LENGTH_MAX: usize = 96;
/// Domains a name can claim.
const DOMAINS_MAX: u32 = 4;

/// Adds a domain to those of the name in `slot`.
pub fn map(env: &Env, slot: u32, record: NameRecord, domain: &String) -> Result<(), Error> {
    if !is_domain(domain, LENGTH_MAX) || is_in_zone(env, domain) {
        return Err(Error::BadDomain);
    }
    let mut domains = storage::domains(env, slot, &record);
    if domains.contains(domain) {
        return Err(Error::DomainTaken);
    }
    if domains.len() >= DOMAINS_MAX {
        return Err(Error::DomainCap);
    }
    domains.push_back(domain.clone());
    save(env, slot, record, domains);
    Ok(())
}

/// Takes a domain out of those of the name in `slot`.
pub fn unmap(env: &Env, slot: u32, record: NameRecord, domain: &String) -> Result<(), Error> {
    let mut domains = storage::domains(env, slot, &record);
    let index = domains.first_index_of(domain).ok_or(Error::UnknownDomain)?;
    domains.remove(index);
    save(env, slot, record, domains);
    Ok(())
}

fn save(env: &Env, slot: u32, record: NameRecord, domains: Vec<String>) {
    let count = domains.len();
    storage::set_domains(env, slot, &DomainsEntry { serial: record.serial, domains });
    storage::set_record(env, slot, &NameRecord { domains: count, ..record });
}

/// The zone itself, or below it.
fn is_in_zone(env: &Env, domain: &String) -> bool {
    let zone = Text::read(&storage::zone(env), DOMAIN_MAX);
    let domain = Text::read(domain, DOMAIN_MAX);
    domain.strip_suffix(&*zone).is_some_and(|rest| rest.last().is_none_or(|b| *b == b'.'))
}
