//! What this client says about itself, and the signature under it. The one place that makes presences.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tunnler_chain::ChainHandle;
use tunnler_protocol::control::AcmeValue;
use tunnler_protocol::directory::AcmeIdentity;
use tunnler_protocol::name::PublicName;
use tunnler_protocol::presence::{Claims, MAX_LIFETIME, Presence, PresenceError, Service, ServiceKind};
use tunnler_protocol::term::{self, Consent, Refused, Requests, Taken};
use tunnler_protocol::{Address, HostName, SecretKey, ServiceName, UnixMillis, Zone};

use crate::state::{StateDir, StateError};

/// Signs presences with what others contribute to them.
#[derive(Debug)]
pub(super) struct Signer {
    key: SecretKey,
    state: Arc<StateDir>,
    names: Vec<PublicName>,
    services: Vec<Service>,
    chain: ChainHandle,
    /// Hosts whose TLS relays end.
    relayed: Vec<HostName>,
    proofs: Mutex<Proofs>,
    last: Mutex<Option<Presence>>,
    ports: Mutex<BTreeMap<ServiceName, u16>>,
    /// Notified when a presence signed now would say something new.
    pub(super) changed: Notify,
}

/// What certificates need in the presence.
#[derive(Debug, Default)]
struct Proofs {
    accounts: BTreeSet<AcmeIdentity>,
    values: BTreeMap<HostName, Vec<String>>,
    requests: Requests,
}

/// Why a presence cannot be signed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SignError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("presence: {0}")]
    Presence(#[from] PresenceError),
}

impl Signer {
    pub(super) fn new(
        key: SecretKey,
        state: Arc<StateDir>,
        names: Vec<PublicName>,
        services: Vec<Service>,
        (zone, chain): (&Zone, ChainHandle),
    ) -> Self {
        Self {
            relayed: term::hosts(zone, key.address(), &names, &services),
            key,
            state,
            names,
            services,
            chain,
            proofs: Mutex::default(),
            last: Mutex::default(),
            ports: Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(super) fn key(&self) -> &SecretKey {
        &self.key
    }

    pub(super) fn services(&self) -> Vec<ServiceName> {
        self.services.iter().map(|service| service.name.clone()).collect()
    }

    /// A presence that lists `relays`, later than every one before.
    pub(super) fn sign(&self, relays: Vec<Address>) -> Result<Presence, SignError> {
        let seq = self.state.next_sequence(now())?;
        let proofs = self.proofs();
        let mut txt = proofs.requests.values();
        txt.extend(proofs.values.clone());
        let claims = Claims {
            iss: self.key.address(),
            ins: self.state.instance(),
            seq,
            exp: seq.plus(MAX_LIFETIME).seconds(),
            names: self.names.clone(),
            acme: self.accounts(&proofs, &relays),
            relays,
            services: self.services_with_ports(),
            txt,
        };
        let presence = claims.clone().sign(&self.key).or_else(|error| {
            // What relays ask for, or have on chain, must not keep a client from being published.
            tracing::warn!(%error, "signing a presence without what relays need for certificates");
            let acme = proofs.accounts.iter().cloned().collect();
            Claims { acme, txt: proofs.values.clone(), ..claims }.sign(&self.key)
        })?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(presence.clone());
        Ok(presence)
    }

    /// The presence signed last.
    pub(super) fn last(&self) -> Option<Presence> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hosts whose TLS relays end.
    pub(super) fn relayed(&self) -> &[HostName] {
        &self.relayed
    }

    /// Whose accounts CAA allows: this client's own, and where relays end TLS those of the relays listed.
    fn accounts(&self, proofs: &Proofs, relays: &[Address]) -> Vec<AcmeIdentity> {
        match self.chain.directory().filter(|_| !self.relayed.is_empty()) {
            Some(directory) => term::accounts(&directory, relays, &proofs.accounts),
            None => proofs.accounts.iter().cloned().collect(),
        }
    }

    /// Shows what a relay asks for, if it may ask that; `relays` are those listed.
    pub(super) fn take(&self, relay: Address, request: AcmeValue, relays: &[Address]) -> Result<(), Refused> {
        let Some(directory) = self.chain.directory() else { return Err(Refused::NoAccount) };
        let consent = Consent { hosts: &self.relayed, relays, directory: &directory };
        let taken = self.proofs().requests.take(relay, request, &consent, now().seconds())?;
        if taken == Taken::Changed {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Drops what relays asked for whose time is over, or who are not listed any more.
    pub(super) fn drop_expired(&self, relays: &[Address]) {
        if self.proofs().requests.expire(relays, now().seconds()) {
            self.changed.notify_one();
        }
    }

    /// From now on `account` may get certificates.
    pub(super) fn allow_account(&self, account: AcmeIdentity) {
        // One account at a time: an older one has no orders any more.
        self.proofs().accounts = BTreeSet::from([account]);
        self.changed.notify_one();
    }

    pub(super) fn show_values(&self, host: HostName, values: Vec<String>) {
        self.proofs().values.insert(host, values);
        self.changed.notify_one();
    }

    pub(super) fn withdraw_values(&self, host: &HostName) {
        if self.proofs().values.remove(host).is_some() {
            self.changed.notify_one();
        }
    }

    /// From now on TCP services have these ports.
    pub(super) fn set_ports(&self, ports: BTreeMap<ServiceName, u16>) {
        let mut current = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != ports {
            *current = ports;
            self.changed.notify_one();
        }
    }

    fn services_with_ports(&self) -> Vec<Service> {
        let ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let mut services = self.services.clone();
        for service in services.iter_mut().filter(|service| service.kind == ServiceKind::Tcp) {
            service.port = ports.get(&service.name).copied();
        }
        services
    }

    fn proofs(&self) -> MutexGuard<'_, Proofs> {
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
