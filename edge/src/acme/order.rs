//! One issuance, step by step and resumable: whatever the CA already holds of an order is taken up where it stands.

use std::time::Duration;

use instant_acme::{
    AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ChallengeType, Identifier, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use serde::{Deserialize, Serialize};
use tunnler_protocol::HostName;

use super::{Account, AcmeError, Challenge, Dns01};
use crate::certificate::{Certificate, CertificateError};
use crate::store::Store;

/// The private key, PEM. Made once per host and kept over renewals, so that key and chain can never belong to
/// different ones.
pub const KEY_FILE: &str = "key.pem";
/// The certificate chain, PEM, leaf first.
pub const CHAIN_FILE: &str = "chain.pem";
const ORDER_FILE: &str = "order.json";

const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(150))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// The host itself.
    pub host: HostName,
    /// Also every host directly below it.
    pub wildcard: bool,
}

impl Hosts {
    fn names(&self) -> Vec<String> {
        let wildcard = self.wildcard.then(|| format!("*.{}", self.host));
        std::iter::once(self.host.to_string()).chain(wildcard).collect()
    }
}

#[derive(Serialize, Deserialize)]
struct Pending {
    account: String,
    url: String,
}

/// The certificate in `store`, if there is a usable one for `hosts`. What is unusable is set aside.
pub fn load(store: &Store, hosts: &Hosts) -> Result<Option<Certificate>, AcmeError> {
    let (Some(chain), Some(key)) = (store.read(CHAIN_FILE)?, store.read(KEY_FILE)?) else { return Ok(None) };
    match Certificate::from_pem(&chain, &key) {
        Ok(found) if hosts.names().iter().all(|name| found.names().contains(name)) => Ok(Some(found)),
        Ok(_) => {
            store.set_aside(CHAIN_FILE, &"it is for other hosts")?;
            Ok(None)
        }
        Err(error) => {
            store.set_aside(CHAIN_FILE, &error)?;
            Ok(None)
        }
    }
}

/// Whether an order in `store` waits to be taken up. One that cannot be read does not.
pub(super) fn is_pending(store: &Store) -> bool {
    store.read(ORDER_FILE).is_ok_and(|order| order.is_some())
}

/// Orders a certificate and stores it, or takes up the order that an earlier process began.
pub async fn obtain(
    account: &Account,
    store: &Store,
    hosts: &Hosts,
    dns: &impl Dns01,
    replaces: Option<&Certificate>,
) -> Result<Certificate, AcmeError> {
    let key = private_key(store)?;
    let library = |error| account.trouble(error);
    let mut order = match resume(account, store).await? {
        Some(order) => order,
        None => begin(account, store, hosts, replaces).await?,
    };
    if order.state().status == OrderStatus::Pending {
        prove(account, hosts, &mut order, dns).await.inspect_err(|error| abandon_if_refused(store, error))?;
    }
    if order.state().status == OrderStatus::Ready {
        let request = signing_request(hosts, &key)?;
        order.finalize_csr(&request).await.map_err(library)?;
    }
    let chain = order.poll_certificate(&PATIENCE).await.map_err(library);
    let chain = chain.inspect_err(|error| abandon_if_refused(store, error))?;
    let certificate = Certificate::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes())?;
    if let Some(missing) = hosts.names().iter().find(|name| !certificate.names().contains(name)) {
        store.remove(ORDER_FILE)?;
        return Err(CertificateError::X509(format!("it does not name {missing}")).into());
    }
    store.write(CHAIN_FILE, chain.as_bytes())?;
    store.remove(ORDER_FILE)?;
    dns.withdraw(&hosts.host).await;
    Ok(certificate)
}

fn private_key(store: &Store) -> Result<KeyPair, AcmeError> {
    if let Some(bytes) = store.read(KEY_FILE)? {
        match KeyPair::from_pem(&String::from_utf8_lossy(&bytes)) {
            Ok(key) => return Ok(key),
            Err(error) => store.set_aside(KEY_FILE, &error)?,
        }
    }
    let key = KeyPair::generate().map_err(|e| CertificateError::X509(e.to_string()))?;
    store.write(KEY_FILE, key.serialize_pem().as_bytes())?;
    Ok(key)
}

/// The order on file, if the CA still knows it and it can still succeed.
async fn resume(account: &Account, store: &Store) -> Result<Option<Order>, AcmeError> {
    let Some(bytes) = store.read(ORDER_FILE)? else { return Ok(None) };
    let pending = match serde_json::from_slice::<Pending>(&bytes) {
        Ok(pending) if pending.account == account.inner.id() => pending,
        Ok(_) => {
            store.remove(ORDER_FILE)?;
            return Ok(None);
        }
        Err(error) => {
            store.set_aside(ORDER_FILE, &error)?;
            return Ok(None);
        }
    };
    let known = account.inner.order(pending.url).await;
    match known.map_err(|error| account.trouble(error)) {
        Ok(mut order) => {
            if order.state().status != OrderStatus::Invalid {
                tracing::info!(order = order.url(), "taking up an unfinished order");
                return Ok(Some(order));
            }
        }
        Err(AcmeError::Refused(_)) => {}
        Err(error) => return Err(error),
    }
    store.remove(ORDER_FILE)?;
    Ok(None)
}

async fn begin(
    account: &Account,
    store: &Store,
    hosts: &Hosts,
    replaces: Option<&Certificate>,
) -> Result<Order, AcmeError> {
    let identifiers: Vec<Identifier> = hosts.names().into_iter().map(Identifier::Dns).collect();
    let profile = account.profile.as_deref();
    if let Some(profile) = profile
        && !account.inner.profiles().any(|offered| offered.name == profile)
    {
        return Err(AcmeError::Refused(no_such_profile(account, profile)));
    }
    let plain = || {
        let order = NewOrder::new(&identifiers);
        if let Some(profile) = profile { order.profile(profile) } else { order }
    };
    let replaced = replaces.and_then(|old| CertificateIdentifier::try_from(old.leaf()).ok());
    let order = match replaced {
        None => account.inner.new_order(&plain()).await.map_err(|error| account.trouble(error))?,
        Some(old) => {
            let begun = account.inner.new_order(&plain().replaces(old)).await;
            match begun.map_err(|error| account.trouble(error)) {
                Ok(order) => order,
                // It asks to be left alone, or cannot be reached: another order would be no better.
                Err(error @ (AcmeError::Limited { .. } | AcmeError::AccountGone)) => return Err(error),
                // A CA without renewal information, or one that thinks otherwise of the old certificate.
                Err(_) => account.inner.new_order(&plain()).await.map_err(|error| account.trouble(error))?,
            }
        }
    };
    let pending = Pending { account: account.inner.id().to_owned(), url: order.url().to_owned() };
    store.write(ORDER_FILE, &serde_json::to_vec(&pending).expect("plain JSON"))?;
    Ok(order)
}

fn no_such_profile(account: &Account, profile: &str) -> String {
    let offered: Vec<&str> = account.inner.profiles().map(|offered| offered.name).collect();
    let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
    format!("it has no profile {profile:?}; it offers: {offered}")
}

/// Publishes the values, and when the zone shows them, tells the CA to look and waits for its verdict.
async fn prove(
    account: &Account,
    hosts: &Hosts,
    order: &mut Order,
    dns: &impl Dns01,
) -> Result<(), AcmeError> {
    let library = |error| account.trouble(error);
    let values = challenge_values(account, order).await?;
    if !values.is_empty() {
        let challenge = Challenge {
            host: hosts.host.clone(),
            values,
            account: account.identity().clone(),
            wildcard: hosts.wildcard,
        };
        dns.present(&challenge).await?;
    }
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(library)?;
        if authorization.status == AuthorizationStatus::Pending
            && let Some(mut challenge) = authorization.challenge(ChallengeType::Dns01)
            && challenge.status == ChallengeStatus::Pending
        {
            challenge.set_ready().await.map_err(library)?;
        }
    }
    match order.poll_ready(&PATIENCE).await.map_err(library)? {
        OrderStatus::Ready => Ok(()),
        _ => Err(AcmeError::Refused(failure(account, order).await)),
    }
}

async fn challenge_values(account: &Account, order: &mut Order) -> Result<Vec<String>, AcmeError> {
    let library = |error| account.trouble(error);
    let mut values = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(library)?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => return Err(AcmeError::Refused(format!("an authorization is {status:?}"))),
        }
        let challenge = authorization.challenge(ChallengeType::Dns01);
        let challenge = challenge.ok_or_else(|| AcmeError::Refused("the CA offers no dns-01".into()))?;
        values.push(challenge.key_authorization().dns_value());
    }
    Ok(values)
}

/// The CA's own words about a failed validation.
async fn failure(account: &Account, order: &mut Order) -> String {
    let Ok(mut order) = account.inner.order(order.url().to_owned()).await else {
        return "validation failed".into();
    };
    let mut authorizations = order.authorizations();
    while let Some(Ok(authorization)) = authorizations.next().await {
        let mut challenges = authorization.challenges.iter();
        if let Some(problem) = challenges.find_map(|challenge| challenge.error.as_ref()) {
            return problem.to_string();
        }
    }
    "validation failed".into()
}

/// An order that the CA refused is dead; after any other trouble it can be taken up again.
fn abandon_if_refused(store: &Store, error: &AcmeError) {
    if matches!(error, AcmeError::Refused(_))
        && let Err(error) = store.remove(ORDER_FILE)
    {
        tracing::warn!(%error, "the dead order stays on file");
    }
}

fn signing_request(hosts: &Hosts, key: &KeyPair) -> Result<Vec<u8>, AcmeError> {
    let unusable = |error: rcgen::Error| CertificateError::X509(error.to_string());
    let mut params = CertificateParams::new(hosts.names()).map_err(unusable)?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key).map_err(unusable)?.der().to_vec())
}
