//! The ACME account: opened once per CA, its key kept, because CAA names its URI.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use instant_acme::{AccountCredentials, ExternalAccountKey, Key, NewAccount};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use tunnler_protocol::directory::AcmeIdentity;

use super::AcmeError;
use super::http::{Asked, CaClient};
use crate::store::Store;

const FILE: &str = "account.json";

/// Where certificates come from.
#[derive(Clone, Debug)]
pub struct CertificateAuthority {
    /// Directory URL (RFC 8555, section 7.1.1).
    pub directory: String,
    /// Issuer domain, as CAA names it.
    pub issuer: String,
    /// PEM file with the root of the directory's own certificate; `None`: the system's roots.
    pub root: Option<PathBuf>,
    /// Profile to order (draft-ietf-acme-profiles), say one of short-lived certificates; `None`: the CA's own choice.
    pub profile: Option<String>,
    /// The customer account that a new ACME account is bound to, where the CA wants one.
    pub external: Option<ExternalAccount>,
}

/// A customer account at a CA (RFC 8555, section 7.3.4).
#[derive(Clone)]
pub struct ExternalAccount {
    id: String,
    key: Vec<u8>,
}

impl ExternalAccount {
    /// `key` is the MAC key as CAs hand it out: in base64url. `None` if it is not.
    pub fn new(id: String, key: &str) -> Option<Self> {
        let key = URL_SAFE_NO_PAD.decode(key.trim_end_matches('=')).ok().filter(|key| !key.is_empty())?;
        Some(Self { id, key })
    }
}

impl std::fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExternalAccount").field("id", &self.id).finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// A public CA, by its directory's URL and its issuer domain.
    pub fn new(directory: String, issuer: String) -> Self {
        Self { directory, issuer, root: None, profile: None, external: None }
    }
}

/// An open account.
#[derive(Clone)]
pub struct Account {
    pub(super) inner: instant_acme::Account,
    pub(super) profile: Option<String>,
    directory: String,
    asked: Asked,
    identity: AcmeIdentity,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    directory: String,
    credentials: AccountCredentials,
}

impl Account {
    /// Opens the account kept in `store`, or a new one, which is kept before it is used.
    pub async fn open(store: &Store, ca: &CertificateAuthority) -> Result<Self, AcmeError> {
        let (client, asked) = CaClient::new(ca)?;
        let builder = instant_acme::Account::builder_with_http(Box::new(client));
        let library = |error| AcmeError::from_library(&ca.directory, error, asked.take());
        let inner = match kept(store, ca)? {
            Some(credentials) => builder.from_credentials(credentials).await.map_err(library)?,
            None => {
                let external = ca.external.as_ref();
                let external = external.map(|own| ExternalAccountKey::new(own.id.clone(), &own.key));
                let new =
                    NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
                let opened = builder.create(&new, ca.directory.clone(), external.as_ref()).await;
                let (account, credentials) = opened.map_err(library)?;
                let kept = Kept { directory: ca.directory.clone(), credentials };
                store.write(FILE, &serde_json::to_vec_pretty(&kept).expect("plain JSON"))?;
                account
            }
        };
        Ok(Self::new(inner, ca, asked))
    }

    /// The account of a key that somebody else keeps (PKCS#8); the CA opens one if it does not know the key (RFC 8555,
    /// section 7.3).
    pub async fn of_key(pkcs8: &[u8], ca: &CertificateAuthority) -> Result<Self, AcmeError> {
        let (client, asked) = CaClient::new(ca)?;
        let builder = instant_acme::Account::builder_with_http(Box::new(client));
        let library = |error| AcmeError::from_library(&ca.directory, error, asked.take());
        let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8.to_vec());
        let key = Key::from_pkcs8_der(pkcs8.clone_key()).map_err(library)?;
        let opened = builder.create_from_key((key, PrivateKeyDer::Pkcs8(pkcs8)), ca.directory.clone()).await;
        let (inner, _) = opened.map_err(library)?;
        Ok(Self::new(inner, ca, asked))
    }

    fn new(inner: instant_acme::Account, ca: &CertificateAuthority, asked: Asked) -> Self {
        let identity = AcmeIdentity { issuer: ca.issuer.clone(), account: inner.id().to_owned() };
        Self { inner, profile: ca.profile.clone(), directory: ca.directory.clone(), asked, identity }
    }

    /// What an error of the library means, with what the CA asked for in the same answer.
    pub(super) fn trouble(&self, error: instant_acme::Error) -> AcmeError {
        AcmeError::from_library(&self.directory, error, self.asked.take())
    }

    /// What CAA must allow.
    pub fn identity(&self) -> &AcmeIdentity {
        &self.identity
    }

    /// Forgets an account that the CA does not know any more, so that the next [`Account::open`] makes a new one.
    pub fn forget(store: &Store) -> Result<(), AcmeError> {
        Ok(store.set_aside(FILE, &"the certificate authority does not know this account")?)
    }
}

/// The kept credentials, if they are for this CA; others are set aside, not lost.
fn kept(store: &Store, ca: &CertificateAuthority) -> Result<Option<AccountCredentials>, AcmeError> {
    let Some(bytes) = store.read(FILE)? else { return Ok(None) };
    match serde_json::from_slice::<Kept>(&bytes) {
        Ok(kept) if kept.directory == ca.directory => Ok(Some(kept.credentials)),
        Ok(kept) => {
            store.set_aside(FILE, &format!("it is for {}", kept.directory))?;
            Ok(None)
        }
        Err(error) => {
            store.set_aside(FILE, &error)?;
            Ok(None)
        }
    }
}
