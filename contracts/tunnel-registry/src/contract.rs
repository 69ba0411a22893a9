//! The registry's calls: authorise, delegate, emit.

use soroban_sdk::{
    Address, BytesN, Env, String, Vec, contract, contractimpl, contractmeta, token::TokenClient,
};
use tunnel_stewardship::{
    PendingAdmin, PendingUpgrade, Steward, StewardError, appoint, mutated, require_admin, require_running,
};
use tunnel_text_rules::is_reason;

use crate::error::Error;
use crate::event::{
    RegistryConfigured, RelayDelisted, RelayDeregistered, RelayRegistered, RelayRelisted, RelayRotated,
    RelayStatusSet, RelayUpdated, RelayWithdrawn,
};
use crate::record::{self, require};
use crate::storage;
use crate::types::{Config, Heartbeat, RegionPage, RelayEntry, RelayRecord, RelayStatus};

contractmeta!(key = "desc", val = "Tunnler relay registry");
contractmeta!(key = "binver", val = env!("CARGO_PKG_VERSION"));

/// Entries a page can hold.
const PAGE_MAX: u32 = 20;

/// The list of relays.
#[contract]
pub struct TunnelRegistry;

#[contractimpl]
impl TunnelRegistry {
    /// Appoints the admin and sets the rules for registrations.
    pub fn __constructor(env: &Env, admin: Address, config: Config) -> Result<(), Error> {
        record::check_config(&config)?;
        appoint(env, &admin);
        storage::set_config(env, &config);
        Ok(())
    }

    /// Lists a relay and takes its stake from the operator. Auth: operator and relay.
    pub fn register(
        env: &Env,
        operator: Address,
        relay: Address,
        record: RelayRecord,
        stake: i128,
    ) -> Result<(), Error> {
        require_running(env);
        require_both(&operator, &relay);
        record::check_relay(&relay)?;
        record::check(env, &record)?;
        let Config { token, min_stake, unbonding, per_operator, .. } = storage::config(env);
        require(stake >= min_stake, Error::StakeTooSmall)?;
        require(storage::slot_of(env, &relay).is_none(), Error::RelayTaken)?;
        let operated = storage::operated(env, &operator);
        require(operated < per_operator, Error::OperatorCap)?;

        storage::set_operated(env, &operator, operated + 1);
        let slot = storage::append(
            env,
            &RelayEntry {
                operator: operator.clone(),
                relay: relay.clone(),
                record,
                stake,
                status: RelayStatus::Active,
                registered_at: env.ledger().timestamp(),
                unbonding,
                unbonding_until: None,
                delisted: None,
            },
        );
        if stake > 0 {
            TokenClient::new(env, &token).transfer(&operator, env.current_contract_address(), &stake);
        }
        RelayRegistered { relay, operator, slot, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Publishes another record. Auth: relay.
    pub fn update(env: &Env, relay: Address, record: RelayRecord) -> Result<(), Error> {
        require_running(env);
        relay.require_auth();
        record::check(env, &record)?;
        let (slot, entry) = storage::find(env, &relay)?;
        require(entry.unbonding_until.is_none(), Error::Unbonding)?;
        storage::set_entry(env, slot, &RelayEntry { record, ..entry });
        RelayUpdated { relay, slot, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Gives the relay another key. Auth: operator and the new key, so that a stolen relay key cannot keep itself.
    pub fn rotate(env: &Env, relay: Address, new_relay: Address) -> Result<(), Error> {
        require_running(env);
        let (slot, entry) = storage::find(env, &relay)?;
        require_both(&entry.operator, &new_relay);
        record::check_relay(&new_relay)?;
        require(entry.unbonding_until.is_none(), Error::Unbonding)?;
        require(storage::slot_of(env, &new_relay).is_none(), Error::RelayTaken)?;
        storage::rekey(env, slot, &relay, &new_relay);
        storage::set_entry(env, slot, &RelayEntry { relay: new_relay.clone(), ..entry });
        RelayRotated { relay, new_relay, slot, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Says that the relay lives and how many clients it carries; neither event nor revision. Auth: relay.
    pub fn heartbeat(env: &Env, relay: Address, load: u32) -> Result<(), Error> {
        relay.require_auth();
        require(storage::slot_of(env, &relay).is_some(), Error::UnknownRelay)?;
        storage::set_heartbeat(env, &relay, &Heartbeat { time: env.ledger().timestamp(), load });
        Ok(())
    }

    /// Says whether the relay takes clients. Auth: relay.
    pub fn set_status(env: &Env, relay: Address, status: RelayStatus) -> Result<(), Error> {
        relay.require_auth();
        let (slot, entry) = storage::find(env, &relay)?;
        require(entry.unbonding_until.is_none(), Error::Unbonding)?;
        storage::set_entry(env, slot, &RelayEntry { status, ..entry });
        RelayStatusSet { relay, slot, status, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Begins the relay's leave: from now on it counts no more, and its stake is locked for the time that was agreed
    /// on at registration. Auth: operator.
    pub fn deregister(env: &Env, relay: Address) -> Result<(), Error> {
        let (slot, entry) = storage::find(env, &relay)?;
        let operator = entry.operator.clone();
        operator.require_auth();
        require(entry.unbonding_until.is_none(), Error::Unbonding)?;
        let until = env.ledger().timestamp().saturating_add(entry.unbonding);
        storage::set_entry(env, slot, &RelayEntry { unbonding_until: Some(until), ..entry });
        RelayDeregistered { relay, operator, slot, until, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Removes the relay and pays its stake back to the operator. Auth: operator.
    pub fn withdraw(env: &Env, relay: Address) -> Result<(), Error> {
        let (slot, entry) = storage::find(env, &relay)?;
        let operator = entry.operator.clone();
        operator.require_auth();
        let until = entry.unbonding_until.ok_or(Error::NotUnbonding)?;
        require(until <= env.ledger().timestamp(), Error::StakeLocked)?;

        let moved = storage::swap_remove(env, slot, &entry);
        storage::set_operated(env, &operator, storage::operated(env, &operator) - 1);
        let stake = entry.stake;
        if stake > 0 {
            let token = TokenClient::new(env, &storage::config(env).token);
            token.transfer(&env.current_contract_address(), &operator, &stake);
        }
        RelayWithdrawn { relay, operator, slot, stake, moved, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// A relay's entry.
    pub fn relay(env: &Env, relay: Address) -> Result<RelayEntry, Error> {
        storage::find(env, &relay).map(|(_, entry)| entry)
    }

    /// A relay's last sign of life, if there was one lately.
    pub fn last_heartbeat(env: &Env, relay: Address) -> Option<Heartbeat> {
        storage::heartbeat(env, &relay)
    }

    /// The relays in slots `start` to `start + limit`, of which there may be fewer. `limit` is 1..=20.
    pub fn relays(env: &Env, start: u32, limit: u32) -> Result<Vec<RelayEntry>, Error> {
        let mut page = Vec::new(env);
        for slot in start..window_end(env, start, limit)? {
            page.push_back(storage::entry(env, slot));
        }
        Ok(page)
    }

    /// The relays of a region in slots `start` to `start + limit`, and where to go on. `limit` is 1..=20.
    pub fn relays_in(env: &Env, region: String, start: u32, limit: u32) -> Result<RegionPage, Error> {
        let end = window_end(env, start, limit)?;
        let mut relays = Vec::new(env);
        for slot in start..end {
            let entry = storage::entry(env, slot);
            if entry.record.region == region {
                relays.push_back(entry);
            }
        }
        Ok(RegionPage { relays, next: (end < storage::count(env)).then_some(end) })
    }

    /// How many relays there are, whatever their state.
    pub fn count(env: &Env) -> u32 {
        storage::count(env)
    }

    /// The rules for new registrations.
    pub fn config(env: &Env) -> Config {
        storage::config(env)
    }

    /// Changes the rules for new registrations; relays that are registered keep theirs. Auth: admin.
    pub fn set_config(env: &Env, config: Config) -> Result<(), Error> {
        require_admin(env);
        record::check_config(&config)?;
        require(config.token == storage::config(env).token, Error::TokenFixed)?;
        storage::set_config(env, &config);
        RegistryConfigured { revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Takes a relay off the list; its stake stays its operator's. Auth: admin.
    pub fn delist(env: &Env, relay: Address, reason: String) -> Result<(), Error> {
        require_admin(env);
        require(is_reason(&reason), Error::BadReason)?;
        let (slot, entry) = storage::find(env, &relay)?;
        require(entry.delisted.is_none(), Error::AlreadyDelisted)?;
        storage::set_entry(env, slot, &RelayEntry { delisted: Some(reason.clone()), ..entry });
        RelayDelisted { relay, slot, reason, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Puts a relay back on the list. Auth: admin.
    pub fn relist(env: &Env, relay: Address) -> Result<(), Error> {
        require_admin(env);
        let (slot, entry) = storage::find(env, &relay)?;
        require(entry.delisted.is_some(), Error::NotDelisted)?;
        storage::set_entry(env, slot, &RelayEntry { delisted: None, ..entry });
        RelayRelisted { relay, slot, revision: mutated(env) }.publish(env);
        Ok(())
    }
}

#[contractimpl(contracttrait)]
impl Steward for TunnelRegistry {}

/// The host refuses a second authorisation of one address in one call, so one key in both roles is asked once.
fn require_both(operator: &Address, relay: &Address) {
    operator.require_auth();
    if relay != operator {
        relay.require_auth();
    }
}

fn window_end(env: &Env, start: u32, limit: u32) -> Result<u32, Error> {
    let count = storage::count(env);
    require((1..=PAGE_MAX).contains(&limit), Error::PageLimit)?;
    require(start <= count, Error::PageStart)?;
    Ok(count.min(start.saturating_add(limit)))
}
