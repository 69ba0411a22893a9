//! Registering a name, and moving it to another owner: the two ways in which a name starts clean.
//!
//! Authority is the caller's business (`contract.rs`); what can go wrong is decided here.

use soroban_sdk::{Address, Env, String, Vec, token::TokenClient};

use crate::error::Error;
use crate::lease::{self, Phase};
use crate::storage;
use crate::types::{NameRecord, Terms};

/// Gives a free name to `owner` for `years` and takes the fee. `serial` has never been given before.
pub fn register(
    env: &Env,
    terms: &Terms,
    owner: &Address,
    name: &String,
    target: &Address,
    years: u32,
    serial: u64,
) -> Result<(u32, NameRecord), Error> {
    let now = env.ledger().timestamp();
    let expires_at = lease::expiry(now, now, years)?;
    let entry = storage::label(env, name);
    if entry.reserved {
        return Err(Error::LabelReserved);
    }
    if let Some(slot) = entry.slot {
        let last = storage::record(env, slot);
        if last.phase(now) != Phase::Lapsed {
            return Err(Error::NameTaken);
        }
        storage::let_go(env, &last.owner, slot);
    }
    let slot = storage::claim(env, name);
    storage::hold(env, owner, slot, terms.per_owner)?;
    let record = NameRecord {
        label: name.clone(),
        owner: owner.clone(),
        target: Some(target.clone()),
        relays: Vec::new(env),
        registered_at: now,
        expires_at,
        grace: terms.grace,
        serial,
        domains: 0,
        suspended: None,
    };
    storage::set_record(env, slot, &record);
    collect_fee(env, terms, owner, name, years);
    Ok((slot, record))
}

/// Moves a name to another owner, who finds neither target, allowed relays, domains nor primary of the old one.
pub fn transfer(
    env: &Env,
    slot: u32,
    record: NameRecord,
    new_owner: &Address,
    serial: u64,
) -> Result<(), Error> {
    storage::let_go(env, &record.owner, slot);
    storage::hold(env, new_owner, slot, storage::terms(env).per_owner)?;
    storage::set_record(
        env,
        slot,
        &NameRecord {
            owner: new_owner.clone(),
            target: None,
            relays: Vec::new(env),
            serial,
            domains: 0,
            ..record
        },
    );
    Ok(())
}

/// Takes the fee for `years` from `payer`.
pub fn collect_fee(env: &Env, terms: &Terms, payer: &Address, name: &String, years: u32) {
    let fee = lease::fee(&terms.fees, name.len(), years);
    if fee > 0 {
        TokenClient::new(env, &terms.token).transfer(payer, env.current_contract_address(), &fee);
    }
}
