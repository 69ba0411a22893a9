//! The relay's one ACME account. Its key is made here and handed to rustls-acme too, so that the account on chain is
//! the account that orders.

use std::time::Duration;

use instant_acme::Key;
use tokio::time::timeout;
use tunnler_edge::Store;
use tunnler_edge::acme::{Account, AcmeError, CertificateAuthority};
use tunnler_edge::store::StoreError;
use tunnler_protocol::directory::AcmeIdentity;
use tunnler_protocol::network::AcmeConfig;

/// PKCS#8 of the account's key.
const KEY_FILE: &str = "account.p8";
/// Directory and URI of the account that the key opened.
const ACCOUNT_FILE: &str = "account.json";
/// How long the CA may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is no account.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No key can be made.
    #[error("cannot make a key: {0}")]
    Key(instant_acme::Error),
    /// The CA cannot be reached or refuses.
    #[error("cannot open an account: {0}")]
    Ca(#[from] AcmeError),
    /// The CA does not answer.
    #[error("{0} does not answer within 20 s")]
    Silent(String),
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Opened {
    directory: String,
    account: String,
}

/// The CA of the network.
pub fn authority(acme: &AcmeConfig) -> CertificateAuthority {
    let root = acme.root.clone().map(Into::into);
    CertificateAuthority { root, ..CertificateAuthority::new(acme.directory.clone(), acme.issuer.clone()) }
}

/// The account's key, as rustls-acme wants it; `None` before [`open`].
pub fn key(store: &Store) -> Result<Option<Vec<u8>>, StoreError> {
    store.read(KEY_FILE)
}

/// The identity of the account that the kept key has at the CA now; opens one where there is none, with a key that is
/// kept before it is used. While the CA cannot be reached, what it said last counts.
pub async fn open(store: &Store, acme: &AcmeConfig) -> Result<AcmeIdentity, AccountError> {
    let asked = timeout(PATIENCE, ask(store, acme))
        .await
        .unwrap_or_else(|_| Err(AccountError::Silent(acme.directory.clone())));
    match (asked, kept(store, acme)?) {
        (Ok(identity), _) => Ok(identity),
        (Err(error), Some(kept)) => {
            tracing::warn!(%error, "using the ACME account as it was known last");
            Ok(kept)
        }
        (Err(error), None) => Err(error),
    }
}

/// The identity as the CA said it last, if it was this CA.
pub fn kept(store: &Store, acme: &AcmeConfig) -> Result<Option<AcmeIdentity>, StoreError> {
    let kept = store.read(ACCOUNT_FILE)?.and_then(|bytes| serde_json::from_slice::<Opened>(&bytes).ok());
    let kept = kept.filter(|kept| kept.directory == acme.directory);
    Ok(kept.map(|kept| AcmeIdentity { issuer: acme.issuer.clone(), account: kept.account }))
}

/// Asks the CA for the key's account, which makes one if need be (RFC 8555, section 7.3).
async fn ask(store: &Store, acme: &AcmeConfig) -> Result<AcmeIdentity, AccountError> {
    let pkcs8 = match key(store)? {
        Some(pkcs8) => pkcs8,
        None => {
            let (_, pkcs8) = Key::generate_pkcs8().map_err(AccountError::Key)?;
            store.write(KEY_FILE, pkcs8.secret_pkcs8_der())?;
            pkcs8.secret_pkcs8_der().to_vec()
        }
    };
    let identity = Account::of_key(&pkcs8, &authority(acme)).await?.identity().clone();
    let opened = Opened { directory: acme.directory.clone(), account: identity.account.clone() };
    store.write(ACCOUNT_FILE, &serde_json::to_vec_pretty(&opened).expect("plain JSON"))?;
    Ok(identity)
}
