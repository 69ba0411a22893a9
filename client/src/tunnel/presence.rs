//! What this client says about itself, and the signature under it. The one place that makes presences.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tunnler_protocol::directory::AcmeIdentity;
use tunnler_protocol::name::PublicName;
use tunnler_protocol::presence::{Claims, MAX_LIFETIME, Presence, PresenceError, Service, ServiceKind};
use tunnler_protocol::{Address, HostName, SecretKey, ServiceName, UnixMillis};

use crate::state::{StateDir, StateError};

/// Signs presences with what others contribute to them.
#[derive(Debug)]
pub(super) struct Signer {
    key: SecretKey,
    state: Arc<StateDir>,
    names: Vec<PublicName>,
    services: Vec<Service>,
    proofs: Mutex<Proofs>,
    ports: Mutex<BTreeMap<ServiceName, u16>>,
    /// Notified when a presence signed now would say something new.
    pub(super) changed: Notify,
}

/// What certificates need in the presence.
#[derive(Debug, Default)]
struct Proofs {
    accounts: BTreeSet<AcmeIdentity>,
    values: BTreeMap<HostName, Vec<String>>,
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
    ) -> Self {
        Self {
            key,
            state,
            names,
            services,
            proofs: Mutex::default(),
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
        let claims = Claims {
            iss: self.key.address(),
            ins: self.state.instance(),
            seq,
            exp: seq.plus(MAX_LIFETIME).seconds(),
            names: self.names.clone(),
            relays,
            services: self.services_with_ports(),
            acme: proofs.accounts.iter().cloned().collect(),
            txt: proofs.values.clone(),
        };
        Ok(claims.sign(&self.key)?)
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
