//! Questions to a zone's own servers, over TCP or HTTPS: what they hold now, past every cache.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tunnler_protocol::HostName;

use crate::https;

const ANSWER: Duration = Duration::from_secs(3);

/// The addresses of `host`, from the first of `servers` that answers; empty when none does.
pub async fn addresses(servers: &[SocketAddr], host: &HostName) -> Vec<IpAddr> {
    for server in servers {
        if let Ok(Ok(Some(found))) = timeout(ANSWER, both_families(*server, host)).await {
            return found;
        }
    }
    Vec::new()
}

async fn both_families(server: SocketAddr, host: &HostName) -> std::io::Result<Option<Vec<IpAddr>>> {
    let mut connection = TcpStream::connect(server).await?;
    let mut found = Vec::new();
    for kind in [RecordType::A, RecordType::AAAA] {
        let Some(answers) = exchange(&mut connection, &format!("{host}."), kind).await? else {
            return Ok(None);
        };
        found.extend(answers.into_iter().filter_map(|data| match data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        }));
    }
    Ok(Some(found))
}

/// Asks for one record set of `name` (absolute, with its final dot); `None` when the server cannot say (any response
/// code but NOERROR and NXDOMAIN). Waits as long as the connection lives: callers set the deadline.
pub async fn exchange(
    connection: &mut TcpStream,
    name: &str,
    kind: RecordType,
) -> std::io::Result<Option<Vec<RData>>> {
    let question = question(name, kind)?;
    let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
    connection.write_all(&[&length.to_be_bytes(), question.as_slice()].concat()).await?;
    let mut answer = vec![0; usize::from(connection.read_u16().await?)];
    connection.read_exact(&mut answer).await?;
    records(&answer)
}

/// The same over HTTPS (RFC 8484). Within 5 s.
pub async fn exchange_https(
    server: SocketAddr,
    name: &str,
    kind: RecordType,
) -> std::io::Result<Option<Vec<RData>>> {
    let question = question(name, kind)?;
    let (status, answer) = https::post(server, "/dns-query", "application/dns-message", question).await?;
    if !status.is_success() {
        return Err(std::io::Error::other(format!("status {status}")));
    }
    records(&answer)
}

fn question(name: &str, kind: RecordType) -> std::io::Result<Vec<u8>> {
    let name = Name::from_ascii(name).map_err(std::io::Error::other)?;
    // One question at a time on an own connection: the identifier guards nothing.
    let mut question = Message::new(u16::from(kind), MessageType::Query, OpCode::Query);
    question.add_query(Query::query(name, kind));
    question.to_vec().map_err(std::io::Error::other)
}

fn records(answer: &[u8]) -> std::io::Result<Option<Vec<RData>>> {
    let answer = Message::from_vec(answer).map_err(std::io::Error::other)?;
    Ok(match answer.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {
            Some(answer.answers.into_iter().map(|record| record.data).collect())
        }
        _ => None,
    })
}
