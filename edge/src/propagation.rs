//! Whether a DNS-01 challenge can be seen where the CA will look: asks each server of the zone itself, over TCP and where
//! that does not help over HTTPS, until those that answer show every value and the CAA records that allow the account.
//!
//! The CA is only told afterwards: one server that says no would fail the order and count against the name.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use hickory_proto::rr::{RData, RecordType};
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout};

use crate::acme::Challenge;
use crate::question::{exchange, exchange_https};

/// Time between two rounds of questions.
pub const ROUND: Duration = Duration::from_millis(250);
/// How long one server may take to answer before it counts as silent in that round.
pub const ANSWER: Duration = Duration::from_secs(2);
/// After this long without agreement the CA is not told.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server that still lacks the challenge over TCP after this long is asked over HTTPS too: something on the way may
/// answer port 53 from a cache of its own.
pub const SUSPICION: Duration = Duration::from_secs(5);

/// Where one of the zone's servers is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneServer {
    /// DNS over TCP.
    pub dns: SocketAddr,
    /// DNS over HTTPS (RFC 8484), where there is any.
    pub https: Option<SocketAddr>,
}

impl From<SocketAddr> for ZoneServer {
    fn from(dns: SocketAddr) -> Self {
        Self { dns, https: None }
    }
}

/// Nobody, or not everybody who answers, shows the challenge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the zone's servers do not show the challenge for {host} after {waited:?} ({found}); the CA was not asked to look"
)]
pub struct NotVisible {
    /// The host to validate.
    pub host: String,
    /// How long was waited.
    pub waited: Duration,
    /// What the servers said last.
    pub found: String,
}

/// What one server says in one round.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sight {
    Shown,
    Missing(&'static str),
    Silent,
}

/// Waits until every server that answers shows `challenge` in two rounds running, and at least one answers.
pub async fn until_visible(
    servers: &[impl Copy + Into<ZoneServer>],
    challenge: &Challenge,
    patience: Duration,
) -> Result<(), NotVisible> {
    let servers: Vec<ZoneServer> = servers.iter().map(|server| (*server).into()).collect();
    let start = Instant::now();
    let mut running = 0;
    loop {
        let round = Instant::now();
        let sights = join_all(servers.iter().map(|server| look(*server, challenge, start.elapsed()))).await;
        running = if agree(&sights) { running + 1 } else { 0 };
        if running == 2 {
            return Ok(());
        }
        if start.elapsed() >= patience {
            let found = describe(&servers, &sights);
            return Err(NotVisible { host: challenge.host.to_string(), waited: patience, found });
        }
        sleep_until(round + ROUND).await;
    }
}

fn agree(sights: &[Sight]) -> bool {
    sights.contains(&Sight::Shown) && !sights.iter().any(|sight| matches!(sight, Sight::Missing(_)))
}

fn describe(servers: &[ZoneServer], sights: &[Sight]) -> String {
    if servers.is_empty() {
        return "the zone has no servers on chain".into();
    }
    let each = servers.iter().map(|server| server.dns).zip(sights).map(|(server, sight)| match sight {
        Sight::Shown => format!("{server} shows it"),
        Sight::Missing(what) => format!("{server} lacks {what}"),
        Sight::Silent => format!("{server} does not answer"),
    });
    each.collect::<Vec<_>>().join(", ")
}

async fn look(server: ZoneServer, challenge: &Challenge, waited: Duration) -> Sight {
    let seen = sight(timeout(ANSWER, ask(server.dns, challenge)).await, challenge);
    let doubtful = match seen {
        Sight::Shown => false,
        Sight::Silent => true,
        Sight::Missing(_) => waited >= SUSPICION,
    };
    let Some(https) = server.https.filter(|_| doubtful) else { return seen };
    match sight(timeout(ANSWER, ask_https(https, challenge)).await, challenge) {
        Sight::Silent => seen,
        past_the_interceptor => past_the_interceptor,
    }
}

fn sight(asked: Result<std::io::Result<Option<Answers>>, Elapsed>, challenge: &Challenge) -> Sight {
    match asked {
        Ok(Ok(Some(answers))) => answers.judge(challenge),
        // SERVFAIL, a refused connection and silence all say nothing about the records.
        Ok(Ok(None) | Err(_)) | Err(_) => Sight::Silent,
    }
}

/// What a server holds for the challenge's host.
struct Answers {
    txt: Vec<String>,
    caa: Vec<(String, String)>,
}

impl Answers {
    fn read(txt: Vec<RData>, caa: Vec<RData>) -> Self {
        let txt = txt.into_iter().filter_map(|data| match data {
            RData::TXT(txt) => String::from_utf8(txt.txt_data.concat()).ok(),
            _ => None,
        });
        let caa = caa.into_iter().filter_map(|data| match data {
            RData::CAA(caa) => Some((caa.tag.to_ascii_lowercase(), String::from_utf8(caa.value).ok()?)),
            _ => None,
        });
        Self { txt: txt.collect(), caa: caa.collect() }
    }

    fn judge(&self, challenge: &Challenge) -> Sight {
        if !challenge.values.iter().all(|value| self.txt.contains(value)) {
            return Sight::Missing("TXT values");
        }
        let allows = |tag: &str| {
            self.caa.iter().any(|(found, value)| {
                let mut parts = value.split(';').map(str::trim);
                let issuer = parts.next() == Some(challenge.account.issuer.as_str());
                let account = format!("accounturi={}", challenge.account.account);
                found == tag && issuer && parts.any(|parameter| parameter == account)
            })
        };
        if !allows("issue") {
            return Sight::Missing("CAA issue");
        }
        if challenge.wildcard && !allows("issuewild") {
            return Sight::Missing("CAA issuewild");
        }
        Sight::Shown
    }
}

/// Both questions over one connection; `None` when the server cannot say (any response code but NOERROR and NXDOMAIN).
async fn ask(server: SocketAddr, challenge: &Challenge) -> std::io::Result<Option<Answers>> {
    let mut connection = TcpStream::connect(server).await?;
    connection.set_nodelay(true)?;
    let txt = format!("_acme-challenge.{}.", challenge.host);
    let Some(txt) = exchange(&mut connection, &txt, RecordType::TXT).await? else { return Ok(None) };
    let caa = format!("{}.", challenge.host);
    let Some(caa) = exchange(&mut connection, &caa, RecordType::CAA).await? else { return Ok(None) };
    Ok(Some(Answers::read(txt, caa)))
}

async fn ask_https(server: SocketAddr, challenge: &Challenge) -> std::io::Result<Option<Answers>> {
    let (txt, caa) = (format!("_acme-challenge.{}.", challenge.host), format!("{}.", challenge.host));
    let Some(txt) = exchange_https(server, &txt, RecordType::TXT).await? else { return Ok(None) };
    let Some(caa) = exchange_https(server, &caa, RecordType::CAA).await? else { return Ok(None) };
    Ok(Some(Answers::read(txt, caa)))
}

#[cfg(test)]
mod tests {
    use tunnler_protocol::directory::AcmeIdentity;

    use super::*;

    fn challenge() -> Challenge {
        Challenge {
            host: "mynode.tun.test".parse().unwrap(),
            values: vec!["a".into(), "b".into()],
            account: AcmeIdentity { issuer: "ca.test".into(), account: "https://ca.test/1".into() },
            wildcard: true,
        }
    }

    fn answers(txt: &[&str], caa: &[(&str, &str)]) -> Answers {
        Answers {
            txt: txt.iter().map(|text| (*text).to_owned()).collect(),
            caa: caa.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn a_server_must_show_every_value_and_both_permissions() {
        let value = "ca.test; accounturi=https://ca.test/1; validationmethods=dns-01";
        let caa = [("issue", value), ("issuewild", value)];
        assert_eq!(answers(&["a", "b", "x"], &caa).judge(&challenge()), Sight::Shown);
        assert_eq!(answers(&["a"], &caa).judge(&challenge()), Sight::Missing("TXT values"));
        assert_eq!(answers(&["a", "b"], &caa[..1]).judge(&challenge()), Sight::Missing("CAA issuewild"));
        for other in
            ["ca.test; accounturi=https://ca.test/12", "other.test; accounturi=https://ca.test/1", ";"]
        {
            let caa = [("issue", other), ("issuewild", value)];
            assert_eq!(
                answers(&["a", "b"], &caa).judge(&challenge()),
                Sight::Missing("CAA issue"),
                "{other}"
            );
        }
    }

    #[test]
    fn silence_counts_for_nothing_and_contradiction_blocks() {
        assert!(agree(&[Sight::Shown, Sight::Silent]));
        assert!(!agree(&[Sight::Silent, Sight::Silent]));
        assert!(!agree(&[Sight::Shown, Sight::Missing("TXT values")]));
        assert!(!agree(&[]));
    }
}
