//! Looks at relays from outside a session: how far one is, and whether visitors who reach it reach this client.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tunnler_edge::certificate::covered_until;
use tunnler_protocol::agent::Visit;
use tunnler_protocol::{HostName, UnixSeconds};
use tunnler_transport::tls;

const MEASURE_DEADLINE: Duration = Duration::from_secs(2);
const VISIT_DEADLINE: Duration = Duration::from_secs(10);

/// The time a TCP handshake with the first address that answers takes.
pub(crate) async fn round_trip(addresses: Vec<SocketAddr>) -> Option<Duration> {
    for address in addresses {
        let begun = Instant::now();
        if let Ok(Ok(_)) = tokio::time::timeout(MEASURE_DEADLINE, TcpStream::connect(address)).await {
            return Some(begun.elapsed());
        }
    }
    None
}

/// Visits `host` at a relay's ingress like any visitor; `leaf` is the own certificate, which must answer.
pub(super) async fn visit(ingress: Vec<SocketAddr>, host: &HostName, leaf: CertificateDer<'static>) -> Visit {
    for address in ingress {
        let shown = tokio::time::timeout(VISIT_DEADLINE, shown_leaf(address, host)).await;
        if matches!(shown, Ok(Ok(Some(found))) if found == leaf) {
            return Visit::Arrived;
        }
    }
    Visit::Swallowed
}

/// What a relay shows to visitors of a host whose TLS it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// A certificate for the host, valid until then.
    Certificate(UnixSeconds),
    /// It answers, but not with a certificate for this host.
    Refusal,
    /// It does not answer.
    Silence,
}

/// Visits `host`, whose TLS the relay at `ingress` ends. Who issued the certificate is for visitors to judge.
pub(super) async fn look(ingress: &[SocketAddr], host: &HostName) -> Shown {
    let mut seen = Shown::Silence;
    for address in ingress {
        match tokio::time::timeout(VISIT_DEADLINE, shown_leaf(*address, host)).await {
            Ok(Ok(Some(leaf))) => match covered_until(&leaf, host.as_str()) {
                Ok(Some(until)) => return Shown::Certificate(until),
                Ok(None) | Err(_) => seen = Shown::Refusal,
            },
            Ok(Err(error)) if is_alert(&error) => seen = Shown::Refusal,
            Ok(Ok(None) | Err(_)) | Err(_) => {}
        }
    }
    seen
}

fn is_alert(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::AlertReceived(_)))
}

/// The certificate that is shown, whoever issued it; that whoever shows it has its key is checked by the handshake.
async fn shown_leaf(
    address: SocketAddr,
    host: &HostName,
) -> std::io::Result<Option<CertificateDer<'static>>> {
    let (config, _) = tls::client_config(None);
    let name = ServerName::try_from(host.to_string()).map_err(std::io::Error::other)?;
    let tcp = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(config).connect(name, tcp).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    Ok(shown.cloned().map(CertificateDer::into_owned))
}
