//! The places of one client's session, when one network of visitors wants them all.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tunnler_protocol::ServiceName;
use tunnler_protocol::control::PortGrant;
use tunnler_protocol::ports::candidates;
use tunnler_protocol::presence::ServiceKind;
use tunnler_transport::{ClientSession, Login, SessionEvent};

use crate::raw::client_hello;
use crate::world::*;

/// Two networks on the loopback interface.
pub const LOUD: [u8; 4] = [127, 0, 1, 1];
pub const CALM: [u8; 4] = [127, 0, 2, 1];

/// How long a visitor may have to wait for a place.
pub const SERVED_WITHIN: Duration = Duration::from_secs(2);

/// Says hello from `from` and nothing more.
pub async fn silent(from: [u8; 4], to: SocketAddr, hello: &[u8]) -> std::io::Result<TcpStream> {
    let mut tcp = connect_from(from, to).await?;
    tcp.write_all(hello).await?;
    Ok(tcp)
}

/// A whole visit from `from`.
async fn served(from: [u8; 4], world: &World) -> std::io::Result<()> {
    let tcp = connect_from(from, world.relay.local_addr()).await?;
    let (config, _) = tunnler_transport::tls::client_config(None);
    let connector = tokio_rustls::TlsConnector::from(config);
    let mut tls = connector.connect("mynode.tun.test".try_into().unwrap(), tcp).await?;
    assert_eq!(exchange(&mut tls, b"hello").await?, b"hello");
    tls.shutdown().await
}

/// Reads to the end; whether that was a reset.
pub async fn is_reset(tcp: &mut TcpStream) -> bool {
    let end = timeout(PATIENCE, tcp.read_to_end(&mut Vec::new())).await.expect("in time");
    end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

/// 64 places, and one network that holds them all and comes again with 128 as soon as it loses one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_takes_every_place_and_comes_again_keeps_nobody_else_out() {
    let world = World::with(|config| config.limits.streams = 64).await;
    let (_control, _site) = world.serve_mynode(echo).await;
    let observer = world.relay.observer();
    let (relay, hello) = (world.relay.local_addr(), Arc::<[u8]>::from(client_hello("mynode.tun.test")));
    let resets = Arc::new(AtomicUsize::new(0));
    let mut attackers = JoinSet::new();
    for _ in 0..128 {
        let (hello, resets) = (hello.clone(), resets.clone());
        attackers.spawn(async move {
            loop {
                let Ok(mut tcp) = silent(LOUD, relay, &hello).await else { return };
                // An alert is what those get that waited in vain.
                let mut seen = Vec::new();
                let end = tcp.read_to_end(&mut seen).await;
                if end.is_err() {
                    resets.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let full = || async { observer.sessions()[0].streams == 64 };
    let mut longest = Duration::ZERO;
    for n in 0..20 {
        eventually("every place is taken", full).await;
        let start = Instant::now();
        served(CALM, &world).await.unwrap_or_else(|error| panic!("visit {n}: {error}"));
        longest = longest.max(start.elapsed());
    }
    eprintln!("the longest of 20 visits took {longest:?}");
    assert!(longest < SERVED_WITHIN, "{longest:?}");
    // Now and then a place is just free.
    eventually("who gave way saw a reset", || async { resets.load(Ordering::Relaxed) >= 10 }).await;
    eventually("nothing lies idle", full).await;
    attackers.shutdown().await;
    eventually("nothing is left", || async { observer.sessions()[0].streams == 0 }).await;
}

#[tokio::test]
async fn the_quietest_visit_gives_way_and_both_of_its_ends_see_a_reset() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::with(|config| {
        config.limits.streams = 3;
        config.workers = here();
    })
    .await;
    let session = world.connect(login(1, Some(world.presence(1, 0)))).await.unwrap();
    let ClientSession { control: _control, mut streams, events: _events, .. } = session;
    let hello = client_hello("mynode.tun.test");
    let mut loud = Vec::new();
    for _ in 0..3 {
        let visitor = silent(LOUD, world.relay.local_addr(), &hello).await.unwrap();
        let mut stream = timeout(PATIENCE, streams.next()).await.unwrap().unwrap().io;
        stream.read_exact(&mut vec![0; hello.len()]).await.unwrap();
        loud.push((visitor, stream));
    }
    // The oldest moves a byte: the second has been quiet for longest then.
    loud[0].1.write_all(b"x").await.unwrap();
    loud[0].0.read_exact(&mut [0]).await.unwrap();

    let _calm = silent(CALM, world.relay.local_addr(), &hello).await.unwrap();
    let newcomer = timeout(SERVED_WITHIN, streams.next()).await.expect("in time").unwrap();
    assert_eq!(newcomer.header.visitor.ip(), IpAddr::from(CALM));
    assert!(is_reset(&mut loud[1].0).await, "the visitor sees no end of data");
    let end = timeout(PATIENCE, loud[1].1.read(&mut [0])).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset, "nor does the client");
    for kept in [0, 2] {
        loud[kept].1.write_all(b"y").await.unwrap();
        loud[kept].0.read_exact(&mut [0]).await.unwrap();
    }
    let metrics = metrics.render();
    assert!(metrics.contains("tunnler_displaced_visitors_total 1"), "{metrics}");
}

#[tokio::test]
async fn nobody_gives_way_to_its_own_network_or_for_a_difference_of_one() {
    let world = World::with(|config| config.limits.streams = 2).await;
    let (_control, _site) = world.serve_mynode(echo).await;
    let (relay, hello) = (world.relay.local_addr(), client_hello("mynode.tun.test"));
    let observer = world.relay.observer();
    let _loud = silent(LOUD, relay, &hello).await.unwrap();
    eventually("one is there", || async { observer.sessions()[0].streams == 1 }).await;
    let _calm = silent(CALM, relay, &hello).await.unwrap();
    eventually("two are there", || async { observer.sessions()[0].streams == 2 }).await;
    for from in [LOUD, CALM] {
        let error = served(from, &world).await.unwrap_err();
        assert!(error.to_string().contains("InternalError"), "{from:?}: {error}");
    }
}

#[tokio::test]
async fn places_of_a_tcp_service_are_shared_too() {
    let world = World::with(|config| config.limits.streams = 2).await;
    let ssh: ServiceName = "ssh".parse().unwrap();
    let mut claims = world.presence(1, 0).claims().clone();
    (claims.services[0].name, claims.services[0].kind) = (ssh.clone(), ServiceKind::Tcp);
    let login = Login { services: vec![ssh.clone()], ..login(1, Some(claims.sign(&key(1)).unwrap())) };
    let ClientSession { control, mut streams, mut events, .. } = world.connect(login).await.unwrap();
    let ports = candidates(&key(1).address(), &ssh);
    control.ask_ports(ports.map(|port| PortGrant { service: ssh.clone(), port }).into()).unwrap();
    let renewed = timeout(PATIENCE, events.next()).await.unwrap();
    let Some(SessionEvent::Renewed(granted)) = renewed else { panic!("{renewed:?}") };
    let port = SocketAddr::new(world.relay.local_addr().ip(), granted.ports[0].port);
    let mut loud = Vec::new();
    for _ in 0..2 {
        let visitor = connect_from(LOUD, port).await.unwrap();
        loud.push((visitor, timeout(PATIENCE, streams.next()).await.unwrap().unwrap()));
    }
    let _calm = connect_from(CALM, port).await.unwrap();
    let newcomer = timeout(SERVED_WITHIN, streams.next()).await.expect("in time").unwrap();
    assert_eq!(newcomer.header.visitor.ip(), IpAddr::from(CALM));
    assert!(is_reset(&mut loud[0].0).await);
}
