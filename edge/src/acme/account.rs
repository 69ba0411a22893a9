//! The ACME account: opened once per CA, its key kept, because CAA names its URI.

use std::path::PathBuf;

use instant_acme::{AccountCredentials, Key, NewAccount};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use tunnler_protocol::directory::AcmeIdentity;

use super::AcmeError;
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
}

/// An open account.
#[derive(Clone)]
pub struct Account {
    pub(super) inner: instant_acme::Account,
    pub(super) directory: String,
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
        let library = |error| AcmeError::from_library(&ca.directory, error);
        let inner = match kept(store, ca)? {
            Some(credentials) => builder(ca)?.from_credentials(credentials).await.map_err(library)?,
            None => {
                let new =
                    NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
                let opened = builder(ca)?.create(&new, ca.directory.clone(), None).await;
                let (account, credentials) = opened.map_err(library)?;
                let kept = Kept { directory: ca.directory.clone(), credentials };
                store.write(FILE, &serde_json::to_vec_pretty(&kept).expect("plain JSON"))?;
                account
            }
        };
        Ok(Self::new(inner, ca))
    }

    /// The account of a key that somebody else keeps (PKCS#8); the CA opens one if it does not know the key (RFC 8555,
    /// section 7.3).
    pub async fn of_key(pkcs8: &[u8], ca: &CertificateAuthority) -> Result<Self, AcmeError> {
        let library = |error| AcmeError::from_library(&ca.directory, error);
        let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8.to_vec());
        let key = Key::from_pkcs8_der(pkcs8.clone_key()).map_err(library)?;
        let opened =
            builder(ca)?.create_from_key((key, PrivateKeyDer::Pkcs8(pkcs8)), ca.directory.clone()).await;
        let (inner, _) = opened.map_err(library)?;
        Ok(Self::new(inner, ca))
    }

    fn new(inner: instant_acme::Account, ca: &CertificateAuthority) -> Self {
        let identity = AcmeIdentity { issuer: ca.issuer.clone(), account: inner.id().to_owned() };
        Self { inner, directory: ca.directory.clone(), identity }
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

fn builder(ca: &CertificateAuthority) -> Result<instant_acme::AccountBuilder, AcmeError> {
    let Some(root) = &ca.root else {
        return instant_acme::Account::builder().map_err(|e| AcmeError::from_library(&ca.directory, e));
    };
    instant_acme::Account::builder_with_root(root).map_err(|error| AcmeError::Root {
        path: root.display().to_string(),
        problem: super::error_chain(&error),
    })
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
