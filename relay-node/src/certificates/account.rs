//! The relay's one ACME account. Its key is made here and handed to rustls-acme too, so that the account on chain is
//! the account that orders.

use instant_acme::{Account, Key};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tunnler_edge::Store;
use tunnler_edge::store::StoreError;
use tunnler_protocol::directory::AcmeIdentity;
use tunnler_protocol::network::AcmeConfig;

/// PKCS#8 of the account's key.
const KEY_FILE: &str = "account.p8";
/// Directory and URI of the account that the key opened.
const ACCOUNT_FILE: &str = "account.json";

/// Why there is no account.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The CA cannot be reached or refuses.
    #[error("cannot open an account at {directory}: {source}")]
    Ca {
        /// Directory URL.
        directory: String,
        /// Why.
        source: instant_acme::Error,
    },
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Opened {
    directory: String,
    account: String,
}

/// The account's key, as rustls-acme wants it; `None` before [`open`].
pub fn key(store: &Store) -> Result<Option<Vec<u8>>, StoreError> {
    store.read(KEY_FILE)
}

/// The identity of the kept account, or of a new one. The key is kept before it is used; a kept account is not asked
/// for at the CA again.
pub async fn open(store: &Store, acme: &AcmeConfig) -> Result<AcmeIdentity, AccountError> {
    let identity = |account: String| AcmeIdentity { issuer: acme.issuer.clone(), account };
    let kept = store.read(ACCOUNT_FILE)?.and_then(|bytes| serde_json::from_slice::<Opened>(&bytes).ok());
    if let Some(kept) = kept.filter(|kept| kept.directory == acme.directory) {
        return Ok(identity(kept.account));
    }
    let ca = |source| AccountError::Ca { directory: acme.directory.clone(), source };
    let pkcs8 = match store.read(KEY_FILE)? {
        Some(pkcs8) => pkcs8,
        None => {
            let (_, pkcs8) = Key::generate_pkcs8().map_err(ca)?;
            store.write(KEY_FILE, pkcs8.secret_pkcs8_der())?;
            pkcs8.secret_pkcs8_der().to_vec()
        }
    };
    let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8);
    let key = Key::from_pkcs8_der(pkcs8.clone_key()).map_err(ca)?;
    let builder = match &acme.root {
        Some(root) => Account::builder_with_root(root),
        None => Account::builder(),
    };
    let opened =
        builder.map_err(ca)?.create_from_key((key, PrivateKeyDer::Pkcs8(pkcs8)), acme.directory.clone());
    let (account, _) = opened.await.map_err(ca)?;
    let opened = Opened { directory: acme.directory.clone(), account: account.id().to_owned() };
    store.write(ACCOUNT_FILE, &serde_json::to_vec_pretty(&opened).expect("plain JSON"))?;
    Ok(identity(opened.account))
}
