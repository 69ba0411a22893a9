//! The namespace's calls: authorise, delegate, emit.

use soroban_sdk::{
    Address, BytesN, Env, String, Vec, contract, contractimpl, contractmeta, token::TokenClient,
};
use tunnel_stewardship::{
    PendingAdmin, PendingUpgrade, Steward, StewardError, appoint, mutated, require_admin, require_running,
};
use tunnel_text_rules::{is_account, is_reason};

use crate::error::Error;
use crate::event::{
    DomainMapped, DomainUnmapped, FeesWithdrawn, NameRegistered, NameReleased, NameRenewed, NameReserved,
    NameSuspended, NameTransferred, NameUnreserved, NameUnsuspended, NamespaceConfigured, PrimarySet,
    RelaysSet, TargetSet,
};
use crate::lease::Phase;
use crate::types::{Config, LabelEntry, NameRecord, PrimaryEntry};
use crate::{commitment, config, domain, label, lease, registration, storage};

contractmeta!(key = "desc", val = "Tunnler namespace");
contractmeta!(key = "binver", val = env!("CARGO_PKG_VERSION"));

/// Records a page can hold.
const PAGE_MAX: u32 = 20;
/// Relays a name can be restricted to.
const RELAYS_MAX: u32 = 8;

/// The names of one zone.
#[contract]
pub struct TunnelNamespace;

#[contractimpl]
impl TunnelNamespace {
    /// Appoints the admin, names the zone and sets the rules for registrations.
    pub fn __constructor(env: &Env, admin: Address, zone: String, config: Config) -> Result<(), Error> {
        config::check_zone(&zone)?;
        config.check()?;
        appoint(env, &admin);
        storage::set_zone(env, &zone);
        storage::set_config(env, config);
        Ok(())
    }

    /// Commits to a registration. It can come 12 to 17,280 ledgers later; see `commitment` for the hash. Auth: owner.
    pub fn commit(env: &Env, owner: Address, hash: BytesN<32>) {
        owner.require_auth();
        storage::set_commitment(env, &owner, &hash);
    }

    /// Registers a free name for whole years. The owner pays. `salt` is that of the commitment, where the
    /// zone asks for one. Auth: owner.
    pub fn register(
        env: &Env,
        owner: Address,
        name: String,
        target: Address,
        years: u32,
        salt: Option<BytesN<32>>,
    ) -> Result<(), Error> {
        require_running(env);
        owner.require_auth();
        label::check(&name)?;
        require(is_account(&target), Error::NotAnAccount)?;
        let terms = storage::terms(env);
        if terms.commit_reveal {
            commitment::reveal(env, &name, &owner, &target, salt)?;
        }
        let revision = mutated(env);
        let (slot, NameRecord { expires_at, serial, .. }) =
            registration::register(env, &terms, &owner, &name, &target, years, revision)?;
        NameRegistered { name, owner, slot, target, expires_at, serial, revision }.publish(env);
        Ok(())
    }

    /// Prolongs a name, in its grace period too. Whoever wants it to live may pay. Auth: payer.
    pub fn renew(env: &Env, payer: Address, name: String, years: u32) -> Result<(), Error> {
        payer.require_auth();
        let now = env.ledger().timestamp();
        let (slot, record) = storage::find(env, &name)?;
        require(record.phase(now) != Phase::Lapsed, Error::NameLapsed)?;
        let expires_at = lease::expiry(now, record.expires_at, years)?;
        storage::set_record(env, slot, &NameRecord { expires_at, ..record });
        registration::collect_fee(env, &storage::terms(env), &payer, &name, years);
        NameRenewed { name, slot, payer, expires_at, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Gives a name to another owner. Target, allowed relays, domains and primary are cleared. Auth: both owners.
    pub fn transfer(env: &Env, name: String, new_owner: Address) -> Result<(), Error> {
        require_running(env);
        let (slot, record) = find_live(env, &name)?;
        let owner = record.owner.clone();
        require(new_owner != owner, Error::SelfTransfer)?;
        owner.require_auth();
        new_owner.require_auth();
        record.require_unsuspended()?;
        let revision = mutated(env);
        registration::transfer(env, slot, record, &new_owner, revision)?;
        NameTransferred { name, owner, new_owner, slot, serial: revision, revision }.publish(env);
        Ok(())
    }

    /// Points a name at another client key, or at none. Auth: owner.
    pub fn set_target(env: &Env, name: String, target: Option<Address>) -> Result<(), Error> {
        let (slot, record) = find_live(env, &name)?;
        record.owner.require_auth();
        require(target.as_ref().is_none_or(is_account), Error::NotAnAccount)?;
        storage::set_record(env, slot, &NameRecord { target: target.clone(), ..record });
        TargetSet { name, slot, target, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Restricts a name to presences on these relays. At most 8; an empty list allows all. Auth: owner.
    pub fn set_relays(env: &Env, name: String, relays: Vec<Address>) -> Result<(), Error> {
        let (slot, record) = find_live(env, &name)?;
        record.owner.require_auth();
        check_relays(&relays)?;
        storage::set_record(env, slot, &NameRecord { relays: relays.clone(), ..record });
        RelaysSet { name, slot, relays, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Chooses the name by which a target wants to be known. Auth: target.
    pub fn set_primary(env: &Env, target: Address, name: String) -> Result<(), Error> {
        target.require_auth();
        let (slot, record) = find_live(env, &name)?;
        record.require_unsuspended()?;
        require(record.target.as_ref() == Some(&target), Error::NotTheTarget)?;
        storage::set_primary(env, &target, &PrimaryEntry { slot, serial: record.serial });
        PrimarySet { target, name, slot, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Gives a name up at once. Nothing is refunded. A suspended name cannot shed its suspension so. Auth: owner.
    pub fn release(env: &Env, name: String) -> Result<(), Error> {
        let now = env.ledger().timestamp();
        let (slot, record) = storage::find(env, &name)?;
        let owner = record.owner.clone();
        owner.require_auth();
        record.require_unsuspended()?;
        // A lapsed name that nobody took still counts against its last owner, until it is released.
        require(storage::held(env, &owner).contains(slot), Error::NameLapsed)?;
        storage::let_go(env, &owner, slot);
        let expires_at = record.expires_at.min(now);
        storage::set_record(env, slot, &NameRecord { expires_at, grace: 0, target: None, ..record });
        NameReleased { name, owner, slot, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Claims a custom domain for a name. At most 4. Another name may claim it too: who is served is decided by a
    /// proof in the domain's own DNS. Auth: owner.
    pub fn map_domain(env: &Env, name: String, domain: String) -> Result<(), Error> {
        let (slot, record) = find_live(env, &name)?;
        record.owner.require_auth();
        domain::map(env, slot, record, &domain)?;
        DomainMapped { name, slot, domain, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Takes a claim to a custom domain back. Auth: owner.
    pub fn unmap_domain(env: &Env, name: String, domain: String) -> Result<(), Error> {
        let (slot, record) = find_live(env, &name)?;
        record.owner.require_auth();
        domain::unmap(env, slot, record, &domain)?;
        DomainUnmapped { name, slot, domain, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// The client key a live name points to.
    pub fn resolve(env: &Env, name: String) -> Result<Address, Error> {
        let (_, record) = find_live(env, &name)?;
        record.require_unsuspended()?;
        record.target.ok_or(Error::NoTarget)
    }

    /// All about a name that was ever registered.
    pub fn record(env: &Env, name: String) -> Result<NameRecord, Error> {
        storage::find(env, &name).map(|(_, record)| record)
    }

    /// The custom domains a name claims.
    pub fn domains(env: &Env, name: String) -> Result<Vec<String>, Error> {
        storage::find(env, &name).map(|(slot, record)| storage::domains(env, slot, &record))
    }

    /// A page of the names an owner holds. Expired ones are held until another takes them.
    /// `limit` is 1..=20.
    pub fn owned(env: &Env, owner: Address, start: u32, limit: u32) -> Result<Vec<NameRecord>, Error> {
        let slots = storage::held(env, &owner);
        let mut page = Vec::new(env);
        for slot in slots.slice(start..page_end(slots.len(), start, limit)?) {
            page.push_back(storage::record(env, slot));
        }
        Ok(page)
    }

    /// A page of all records. These are in slots `start` to `start + limit`, whatever their phase. `limit` is 1..=20.
    pub fn names(env: &Env, start: u32, limit: u32) -> Result<Vec<NameRecord>, Error> {
        let mut page = Vec::new(env);
        for slot in start..page_end(storage::slots(env), start, limit)? {
            page.push_back(storage::record(env, slot));
        }
        Ok(page)
    }

    /// How many names were ever registered.
    pub fn count(env: &Env) -> u32 {
        storage::slots(env)
    }

    /// The name a target chose, while it points there.
    pub fn primary(env: &Env, target: Address) -> Option<String> {
        let PrimaryEntry { slot, serial } = storage::primary(env, &target)?;
        let record = storage::record(env, slot);
        let holds = record.serial == serial
            && record.target == Some(target)
            && record.suspended.is_none()
            && record.phase(env.ledger().timestamp()) == Phase::Live;
        holds.then_some(record.label)
    }

    /// The rules for new registrations. How the zone is published, too.
    pub fn config(env: &Env) -> Config {
        storage::config(env)
    }

    /// The zone all names are in.
    pub fn zone(env: &Env) -> String {
        storage::zone(env)
    }

    /// Changes the rules for new registrations. Names that are registered keep their grace period. Auth: admin.
    pub fn set_config(env: &Env, config: Config) -> Result<(), Error> {
        require_admin(env);
        config.check()?;
        require(config.token == storage::terms(env).token, Error::TokenFixed)?;
        storage::set_config(env, config);
        NamespaceConfigured { revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Sets a label aside that nobody has. Auth: admin.
    pub fn reserve(env: &Env, name: String) -> Result<(), Error> {
        require_admin(env);
        label::check(&name)?;
        let entry = storage::label(env, &name);
        let now = env.ledger().timestamp();
        let free = entry.slot.is_none_or(|slot| storage::record(env, slot).phase(now) == Phase::Lapsed);
        require(free, Error::NameTaken)?;
        require(!entry.reserved, Error::LabelReserved)?;
        storage::set_label(env, &name, &LabelEntry { reserved: true, ..entry });
        NameReserved { name, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Lets a label be registered again. Auth: admin.
    pub fn unreserve(env: &Env, name: String) -> Result<(), Error> {
        require_admin(env);
        let entry = storage::label(env, &name);
        require(entry.reserved, Error::NotReserved)?;
        storage::set_label(env, &name, &LabelEntry { reserved: false, ..entry });
        NameUnreserved { name, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Stops a name from resolving. It cannot be transferred either; everybody can read why. Auth: admin.
    pub fn suspend(env: &Env, name: String, reason: String) -> Result<(), Error> {
        require_admin(env);
        require(is_reason(&reason), Error::BadReason)?;
        let (slot, record) = storage::find(env, &name)?;
        require(record.phase(env.ledger().timestamp()) != Phase::Lapsed, Error::NameLapsed)?;
        record.require_unsuspended()?;
        storage::set_record(env, slot, &NameRecord { suspended: Some(reason.clone()), ..record });
        NameSuspended { name, slot, reason, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Lets a name resolve again. Auth: admin.
    pub fn unsuspend(env: &Env, name: String) -> Result<(), Error> {
        require_admin(env);
        let (slot, record) = storage::find(env, &name)?;
        require(record.suspended.is_some(), Error::NotSuspended)?;
        storage::set_record(env, slot, &NameRecord { suspended: None, ..record });
        NameUnsuspended { name, slot, revision: mutated(env) }.publish(env);
        Ok(())
    }

    /// Pays collected fees out. Auth: admin.
    pub fn withdraw_fees(env: &Env, to: Address, amount: i128) -> Result<(), Error> {
        require_admin(env);
        require(amount > 0, Error::BadAmount)?;
        let token = TokenClient::new(env, &storage::terms(env).token);
        token.transfer(&env.current_contract_address(), &to, &amount);
        FeesWithdrawn { to, amount, revision: mutated(env) }.publish(env);
        Ok(())
    }
}

#[contractimpl(contracttrait)]
impl Steward for TunnelNamespace {}

fn find_live(env: &Env, name: &String) -> Result<(u32, NameRecord), Error> {
    let (slot, record) = storage::find(env, name)?;
    record.require_live(env.ledger().timestamp())?;
    Ok((slot, record))
}

fn check_relays(relays: &Vec<Address>) -> Result<(), Error> {
    require(relays.len() <= RELAYS_MAX, Error::BadRelays)?;
    for (index, relay) in (0..).zip(relays.iter()) {
        require(is_account(&relay), Error::NotAnAccount)?;
        require(relays.first_index_of(&relay) == Some(index), Error::BadRelays)?;
    }
    Ok(())
}

fn page_end(count: u32, start: u32, limit: u32) -> Result<u32, Error> {
    require((1..=PAGE_MAX).contains(&limit), Error::PageLimit)?;
    require(start <= count, Error::PageStart)?;
    Ok(count.min(start.saturating_add(limit)))
}

fn require(condition: bool, error: Error) -> Result<(), Error> {
    if condition { Ok(()) } else { Err(error) }
}
