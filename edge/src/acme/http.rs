//! The connection to the certificate authority. Hears when it asks to be left alone, which the ACME library does not
//! pass on; otherwise adds nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tunnler_protocol::UnixSeconds;

use super::{AcmeError, CertificateAuthority, error_chain};

/// Longer than this no answer keeps us away.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

type Answer = Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>>;

/// Speaks to one CA.
pub(super) struct CaClient {
    inner: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    asked: Asked,
}

/// The moment that the CA's last `Retry-After` named, in Unix seconds (RFC 9110, section 10.2.3); 0 for none.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked(Arc<AtomicU64>);

impl Asked {
    /// What was asked with the last refusal; asked once.
    pub(super) fn take(&self) -> Option<UnixSeconds> {
        let until = self.0.swap(0, Ordering::Relaxed);
        (until > 0).then_some(UnixSeconds(until))
    }

    fn hear(&self, status: StatusCode, headers: &HeaderMap, now: SystemTime) {
        let until = match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => retry_after(headers, now),
            _ => None,
        };
        let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.0.store(until.map_or(0, since), Ordering::Relaxed);
    }
}

impl CaClient {
    pub(super) fn new(ca: &CertificateAuthority) -> Result<(Self, Asked), AcmeError> {
        let builder = HttpsConnectorBuilder::new();
        let builder = match &ca.root {
            None => {
                let usual = builder.try_with_platform_verifier();
                usual.map_err(|error| AcmeError::Unavailable {
                    directory: ca.directory.clone(),
                    problem: error_chain(&error),
                })?
            }
            Some(path) => {
                let wrong = |problem: String| AcmeError::Root { path: path.display().to_string(), problem };
                let root = CertificateDer::from_pem_file(path).map_err(|error| wrong(error.to_string()))?;
                let mut roots = RootCertStore::empty();
                roots.add(root).map_err(|error| wrong(error.to_string()))?;
                let tls = rustls::ClientConfig::builder().with_root_certificates(roots);
                builder.with_tls_config(tls.with_no_client_auth())
            }
        };
        let connector = builder.https_only().enable_http1().build();
        let asked = Asked::default();
        let inner = Client::builder(TokioExecutor::new()).build(connector);
        Ok((Self { inner, asked: asked.clone() }, asked))
    }
}

impl HttpClient for CaClient {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Answer {
        let (answer, asked) = (self.inner.request(request), self.asked.clone());
        Box::pin(async move {
            let answer = answer.await.map_err(|error| Error::Other(error.into()))?;
            asked.hear(answer.status(), answer.headers(), SystemTime::now());
            Ok(answer.into())
        })
    }
}

fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<SystemTime> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let until = match value.parse() {
        Ok(seconds) => now.checked_add(Duration::from_secs(seconds))?,
        Err(_) => httpdate::parse_http_date(value).ok()?,
    };
    Some(until.min(now + LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_ask_for_time_in_seconds_or_as_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (status, value, until) in [
            (429, "120", Some(1_000_120)),
            (503, "Mon, 12 Jan 1970 13:48:00 GMT", Some(1_000_080)),
            (429, "99999999", Some(1_000_000 + LONGEST.as_secs())),
            (429, "18446744073709551615", None),
            (429, "soon", None),
            (200, "120", None),
        ] {
            let asked = Asked::default();
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
            asked.hear(StatusCode::from_u16(status).unwrap(), &headers, now);
            assert_eq!(asked.take().map(|until| until.0), until, "{status} {value}");
            assert_eq!(asked.take(), None);
        }
    }
}
