//! A challenge behind something that answers port 53 itself: found over HTTPS, and only then told to the CA.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{CAA, TXT};
use hickory_proto::rr::{RData, Record, RecordType};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tunnler_edge::acme::Challenge;
use tunnler_edge::propagation::{ZoneServer, until_visible};
use tunnler_protocol::directory::AcmeIdentity;

const LOOPBACK: &str = "127.0.77.2";

fn challenge() -> Challenge {
    let account = AcmeIdentity { issuer: "ca.test".into(), account: "https://ca.test/1".into() };
    let host = "mynode.tun.test".parse().unwrap();
    Challenge { host, values: vec!["a".into()], account, wildcard: false }
}

/// What the zone's server says.
fn authority(question: &[u8]) -> Vec<u8> {
    let mut answer = Message::from_vec(question).unwrap();
    let query = answer.queries[0].clone();
    answer.metadata.message_type = MessageType::Response;
    let data = match query.query_type() {
        RecordType::TXT => RData::TXT(TXT::new(vec!["a".into()])),
        _ => {
            let mut caa = CAA::new_issue(false, None, Vec::new());
            caa.value = b"ca.test; accounturi=https://ca.test/1".to_vec();
            RData::CAA(caa)
        }
    };
    answer.add_answer(Record::from_rdata(query.name().clone(), 5, data));
    answer.to_vec().unwrap()
}

/// What something on the way says: there is no such name.
fn interceptor(question: &[u8]) -> Vec<u8> {
    let mut answer = Message::from_vec(question).unwrap();
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.response_code = ResponseCode::NXDomain;
    answer.to_vec().unwrap()
}

async fn over_tcp(answer: fn(&[u8]) -> Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut question = vec![0; usize::from(length)];
                    stream.read_exact(&mut question).await?;
                    let answer = answer(&question);
                    stream.write_u16(answer.len() as u16).await?;
                    stream.write_all(&answer).await?;
                }
                std::io::Result::Ok(())
            });
        }
    });
    address
}

async fn over_https(answer: fn(&[u8]) -> Vec<u8>) -> SocketAddr {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["ns1.tun.test".into()]).unwrap().self_signed(&key).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let tls = ServerConfig::builder().with_no_client_auth();
    let tls =
        TlsAcceptor::from(Arc::new(tls.with_single_cert(vec![certificate.der().clone()], key).unwrap()));
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let mut stream = tls.accept(tcp).await?;
                let question = read_body(&mut stream).await?;
                let answer = answer(&question);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
                stream.write_all(&[head.as_bytes(), &answer].concat()).await?;
                stream.flush().await
            });
        }
    });
    address
}

async fn read_body(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    assert!(
        head.starts_with("post /dns-query ") && head.contains("content-type: application/dns-message"),
        "{head}"
    );
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

#[tokio::test]
async fn what_port_53_hides_is_seen_over_https() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let https = Some(over_https(authority).await);
    let refused = TcpListener::bind((LOOPBACK, 0)).await.unwrap().local_addr().unwrap();
    // Nobody answers at port 53: seen at once.
    let patience = Duration::from_secs(4);
    until_visible(&[ZoneServer { dns: refused, https }], &challenge(), patience).await.unwrap();
    // Something else answers there: seen when it is suspected.
    let dns = over_tcp(interceptor).await;
    let patience = Duration::from_secs(20);
    until_visible(&[ZoneServer { dns, https }], &challenge(), patience).await.unwrap();
}

#[tokio::test]
async fn what_https_lacks_too_is_not_there() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (dns, https) = (over_tcp(interceptor).await, Some(over_https(interceptor).await));
    let patience = Duration::from_secs(6);
    let missing = until_visible(&[ZoneServer { dns, https }], &challenge(), patience).await.unwrap_err();
    assert!(missing.to_string().contains("lacks TXT values"), "{missing}");
    let shown = over_tcp(authority).await;
    until_visible(&[shown], &challenge(), patience).await.unwrap();
}
