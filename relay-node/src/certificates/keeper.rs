//! Keeps a CA's certificate for the own host by TLS-ALPN-01 with rustls-acme. Orders only once the zone shows the host,
//! and after a failed validation waits 1, 10, 100 minutes, then a day: the order's state is simply not polled.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_acme::{AccountCache, AcmeConfig, AcmeState, CertCache, EventError, EventOk, OrderError};
use tokio::time::sleep;
use tunnler_edge::Store;
use tunnler_edge::acme::schedule::{Failures, nap};
use tunnler_edge::store::StoreError;
use tunnler_protocol::HostName;
use tunnler_protocol::network;

use super::visible::{self, Expected};
use super::{CertificateError, Certificates, account};
use crate::clock;

const FAILURES_FILE: &str = "failures.json";
/// Time between two looks at the zone's servers.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Looks between two lines in the log.
const TELL_EVERY: u64 = 240;
/// Errors in a row that say nothing about the host (network, nonces) before they count as a failed validation.
const HICCUPS: u32 = 8;

/// Orders and renews.
pub struct Keeper {
    state: AcmeState<StoreError, StoreError>,
    store: Store,
    certificate: String,
    certificates: Certificates,
}

/// Where rustls-acme keeps what it must: 0600, and the account that is on chain.
struct Cache {
    store: Store,
    certificate: String,
}

#[async_trait]
impl CertCache for Cache {
    type EC = StoreError;

    async fn load_cert(&self, _: &[String], _: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.read(&self.certificate)
    }

    async fn store_cert(&self, _: &[String], _: &str, cert: &[u8]) -> Result<(), StoreError> {
        self.store.write(&self.certificate, cert)
    }
}

#[async_trait]
impl AccountCache for Cache {
    type EA = StoreError;

    async fn load_account(&self, _: &[String], _: &str) -> Result<Option<Vec<u8>>, StoreError> {
        account::key(&self.store)
    }

    /// The account's key is only ever made by [`account::open`].
    async fn store_account(&self, _: &[String], _: &str, _: &[u8]) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Keeper {
    /// For `host`, with the account kept in `store`.
    pub fn new(host: &HostName, acme: &network::AcmeConfig, store: Store) -> Result<Self, CertificateError> {
        let client = Arc::new(client_config(acme.root.as_ref().map(PathBuf::from))?);
        // Certificate with its key, as rustls-acme writes it; one of another host is never taken for ours.
        let certificate = format!("{host}.pem");
        let config = AcmeConfig::new_with_client_config([host.as_str()], client)
            .cache(Cache { store: store.clone(), certificate: certificate.clone() })
            .directory(&acme.directory);
        let state = config.state();
        let certificates = Certificates::with_acme(host, state.resolver())?;
        Ok(Self { state, store, certificate, certificates })
    }

    /// What the own host is served with.
    pub fn certificates(&self) -> Certificates {
        self.certificates.clone()
    }

    /// How old it is is told by what was kept; a new one is kept a moment after it is used.
    fn note_certificate(&self) {
        let kept = self.store.read(&self.certificate).ok().flatten();
        let kept = kept.and_then(|pem| tunnler_edge::Certificate::from_pem(&pem, &pem).ok());
        self.certificates
            .set_issued(kept.map_or_else(clock::seconds, |certificate| certificate.not_before()));
    }

    /// Keeps the certificate for as long as it is polled. `visible` says what the zone's servers must show before the
    /// first order, and who they are; with no such condition (an own domain) the order starts at once.
    pub async fn run(mut self, visible: Option<(Vec<std::net::SocketAddr>, Expected)>) {
        let mut failures = self.failures();
        let mut hiccups = 0;
        if self.store.read(&self.certificate).ok().flatten().is_none() {
            if let Some((servers, expected)) = visible {
                wait_until_visible(&servers, &expected).await;
            }
            sleep(nap(clock::seconds(), failures.next_attempt(clock::seconds()))).await;
        }
        while let Some(event) = self.state.next().await {
            match event {
                Ok(EventOk::DeployedCachedCert | EventOk::DeployedNewCert) => {
                    self.note_certificate();
                    tracing::info!("the own host has a certificate");
                    (failures, hiccups) = (Failures::default(), 0);
                }
                Ok(EventOk::CertCacheStore) => {
                    self.note_certificate();
                    continue;
                }
                Ok(EventOk::AccountCacheStore) => continue,
                Err(EventError::CachedCertParse(error)) => {
                    // rustls-acme goes on to order a new one.
                    let _ = self.store.set_aside(&self.certificate, &error);
                    continue;
                }
                Err(EventError::Order(error)) if is_hiccup(&error) && hiccups < HICCUPS => {
                    hiccups += 1;
                    tracing::warn!(%error, "no certificate yet; trying again soon");
                    continue;
                }
                Err(error) => {
                    failures = failures.failed(clock::seconds());
                    let then = failures.next_attempt(clock::seconds());
                    let wait = nap(clock::seconds(), then);
                    tracing::error!(%error, seconds = wait.as_secs(), "no certificate for the own host; waiting");
                    metrics::counter!("tunnler_certificate_failures_total").increment(1);
                    self.keep(failures);
                    sleep(wait).await;
                    continue;
                }
            }
            self.keep(failures);
        }
    }

    fn failures(&self) -> Failures {
        let kept = self.store.read(FAILURES_FILE).ok().flatten();
        kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn keep(&self, failures: Failures) {
        let bytes = serde_json::to_vec(&failures).expect("plain JSON");
        if let Err(error) = self.store.write(FAILURES_FILE, &bytes) {
            tracing::warn!(%error, "cannot keep the count of failed orders");
        }
    }
}

async fn wait_until_visible(servers: &[std::net::SocketAddr], expected: &Expected) {
    let mut running = 0;
    for round in 0_u64.. {
        if running == 2 {
            return;
        }
        if round.is_multiple_of(TELL_EVERY) {
            tracing::info!(host = %expected.host, ?servers, "waiting until the zone's servers show the own host");
        }
        running = if visible::is_visible(servers, expected).await { running + 1 } else { 0 };
        sleep(LOOK_EVERY).await;
    }
}

/// Errors of transport and protocol, as opposed to a validation that failed.
fn is_hiccup(error: &OrderError) -> bool {
    matches!(error, OrderError::Acme(_) | OrderError::ProcessingTimeout(_))
}

fn client_config(root: Option<PathBuf>) -> Result<ClientConfig, CertificateError> {
    let mut roots = RootCertStore::empty();
    match root {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let unreadable = |problem: String| CertificateError::Root { path: path.clone(), problem };
            let file = File::open(&path).map_err(|error| unreadable(error.to_string()))?;
            for certificate in CertificateDer::pem_reader_iter(BufReader::new(file)) {
                let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
                roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
            }
        }
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
