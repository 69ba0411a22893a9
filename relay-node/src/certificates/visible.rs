//! Whether the zone's servers show a relay's own host as the CA will look for it: its address, and CAA that allows its
//! account. Asks each server itself, over TCP.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::rr::{RData, RecordType};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tunnler_edge::question::exchange;
use tunnler_protocol::HostName;
use tunnler_protocol::directory::AcmeIdentity;

/// How long one server may take.
const ANSWER: Duration = Duration::from_secs(2);

/// What must be seen.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The own host.
    pub host: HostName,
    /// Its addresses on chain.
    pub addresses: Vec<IpAddr>,
    /// The account on chain.
    pub account: AcmeIdentity,
}

/// Whether every server that answers shows it, and at least one answers.
pub async fn is_visible(servers: &[SocketAddr], expected: &Expected) -> bool {
    let looks = servers.iter().map(|server| timeout(ANSWER, look(*server, expected)));
    let seen: Vec<bool> =
        futures::future::join_all(looks).await.into_iter().filter_map(|look| look.ok()?.ok()?).collect();
    !seen.is_empty() && seen.into_iter().all(|shown| shown)
}

/// `None`: the server cannot say.
async fn look(server: SocketAddr, expected: &Expected) -> std::io::Result<Option<bool>> {
    let mut connection = TcpStream::connect(server).await?;
    connection.set_nodelay(true)?;
    let host = format!("{}.", expected.host);
    for address in &expected.addresses {
        let kind = if address.is_ipv4() { RecordType::A } else { RecordType::AAAA };
        let Some(found) = exchange(&mut connection, &host, kind).await? else { return Ok(None) };
        let is_it = |data: &RData| match data {
            RData::A(a) => IpAddr::V4(a.0) == *address,
            RData::AAAA(aaaa) => IpAddr::V6(aaaa.0) == *address,
            _ => false,
        };
        if !found.iter().any(is_it) {
            return Ok(Some(false));
        }
    }
    let Some(found) = exchange(&mut connection, &host, RecordType::CAA).await? else { return Ok(None) };
    Ok(Some(found.iter().any(|data| allows(data, &expected.account))))
}

/// Whether a CAA record lets `account` issue (RFC 8657, section 3).
fn allows(data: &RData, account: &AcmeIdentity) -> bool {
    let RData::CAA(caa) = data else { return false };
    let Ok(value) = std::str::from_utf8(&caa.value) else { return false };
    let mut parts = value.split(';').map(str::trim);
    let uri = format!("accounturi={}", account.account);
    caa.tag.eq_ignore_ascii_case("issue")
        && parts.next() == Some(account.issuer.as_str())
        && parts.any(|parameter| parameter == uri)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::CAA;

    #[test]
    fn only_the_own_account_counts() {
        let account = AcmeIdentity { issuer: "ca.test".into(), account: "https://ca.test/1".into() };
        let caa = |value: &str| {
            let mut caa = CAA::new_issue(false, None, vec![]);
            caa.value = value.as_bytes().to_vec();
            RData::CAA(caa)
        };
        assert!(allows(
            &caa("ca.test; accounturi=https://ca.test/1; validationmethods=tls-alpn-01"),
            &account
        ));
        for value in
            ["ca.test", "ca.test; accounturi=https://ca.test/12", "ca.org; accounturi=https://ca.test/1", ";"]
        {
            assert!(!allows(&caa(value), &account), "{value}");
        }
    }
}
