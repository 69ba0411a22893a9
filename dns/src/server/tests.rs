//! The whole server on loopback: real sockets, real TLS feeds from a small relay, hand-made directories.

mod outages;
// Floods are for dns/tests/hostile.rs, which shares this file.
#[allow(dead_code)]
mod relay;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tunnler_protocol::directory::{AddressPolicy, Directory, Heartbeat, Relay};
use tunnler_protocol::presence::Presence;
use tunnler_protocol::time::{LedgerTime, UnixMillis};
use tunnler_transport::tls::install_provider;

use self::relay::FeedRelay;
use super::*;
use crate::fixture::{TERMS, address, claims_at, directory, key, name, signed};
use crate::probe::Probing;
use crate::serve::limit::Rate;
use crate::serve::tls::CertificateFiles;

const SECOND: Duration = Duration::from_secs(1);
/// The server's key: the first zone server of the fixture.
const SERVER_KEY: u8 = 201;

fn config(state: Option<PathBuf>) -> Config {
    install_provider();
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Config {
        terms: Terms { policy: AddressPolicy::AllowPrivate, ..TERMS },
        key: key(SERVER_KEY),
        listen: vec![local],
        workers: 2,
        rate: Rate::Unlimited,
        admin: Some(local),
        http: Some(local),
        certificate: None,
        dot: None,
        doh: None,
        probing: Probing::Off,
        state,
        zone_keys: None,
        chain: None,
        metrics: None,
    }
}

/// The chain as of now, with relays that live on loopback.
fn chain(relays: &[&FeedRelay]) -> Directory {
    let now = clock::unix_now().seconds();
    let relays = relays.iter().map(|relay| Relay {
        control_port: relay.port(),
        ipv4: Some(relay.ip()),
        heartbeat: Some(Heartbeat { at: now, load: 0 }),
        registered_at: now,
        ..crate::fixture::relay(relay.number())
    });
    let mut directory = directory(relays, [name("mynode", 101)]);
    directory.ledger = LedgerTime { sequence: 9, closed_at: now };
    let names = directory.names.values_mut();
    names.for_each(|record| Arc::make_mut(record).expires_at = now.plus(Duration::from_secs(3600)));
    directory
}

fn presence_now(n: u8, names: &[&str], relays: &[u8]) -> Arc<Presence> {
    signed(n, claims_at(clock::unix_now(), n, names, relays))
}

struct World {
    server: Server,
    directory: watch::Sender<Option<Arc<Directory>>>,
}

impl World {
    async fn start(config: Config, directory: Directory) -> Self {
        let (sender, receiver) = watch::channel(Some(Arc::new(directory)));
        let server = Server::bind(config, receiver).await.unwrap();
        Self { server, directory: sender }
    }

    fn dns(&self) -> SocketAddr {
        self.server.dns_addresses()[0]
    }

    /// IPv4 addresses of `mynode`, sorted; `Err` is the response code of an empty answer.
    async fn addresses(&self) -> Result<Vec<Ipv4Addr>, ResponseCode> {
        let message = ask_udp(self.dns(), "mynode.tunnel.example.", RecordType::A).await;
        let mut found: Vec<_> = message
            .answers
            .iter()
            .map(|record| match &record.data {
                RData::A(a) => a.0,
                other => panic!("{other}"),
            })
            .collect();
        found.sort_unstable();
        if found.is_empty() { Err(message.metadata.response_code) } else { Ok(found) }
    }

    /// Waits until the answer is `expected` and returns how long that took.
    async fn until(&self, expected: Result<Vec<Ipv4Addr>, ResponseCode>, most: Duration) -> Duration {
        let start = Instant::now();
        loop {
            let answer = self.addresses().await;
            if answer == expected {
                return start.elapsed();
            }
            assert!(start.elapsed() < most, "still {answer:?} instead of {expected:?} after {most:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn question(owner: &str, wanted: RecordType) -> Vec<u8> {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(owner).unwrap(), wanted));
    message.to_vec().unwrap()
}

async fn ask_udp(server: SocketAddr, owner: &str, wanted: RecordType) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    let mut buffer = [0; 4096];
    for _ in 0..3 {
        socket.send(&question(owner, wanted)).await.unwrap();
        if let Ok(length) = tokio::time::timeout(2 * SECOND, socket.recv(&mut buffer)).await {
            return Message::from_vec(&buffer[..length.unwrap()]).unwrap();
        }
    }
    panic!("no answer from {server}");
}

async fn ask_tcp(stream: &mut TcpStream, owner: &str, wanted: RecordType) -> Message {
    let query = question(owner, wanted);
    stream.write_u16(query.len() as u16).await.unwrap();
    stream.write_all(&query).await.unwrap();
    let length = stream.read_u16().await.unwrap();
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

/// Two relays that both hold the session of `mynode`'s client, and a server that knows it.
async fn two_relays() -> (World, [FeedRelay; 2]) {
    install_provider();
    let relays = [FeedRelay::start(1).await, FeedRelay::start(2).await];
    let presence = presence_now(101, &["mynode"], &[1, 2]);
    for relay in &relays {
        relay.attach(&presence);
    }
    let world = World::start(config(None), chain(&[&relays[0], &relays[1]])).await;
    world.until(Ok(vec![relays[0].ip(), relays[1].ip()]), 10 * SECOND).await;
    (world, relays)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_dies_is_withdrawn_in_a_second_and_comes_back() {
    let (world, [one, two]) = two_relays().await;
    assert_eq!(one.subscriber().await, address(SERVER_KEY), "the feed knows who reads it");
    let (ip, presence) = (two.ip(), presence_now(101, &["mynode"], &[1, 2]));
    let port = two.kill();
    let took = world.until(Ok(vec![one.ip()]), 2 * SECOND).await;
    assert!(took <= SECOND, "{took:?}");
    let two = FeedRelay::start_at(2, port).await;
    two.attach(&presence);
    world.until(Ok(vec![one.ip(), ip]), 15 * SECOND).await;
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_relay_is_withdrawn_in_six_seconds_but_never_the_last_one() {
    let (world, [one, two]) = two_relays().await;
    two.fall_silent();
    let took = world.until(Ok(vec![one.ip()]), 7 * SECOND).await;
    assert!(took <= 6 * SECOND, "{took:?}");
    one.fall_silent();
    // Nobody can be heard now: both are answered, as both may be alive.
    world.until(Ok(vec![one.ip(), two.ip()]), 7 * SECOND).await;
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_of_relay_client_and_chain_are_followed() {
    let (world, [one, two]) = two_relays().await;
    two.drain(101);
    world.until(Ok(vec![one.ip()]), 2 * SECOND).await;
    one.drain(101);
    world.until(Ok(vec![one.ip(), two.ip()]), 2 * SECOND).await;
    // The client leaves relay one; relay two is enough to say so.
    let later = UnixMillis(clock::unix_now().0 + 601_000);
    two.publish(&signed(101, claims_at(later, 101, &["mynode"], &[2])));
    world.until(Ok(vec![two.ip()]), 2 * SECOND).await;
    // An older presence changes nothing, and a forged one neither.
    one.publish(&presence_now(101, &["mynode"], &[1]));
    let forged = presence_now(101, &["mynode"], &[1]).text().replace("A.", "B.");
    one.publish_text(&forged);
    let mut chain = chain(&[&one, &two]);
    Arc::make_mut(chain.names.get_mut(&"mynode".parse().unwrap()).unwrap()).suspended = true;
    assert_eq!(world.addresses().await, Ok(vec![two.ip()]));
    world.directory.send_replace(Some(Arc::new(chain)));
    world.until(Err(ResponseCode::NoError), 2 * SECOND).await;
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_at_a_relays_address_is_not_believed() {
    install_provider();
    let real = FeedRelay::start(1).await;
    // Says it is relay 2, but has another key.
    let impostor = FeedRelay::start_as(2, key(66)).await;
    let presence = presence_now(101, &["mynode"], &[1, 2]);
    real.attach(&presence);
    impostor.attach(&presence);
    let world = World::start(config(None), chain(&[&real, &impostor])).await;
    world.until(Ok(vec![real.ip()]), 10 * SECOND).await;
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_answers_at_once_what_was_live_and_servfail_for_the_rest() {
    install_provider();
    let dir = tempfile::tempdir().unwrap();
    let relay = FeedRelay::start(1).await;
    relay.attach(&presence_now(101, &["mynode"], &[1]));
    let world = World::start(config(Some(dir.path().to_owned())), chain(&[&relay])).await;
    world.until(Ok(vec![relay.ip()]), 10 * SECOND).await;
    let chain = chain(&[&relay]);
    world.server.shutdown().await;
    let ip = relay.ip();
    relay.kill();
    let world = World::start(config(Some(dir.path().to_owned())), chain.clone()).await;
    world.until(Ok(vec![ip]), 2 * SECOND).await;
    world.server.shutdown().await;
    // Without what was kept, nothing is known until the feed is heard or given up on.
    let world = World::start(config(None), chain).await;
    assert_eq!(world.addresses().await, Err(ResponseCode::ServFail));
    let took = world.until(Err(ResponseCode::NoError), 8 * SECOND).await;
    assert!(took >= SECOND, "given up on too early: {took:?}");
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_can_post_its_presence() {
    install_provider();
    let relay = FeedRelay::start(1).await;
    relay.attach_silently(101);
    let world = World::start(config(None), chain(&[&relay])).await;
    world.until(Err(ResponseCode::NoError), 10 * SECOND).await;
    let http = world.server.http_address().unwrap();
    let presence = presence_now(101, &["mynode"], &[1]);
    assert!(post(http, presence.text()).await.starts_with("HTTP/1.1 202"));
    world.until(Ok(vec![relay.ip()]), 2 * SECOND).await;
    assert!(post(http, presence.text()).await.starts_with("HTTP/1.1 200"));
    let forged = presence_now(102, &[], &[1]).text().to_string();
    let forged = format!("{}AAAA", &forged[..forged.len() - 4]);
    let refused = post(http, &forged).await;
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("signature"), "{refused}");
    world.server.shutdown().await;
}

async fn post(address: SocketAddr, body: &str) -> String {
    request(address, &format!("POST /v1/presence HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await
}

async fn request(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_explanations_are_there_for_operators() {
    let (world, _relays) = two_relays().await;
    let admin = world.server.admin_address().unwrap();
    let see = |path: &'static str| async move {
        request(admin, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    };
    assert!(see("/ready").await.starts_with("HTTP/1.1 200"));
    let explanation = see("/explain/mynode.tunnel.example").await;
    assert!(explanation.contains(r#""standing":"attached""#), "{explanation}");
    assert!(see("/explain/example.org").await.starts_with("HTTP/1.1 404"));
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_answers_in_sequence_and_is_capped_per_network() {
    let (world, _relays) = two_relays().await;
    let mut stream = TcpStream::connect(world.dns()).await.unwrap();
    for wanted in [RecordType::A, RecordType::SOA, RecordType::HTTPS] {
        let message = ask_tcp(&mut stream, "mynode.tunnel.example.", wanted).await;
        assert!(message.metadata.authoritative && !message.metadata.truncation);
    }
    let open = join_all((0..80).map(|_| TcpStream::connect(world.dns()))).await;
    let (mut kept, mut refused) = (Vec::new(), 0);
    for stream in open {
        let mut stream = stream.unwrap();
        let query = question("tunnel.example.", RecordType::SOA);
        let _ = stream.write_u16(query.len() as u16).await;
        let _ = stream.write_all(&query).await;
        refused += usize::from(stream.read_u16().await.is_err());
        kept.push(stream);
    }
    assert_eq!(refused, 80 + 1 - 64);
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_reports_but_does_not_serve_is_put_behind() {
    install_provider();
    let relays = [FeedRelay::start(1).await, FeedRelay::start(2).await];
    let presence = presence_now(101, &["mynode"], &[1, 2]);
    relays.iter().for_each(|relay| relay.attach(&presence));
    let mut chain = chain(&[&relays[0], &relays[1]]);
    // Visitors are expected where relay one speaks TLS; at that port of relay two nobody listens.
    let ingress = relays[0].port();
    chain.relays.values_mut().for_each(|relay| Arc::make_mut(relay).ingress_port = ingress);
    let mut config = config(None);
    config.terms.ingress_port = ingress;
    config.probing = Probing::Every(Duration::from_millis(100));
    let world = World::start(config, chain).await;
    world.until(Ok(vec![relays[0].ip()]), 10 * SECOND).await;
    // But it is better than none.
    relays[0].drain(101);
    world.until(Ok(vec![relays[0].ip(), relays[1].ip()]), 5 * SECOND).await;
    world.server.shutdown().await;
}

/// A certificate for `localhost` in files, and a client that trusts it.
fn certificate(dir: &std::path::Path) -> (CertificateFiles, tokio_rustls::TlsConnector) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = CertificateFiles { chain: dir.join("chain.pem"), key: dir.join("key.pem") };
    std::fs::write(&files.chain, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (files, tokio_rustls::TlsConnector::from(Arc::new(client)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_zone_is_answered_over_tls_and_https() {
    install_provider();
    let dir = tempfile::tempdir().unwrap();
    let (files, tls) = certificate(dir.path());
    let local = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let config = Config { certificate: Some(files), dot: local, doh: local, ..config(None) };
    let relay = FeedRelay::start(1).await;
    let world = World::start(config, chain(&[&relay])).await;
    let connect = async |address: Option<SocketAddr>| {
        let tcp = TcpStream::connect(address.unwrap()).await.unwrap();
        tls.connect("localhost".try_into().unwrap(), tcp).await.unwrap()
    };
    let query = question("tunnel.example.", RecordType::SOA);

    let mut stream = connect(world.server.dot_address()).await;
    stream.write_u16(query.len() as u16).await.unwrap();
    stream.write_all(&query).await.unwrap();
    let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 1);

    let post = async |path: &str, media_type: &str, body: &[u8]| {
        let mut stream = connect(world.server.doh_address()).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {media_type}\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    let answer = post("/dns-query", "application/dns-message", &query).await;
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(Message::from_vec(&answer[body..]).unwrap().answers.len(), 1);
    // The same host takes presences.
    let presence = presence_now(101, &["mynode"], &[1]);
    let answer = post("/v1/presence", "text/plain", presence.text().as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&answer));
    world.server.shutdown().await;
}

#[tokio::test]
async fn a_port_in_use_is_one_clear_line() {
    let (_, receiver) = watch::channel(None);
    let first = Server::bind(config(None), receiver.clone()).await.unwrap();
    let mut second = config(None);
    second.listen = first.dns_addresses().to_vec();
    let error = Server::bind(second, receiver).await.unwrap_err().to_string();
    assert!(error.contains("cannot listen on 127.0.0.1") && error.contains("another server"), "{error}");
    first.shutdown().await;
}
