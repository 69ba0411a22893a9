//! Visitors handed from one relay to another, and forwarders that try for more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tunnler_protocol::control::{AuthFailure, CloseCode, ToClient, ToRelay};
use tunnler_protocol::directory::{Directory, Relay as Record, RelayStatus};
use tunnler_protocol::presence::ServiceKind;
use tunnler_protocol::stream::{Payload, StreamHeader};
use tunnler_protocol::{Address, SecretKey};
use tunnler_relay::RelayConfig;
use tunnler_relay::limits::Rule;
use tunnler_transport::{ClientSession, SessionEvent};

use crate::places::{CALM, LOUD, SERVED_WITHIN, is_reset, silent};
use crate::raw::*;
use crate::world::*;

/// Two relays that the chain knows: keys 9 and 8.
struct Pair {
    first: World,
    second: World,
}

/// What the chain says of a relay.
pub fn record(world: &World) -> Arc<Record> {
    let address = world.relay.local_addr();
    Arc::new(Record {
        address: world.relay.address(),
        operator: world.relay.address().to_string(),
        host: Some(world.own_host.parse().unwrap()),
        control_port: address.port(),
        ingress_port: address.port(),
        ipv4: Some(match address.ip() {
            std::net::IpAddr::V4(v4) => v4,
            std::net::IpAddr::V6(_) => unreachable!("listens at an IPv4 address"),
        }),
        ipv6: None,
        region: "here".into(),
        capacity: 100,
        acme: None,
        status: RelayStatus::Active,
        heartbeat: None,
        registered_at: now().seconds(),
    })
}

impl Pair {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change_second: impl FnOnce(&mut RelayConfig)) -> Self {
        let first = World::new().await;
        let second = World::with(|config| {
            config.key = key(8);
            config.own_host = "other.example".parse().unwrap();
            config.limits.per_forwarder = Rule { at_once: 4, per_second: 100, bytes_per_second: None };
            change_second(config);
        })
        .await;
        let pair = Self { first, second };
        pair.publish(|_| {});
        pair
    }

    fn publish(&self, change: impl FnOnce(&mut Directory)) {
        let mut directory = directory(vec![named("mynode", &key(1))]);
        for world in [&self.first, &self.second] {
            directory.relays.insert(world.relay.address(), record(world));
        }
        change(&mut directory);
        let directory = Some(Arc::new(directory));
        self.first.directory.send_replace(directory.clone());
        self.second.directory.send_replace(directory);
    }

    fn relays(&self) -> [Address; 2] {
        [self.first.relay.address(), self.second.relay.address()]
    }

    /// The first relay serves a visitor of the client, which then leaves for the second.
    async fn moved(&self) -> ClientSession {
        let both = presence(1, 0, &["mynode"], &self.relays());
        let session = self.first.connect(login(1, Some(both.clone()))).await.unwrap();
        let (control, site) = (session.control.clone(), spawn_site(session, echo));
        let mut tls = self.first.visit("mynode.tun.test").await.unwrap();
        exchange(&mut tls, b"hello").await.unwrap();
        drop((tls, control, site));
        let observer = self.first.relay.observer();
        eventually("it has left", || async { observer.session_count() == 0 }).await;
        self.second.connect(login(1, Some(both))).await.unwrap()
    }
}

/// SIGTERM under load: what was begun ends whole, and no visitor is lost, whichever of the two relays it comes to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_drains_loses_no_visitor_of_a_client_with_another() {
    let Pair { first, second } = Pair::new().await;
    let relays = [first.relay.address(), second.relay.address()];
    let both = presence(1, 0, &["mynode"], &relays);
    let other = second.connect(login(1, Some(both.clone()))).await.unwrap();
    let other_control = other.control.clone();
    let _other = spawn_site(other, echo);
    let session = first.connect(login(1, Some(both))).await.unwrap();
    let control = session.control.clone();
    let (asked, draining) = tokio::sync::oneshot::channel();
    let mut asked = Some(asked);
    let site = spawn_site_that(session, echo, move |event| {
        if let (SessionEvent::Draining(_), Some(asked)) = (event, asked.take()) {
            let _ = asked.send(());
        }
    });
    let mut download = first.visit("mynode.tun.test").await.unwrap();
    exchange(&mut download, &[1; 100_000]).await.unwrap();
    let (at_first, at_second) = (first.relay.local_addr(), second.relay.local_addr());
    let stopped = Arc::new(AtomicBool::new(false));
    let visits = tokio::spawn({
        let stopped = stopped.clone();
        async move {
            let (mut served, mut handed) = (0, 0);
            while !stopped.load(Ordering::Relaxed) {
                // As browsers do: the next address when one does not answer.
                let mut tls = match visit(at_first, "mynode.tun.test").await {
                    Ok(tls) => tls,
                    Err(_) => visit(at_second, "mynode.tun.test").await.expect("one of the two serves"),
                };
                handed += u32::from(tls.get_ref().0.peer_addr().unwrap() == at_first);
                assert_eq!(exchange(&mut tls, b"hello").await.expect("served whole"), b"hello");
                served += 1;
            }
            (served, handed)
        }
    });
    let shutdown = tokio::spawn(first.relay.shutdown(PATIENCE));
    timeout(PATIENCE, draining).await.unwrap().unwrap();
    // What the client program does: elsewhere first, then leave, and close when the last stream is over.
    let moved = presence(1, 5, &["mynode"], &relays[1..]);
    other_control.send_presence(&moved).unwrap();
    control.send_presence(&moved).unwrap();
    control.leave().unwrap();
    let closing = tokio::spawn(async move { control.close(PATIENCE).await });
    let rest = vec![2; 2_000_000];
    assert_eq!(exchange(&mut download, &rest).await.unwrap(), rest, "the download ends whole");
    drop(download);
    timeout(PATIENCE, closing).await.expect("closed").unwrap();
    timeout(PATIENCE, shutdown).await.expect("stopped").unwrap();
    stopped.store(true, Ordering::Relaxed);
    let (served, handed) = timeout(PATIENCE, visits).await.unwrap().unwrap();
    eprintln!("{served} visits, {handed} at the relay that drained");
    assert!(served > 0);
    drop(site);
}

fn header(forwarder: Option<&SecretKey>, host: &str) -> StreamHeader {
    StreamHeader {
        visitor: "192.0.2.1:1234".parse().unwrap(),
        ingress: "192.0.2.2:443".parse().unwrap(),
        host: Some(host.parse().unwrap()),
        service: "web".parse().unwrap(),
        kind: ServiceKind::Http,
        forwarder: forwarder.map(SecretKey::address),
        payload: Payload::Untouched,
    }
}

#[tokio::test]
async fn a_visitor_with_a_stale_answer_is_handed_to_the_relay_that_has_the_client() {
    let pair = Pair::new().await;
    let ClientSession { control: _control, mut streams, events: _events, .. } = pair.moved().await;
    let visitor = TcpStream::connect(pair.first.relay.local_addr()).await.unwrap();
    let address = visitor.local_addr().unwrap();
    let (config, _) = tunnler_transport::tls::client_config(None);
    let handshake = tokio::spawn(async move {
        let connector = tokio_rustls::TlsConnector::from(config);
        connector.connect("mynode.tun.test".try_into().unwrap(), visitor).await
    });
    let incoming = timeout(PATIENCE, streams.next()).await.unwrap().unwrap();
    assert_eq!(incoming.header.visitor, address, "the client learns who it really is");
    assert_eq!(incoming.header.forwarder, Some(pair.first.relay.address()));
    assert_eq!(incoming.header.host.unwrap().as_str(), "mynode.tun.test");
    drop(incoming.io);
    assert!(timeout(PATIENCE, handshake).await.unwrap().unwrap().is_err(), "a reset comes through");
}

#[tokio::test]
async fn many_visitors_share_one_line_and_bytes_pass_unread() {
    let pair = Pair::new().await;
    let _site = spawn_site(pair.moved().await, echo);
    let sent: Vec<u8> = (0..400_000_u32).flat_map(|n| n.to_be_bytes()).collect();
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(pair.first.visit("mynode.tun.test").await.unwrap());
    }
    let answers = all.iter_mut().map(|tls| exchange(tls, &sent));
    for answer in futures::future::join_all(answers).await {
        assert_eq!(answer.unwrap(), sent);
    }
    // The fifth is more than the share; the others are not disturbed.
    assert!(pair.first.visit("mynode.tun.test").await.is_err());
    assert_eq!(exchange(&mut all[0], b"still").await.unwrap(), b"still");
    let mut direct = pair.second.visit("mynode.tun.test").await.unwrap();
    assert_eq!(exchange(&mut direct, b"direct").await.unwrap(), b"direct");
    drop(all);
    eventually("there is room again", || async { pair.first.visit("mynode.tun.test").await.is_ok() }).await;
}

/// Also a relay that was restarted meanwhile knows whom it served.
#[tokio::test]
async fn whom_a_relay_served_outlives_it() {
    let state = tempfile::tempdir().unwrap();
    let remember = |config: &mut tunnler_relay::RelayConfig| {
        config.state = Some(tunnler_edge::Store::open(state.path()).unwrap());
    };
    let mut pair = Pair::new().await;
    pair.first = World::with(remember).await;
    pair.publish(|_| {});
    let _site = spawn_site(pair.moved().await, echo);
    let old = std::mem::replace(&mut pair.first, World::new().await);
    old.relay.shutdown(Duration::ZERO).await;
    pair.publish(|_| {});
    assert!(pair.first.visit("mynode.tun.test").await.is_err(), "another process without that memory");
    pair.first = World::with(remember).await;
    pair.publish(|_| {});
    let mut tls = pair.first.visit("mynode.tun.test").await.unwrap();
    assert_eq!(exchange(&mut tls, b"hello").await.unwrap(), b"hello");
}

#[tokio::test]
async fn nobody_else_is_handed_on() {
    let pair = Pair::new().await;
    let both = presence(1, 0, &["mynode"], &pair.relays());
    let session = pair.second.connect(login(1, Some(both))).await.unwrap();
    let _site = spawn_site(session, echo);
    let start = Instant::now();
    let error = pair.first.visit("mynode.tun.test").await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("unrecogni"), "never served here: {error}");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_visitor_is_handed_on_once() {
    let pair = Pair::new().await;
    // Both relays have served the client and know it at each other; it is at neither.
    drop(pair.moved().await);
    let observer = pair.second.relay.observer();
    eventually("it has left", || async { observer.session_count() == 0 }).await;
    let both = presence(1, 5, &["mynode"], &pair.relays());
    let session = pair.second.connect(login(1, Some(both))).await.unwrap();
    let site = spawn_site(session, echo);
    eventually("served", || async { pair.second.visit("mynode.tun.test").await.is_ok() }).await;
    drop(site);
    eventually("it has left", || async { observer.session_count() == 0 }).await;
    for world in [&pair.first, &pair.second] {
        let error = world.visit("mynode.tun.test").await.unwrap_err();
        assert!(error.to_string().to_lowercase().contains("unrecogni"), "{error}");
    }
}

#[tokio::test]
async fn who_is_no_active_relay_is_refused_and_a_delisted_one_loses_its_session() {
    let pair = Pair::new().await;
    assert_eq!(Raw::forwarder(&pair.second, 7).await.err(), Some(AuthFailure::Mismatch), "unregistered");
    assert_eq!(Raw::forwarder(&pair.second, 8).await.err(), Some(AuthFailure::Mismatch), "itself");
    let mut raw = Raw::forwarder(&pair.second, 9).await.unwrap();
    let first = pair.first.relay.address();
    pair.publish(|directory| {
        let mut record = Record::clone(&directory.relays[&first]);
        record.status = RelayStatus::Delisted;
        directory.relays.insert(first, record.into());
    });
    raw.end().await;
    assert_eq!(Raw::forwarder(&pair.second, 9).await.err(), Some(AuthFailure::Mismatch), "delisted");
}

/// Opens a stream with these bytes; how it ends: the bytes that came back, and whether it was reset.
async fn ask(raw: &mut Raw, stream: u32, bytes: &[u8]) -> (Vec<u8>, bool) {
    assert!(raw.send(data(OPEN, stream, bytes)).await);
    let mut answer = Vec::new();
    loop {
        let frame = raw.next_frame().await.expect("the session goes on");
        assert_eq!(frame.stream, stream);
        answer.extend(frame.body);
        if frame.flags & RESET != 0 {
            return (answer, true);
        }
        if frame.flags & 4 != 0 {
            // The other half ends too, so that the stream is over.
            raw.send(data(4, stream, &[])).await;
            return (answer, false);
        }
    }
}

#[tokio::test]
async fn headers_that_lie_and_hosts_that_are_not_here_get_nowhere() {
    let pair = Pair::new().await;
    let session = pair.second.connect(login(1, Some(presence(1, 0, &["mynode"], &pair.relays())))).await;
    let _site = spawn_site(session.unwrap(), echo);
    let mut raw = Raw::forwarder(&pair.second, 9).await.unwrap();
    let hello = client_hello("mynode.tun.test");
    let with = |header: Vec<u8>, hello: &[u8]| [&header[..], hello].concat();

    let own = header(Some(&key(9)), "mynode.tun.test");
    let mut twice = own.encode();
    let tlv = twice[twice.len() - 35..].to_vec();
    assert_eq!(tlv[..3], [0xE2, 0, 32]);
    twice.extend(tlv);
    let length = (twice.len() - 16) as u16;
    twice[14..16].copy_from_slice(&length.to_be_bytes());
    let tcp = StreamHeader { kind: ServiceKind::Tcp, ..own.clone() };
    let plain = StreamHeader { payload: Payload::Http1, ..own.clone() };
    let liars = [
        twice,
        header(None, "mynode.tun.test").encode(),
        header(Some(&key(5)), "mynode.tun.test").encode(),
        tcp.encode(),
        plain.encode(),
        b"GET / HTTP/1.1\r\nHost: mynode.tun.test\r\n\r\n".to_vec(),
    ];
    let mut stream = 0;
    for (n, liar) in liars.into_iter().enumerate() {
        stream += 2;
        let (answer, reset) = ask(&mut raw, stream, &with(liar, &hello)).await;
        assert!(reset && answer.is_empty(), "case {n}: {answer:?}");
    }
    let alert = [21, 3, 3, 0, 2, 2, 112];
    for (host, sni) in [
        ("nobody.tun.test", "nobody.tun.test"),
        ("elsewhere.example", "elsewhere.example"),
        ("other.example", "other.example"),
        ("mynode.tun.test", "web.mynode.tun.test"),
    ] {
        stream += 2;
        let header = header(Some(&key(9)), host).encode();
        let (answer, _) = ask(&mut raw, stream, &with(header, &client_hello(sni))).await;
        assert_eq!(answer, alert, "{host} {sni}");
    }
    // And an honest one is served: the site's ServerHello comes back.
    stream += 2;
    assert!(raw.send(data(OPEN, stream, &with(own.encode(), &hello))).await);
    let mut answer = Vec::new();
    while answer.len() < 3 {
        answer.extend(raw.next_frame().await.unwrap().body);
    }
    assert_eq!(answer[..3], [22, 3, 3]);
}

#[tokio::test]
async fn a_forwarder_that_floods_loses_its_session_and_no_visitor() {
    let pair = Pair::new().await;
    let session = pair.second.connect(login(1, Some(presence(1, 0, &["mynode"], &pair.relays())))).await;
    let _site = spawn_site(session.unwrap(), echo);
    eventually("served", || async { pair.second.visit("mynode.tun.test").await.is_ok() }).await;
    let mut direct = pair.second.visit("mynode.tun.test").await.unwrap();
    let mut raw = Raw::forwarder(&pair.second, 9).await.unwrap();
    let opening =
        [header(Some(&key(9)), "mynode.tun.test").encode(), client_hello("mynode.tun.test")].concat();
    let flood = async {
        for stream in 1..200 {
            if !raw.send(data(OPEN, stream * 2, &opening)).await {
                return;
            }
        }
        raw.end().await;
    };
    let visits = async {
        for _ in 0..5 {
            assert_eq!(exchange(&mut direct, b"hello").await.unwrap(), b"hello");
            let mut tls = pair.second.visit("mynode.tun.test").await.unwrap();
            assert_eq!(exchange(&mut tls, b"hello").await.unwrap(), b"hello");
        }
    };
    tokio::join!(flood, visits);
    let observer = pair.second.relay.observer();
    drop(direct);
    eventually("nothing of it is left", || async {
        observer.unread_bytes() == 0 && observer.sessions()[0].streams == 0
    })
    .await;
}

/// All that a relay hands over counts as one network.
#[tokio::test]
async fn a_forwarder_that_holds_every_place_gives_one_up() {
    let pair = Pair::with(|config| config.limits.streams = 2).await;
    let session = pair.second.connect(login(1, Some(presence(1, 0, &["mynode"], &pair.relays())))).await;
    let _site = spawn_site(session.unwrap(), echo);
    let mut raw = Raw::forwarder(&pair.second, 9).await.unwrap();
    let opening =
        [header(Some(&key(9)), "mynode.tun.test").encode(), client_hello("mynode.tun.test")].concat();
    for stream in [2, 4] {
        assert!(raw.send(data(OPEN, stream, &opening)).await);
        let answered = async {
            while !matches!(raw.next_frame().await, Some(frame) if frame.stream == stream && frame.kind == DATA)
            {
            }
        };
        timeout(PATIENCE, answered).await.unwrap();
    }
    let start = Instant::now();
    let mut direct = pair.second.visit("mynode.tun.test").await.unwrap();
    assert_eq!(exchange(&mut direct, b"hello").await.unwrap(), b"hello");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let reset = async { while raw.next_frame().await.unwrap().flags & RESET == 0 {} };
    timeout(PATIENCE, reset).await.expect("one stream of the forwarder is reset");
}

/// The streams that a relay may hand visitors over in are shared like a client's.
#[tokio::test]
async fn a_network_that_fills_a_line_to_another_relay_keeps_nobody_out() {
    let mut pair = Pair::new().await;
    pair.first = World::with(|config| config.limits.per_forwarder.at_once = 2).await;
    pair.publish(|_| {});
    let ClientSession { control: _control, mut streams, events: _events, .. } = pair.moved().await;
    let (at, hello) = (pair.first.relay.local_addr(), client_hello("mynode.tun.test"));
    let mut loud = Vec::new();
    for _ in 0..2 {
        let visitor = silent(LOUD, at, &hello).await.unwrap();
        loud.push((visitor, timeout(PATIENCE, streams.next()).await.unwrap().unwrap()));
    }
    let _calm = silent(CALM, at, &hello).await.unwrap();
    let newcomer = timeout(SERVED_WITHIN, streams.next()).await.expect("in time").unwrap();
    assert_eq!(newcomer.header.visitor.ip(), std::net::IpAddr::from(CALM));
    assert!(is_reset(&mut loud[0].0).await);
}

#[tokio::test]
async fn a_silent_line_costs_a_place_only_until_the_hello_is_due() {
    let pair = Pair::new().await;
    let mut raw = Raw::forwarder(&pair.second, 9).await.unwrap();
    let start = Instant::now();
    let (answer, reset) = ask(&mut raw, 2, &header(Some(&key(9)), "mynode.tun.test").encode()).await;
    assert!(reset && answer.is_empty());
    assert!((9.0..14.0).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_forwarder_renews_its_token_or_loses_its_session() {
    let pair = Pair::new().await;
    let relay = pair.second.relay.address();
    let mut raw = Raw::forwarder_for(&pair.second, 9, 4).await.unwrap();
    let Some(ToClient::AuthChallenge(again)) = raw.next().await else { panic!("not asked again") };
    let renewed = forwarder_token(relay, 9, 5, &again);
    raw.say(&ToRelay::AuthResponse(response(renewed))).await;
    let Some(ToClient::AuthChallenge(third)) = raw.next().await else { panic!("not asked a third time") };
    let start = Instant::now();
    // Another relay's answer renews nothing.
    raw.say(&ToRelay::AuthResponse(response(forwarder_token(relay, 8, 600, &third)))).await;
    let Some(ToClient::Closing(closing)) = raw.next().await else { panic!("no reason given") };
    assert_eq!(closing.code, CloseCode::AuthorityLost);
    assert!(start.elapsed() > Duration::from_secs(1), "it had been renewed");
    raw.end().await;
}
