//! `tunnler home-domain verify`: whether an account's `home_domain` leads a stranger to its stellar.toml (SEP-1).

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use tunnler_chain::read;
use tunnler_edge::question;
use tunnler_protocol::network::Network;
use tunnler_protocol::{Address, Host, HostName};

use crate::error::ClientError;

/// Where SEP-1 puts the document.
const PATH: &str = "/.well-known/stellar.toml";
/// The longest document that SEP-1 allows, in bytes.
const MAX_LEN: usize = 100 * 1024;
const PATIENCE: Duration = Duration::from_secs(20);

/// What was found; every part of it holds.
#[derive(Debug, Serialize)]
pub(super) struct Verified {
    /// The account.
    pub(super) address: Address,
    /// Its `home_domain`.
    pub(super) home_domain: HostName,
    /// Who answered.
    pub(super) answered: SocketAddr,
    /// Accounts the document lists.
    pub(super) accounts: usize,
}

#[derive(Deserialize)]
struct StellarToml {
    #[serde(rename = "ACCOUNTS", default)]
    accounts: Vec<String>,
}

/// Goes the way a wallet goes: ledger, DNS, TLS, document.
pub(super) async fn verify(
    network: &Network,
    address: Address,
    root: Option<&Path>,
) -> Result<Verified, ClientError> {
    let fail = |problem: String| ClientError::Failed(problem);
    let account = read::read_account(network, &address).await?;
    let account =
        account.ok_or_else(|| fail(format!("account {address} does not exist on {}", network.name)))?;
    let text = account.home_domain.ok_or_else(|| {
        fail(format!("account {address} has no home_domain; run: tunnler home-domain set NAME"))
    })?;
    let host: HostName = text.parse().map_err(|source| ClientError::Name { text, source })?;
    let addresses = resolve(network, &host).await?;
    if addresses.is_empty() {
        return Err(fail(format!("DNS has no address for {host}; is its tunnel up?")));
    }
    let roots = roots(root)?;
    let mut problem = String::new();
    for answered in addresses {
        match tokio::time::timeout(PATIENCE, fetch(answered, &host, roots.clone())).await {
            Ok(Ok(document)) => {
                let accounts = check(&document, address).map_err(fail)?;
                return Ok(Verified { address, home_domain: host, answered, accounts });
            }
            Ok(Err(error)) => problem = format!("{answered}: {error}"),
            Err(_) => problem = format!("{answered}: no answer within {} s", PATIENCE.as_secs()),
        }
    }
    Err(fail(format!("https://{host}{PATH} cannot be fetched: {problem}")))
}

/// For hosts of the zone, what its servers say; for others, what the system says.
async fn resolve(network: &Network, host: &HostName) -> Result<Vec<SocketAddr>, ClientError> {
    let directory = read::read_relays(network).await?;
    if directory.zone.zone.classify(host) == Host::Foreign {
        let found = tokio::net::lookup_host((host.as_str(), 443)).await;
        return Ok(found.map(Iterator::collect).unwrap_or_default());
    }
    let servers = directory.zone.servers.iter();
    let servers = servers.filter_map(|server| server.ipv4.map(Into::into).or(server.ipv6.map(Into::into)));
    let servers: Vec<SocketAddr> = servers.map(|ip| SocketAddr::new(ip, network.dns_port)).collect();
    let found = question::addresses(&servers, host).await;
    Ok(found.into_iter().map(|ip| SocketAddr::new(ip, network.ingress_port)).collect())
}

fn roots(file: Option<&Path>) -> Result<Arc<RootCertStore>, ClientError> {
    let Some(file) = file else {
        return Ok(Arc::new(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() }));
    };
    let wrong = |problem: String| ClientError::Usage(format!("{}: {problem}", file.display()));
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    Ok(Arc::new(roots))
}

/// The document, if it comes with status 200 and for everybody's scripts.
async fn fetch(
    address: SocketAddr,
    host: &HostName,
    roots: Arc<RootCertStore>,
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(host.to_string())?;
    let tcp = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = http::Request::get(PATH).header("host", host.as_str());
    let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    if answer.status() != http::StatusCode::OK {
        return Err(format!("status {}", answer.status()).into());
    }
    if answer.headers().get(ACCESS_CONTROL_ALLOW_ORIGIN).is_none_or(|origin| origin != "*") {
        return Err("no `Access-Control-Allow-Origin: *`, so wallets in browsers cannot read it".into());
    }
    let body = Limited::new(answer.into_body(), MAX_LEN).collect().await?;
    Ok(String::from_utf8(body.to_bytes().to_vec())?)
}

/// The number of accounts listed, if `address` is one of them.
fn check(document: &str, address: Address) -> Result<usize, String> {
    let document: StellarToml =
        toml::from_str(document).map_err(|error| format!("stellar.toml is not TOML: {}", error.message()))?;
    if document.accounts.iter().any(|account| *account == address.to_string()) {
        Ok(document.accounts.len())
    } else {
        Err(format!("stellar.toml does not list {address} under ACCOUNTS"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_must_be_listed() {
        let address = tunnler_protocol::SecretKey::from_seed(&[9; 32]).address();
        let listed = format!(
            "VERSION = \"0.0.1\"\nACCOUNTS = [\"GX\", \"{address}\"]\n[DOCUMENTATION]\nORG_URL = \"x\"\n"
        );
        assert_eq!(check(&listed, address), Ok(2));
        for (document, says) in
            [("VERSION = \"0.0.1\"", "does not list"), ("<html>", "not TOML"), ("ACCOUNTS = 3", "not TOML")]
        {
            assert!(check(document, address).unwrap_err().contains(says), "{document}");
        }
    }
}
