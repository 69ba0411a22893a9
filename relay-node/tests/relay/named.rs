//! Visitors of a client that is at no relay its last known presence lists: the relay asks the zone's servers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tunnler_protocol::directory::{Directory, Relay as Record, ZoneServer as OnChain};
use tunnler_relay::{RelayConfig, listen};
use tunnler_transport::ClientSession;

use crate::forward::record;
use crate::world::*;
use crate::zone::ZoneServer;

/// A relay that the chain still knows, and that nobody is at any more.
const DEAD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);
/// Where the second relay is.
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// Nobody's.
const NOBODY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// The first relay served the client under a presence that lists it and the dead one. The client is at the second now,
/// which the first was never told.
struct Gone {
    first: World,
    second: World,
    zone: ZoneServer,
    client: Option<ClientSession>,
}

impl Gone {
    async fn new() -> Self {
        let zone = ZoneServer::start().await;
        let port = zone.address.port();
        Self { zone, ..Self::asking(port).await }
    }

    /// The zone's servers are at this port.
    async fn asking(dns_port: u16) -> Self {
        let ask_here = |config: &mut RelayConfig| config.dns_port = dns_port;
        let first = World::with(ask_here).await;
        let listener = listen(SocketAddr::new(SECOND.into(), 0)).await.unwrap();
        let second = World::with(|config| {
            config.key = key(8);
            config.own_host = "other.example".parse().unwrap();
            config.listener = listener;
            ask_here(config);
        })
        .await;
        let mut gone = Self { first, second, zone: ZoneServer::start().await, client: None };
        gone.publish();
        let dead = key(7).address();
        let old = presence(1, 0, &["mynode"], &[gone.first.relay.address(), dead]);
        let session = gone.first.connect(login(1, Some(old))).await.unwrap();
        let (control, site) = (session.control.clone(), spawn_site(session, echo));
        let mut tls = gone.first.visit("mynode.tun.test").await.unwrap();
        exchange(&mut tls, b"hello").await.unwrap();
        drop((tls, control, site));
        let observer = gone.first.relay.observer();
        eventually("it has left", || async { observer.session_count() == 0 }).await;
        let new = presence(1, 5, &["mynode"], &[gone.second.relay.address()]);
        gone.client = Some(gone.second.connect(login(1, Some(new))).await.unwrap());
        gone
    }

    fn publish(&self) {
        let mut directory: Directory = directory(vec![named("mynode", &key(1)), named("other", &key(2))]);
        for world in [&self.first, &self.second] {
            directory.relays.insert(world.relay.address(), record(world));
        }
        let dead =
            Record { address: key(7).address(), ipv4: Some(DEAD), ..Record::clone(&record(&self.first)) };
        directory.relays.insert(dead.address, Arc::new(dead));
        directory.zone.servers = vec![OnChain {
            host: "ns1.tun.test".parse().unwrap(),
            ipv4: Some(Ipv4Addr::LOCALHOST),
            ipv6: None,
            key: key(6).address(),
        }];
        let directory = Some(Arc::new(directory));
        self.first.directory.send_replace(directory.clone());
        self.second.directory.send_replace(directory);
    }

    fn serve(&mut self) -> SiteTask {
        spawn_site(self.client.take().unwrap(), echo)
    }
}

#[tokio::test]
async fn a_visitor_is_handed_to_the_relay_that_dns_names() {
    let mut gone = Gone::new().await;
    let _site = gone.serve();
    gone.zone.say(&[NOBODY, DEAD, SECOND]);
    let visits = (0..10).map(|_| async {
        let mut tls = gone.first.visit("mynode.tun.test").await.unwrap();
        assert_eq!(exchange(&mut tls, b"hello").await.unwrap(), b"hello");
    });
    futures::future::join_all(visits).await;
    assert_eq!(gone.zone.asked(), 1, "once for all of them");
}

/// The relay that the presence lists is well, but has the client no more: its refusal is not the last word.
#[tokio::test]
async fn a_listed_relay_that_refuses_is_no_reason_not_to_ask() {
    let mut gone = Gone::new().await;
    let site = gone.serve();
    let listener = listen(SocketAddr::new(DEAD.into(), gone.first.relay.local_addr().port())).await.unwrap();
    let left = World::with(|config| {
        config.key = key(7);
        config.listener = listener;
    })
    .await;
    left.directory.send_replace(gone.first.directory.borrow().clone());
    gone.zone.say(&[SECOND]);
    let mut tls = gone.first.visit("mynode.tun.test").await.unwrap();
    assert_eq!(exchange(&mut tls, b"hello").await.unwrap(), b"hello");
    assert_eq!(gone.zone.asked(), 1);
    // And when nobody has the client, the visitor is told so.
    drop((tls, site));
    let observer = gone.second.relay.observer();
    eventually("it has left", || async { observer.session_count() == 0 }).await;
    let error = gone.first.visit("mynode.tun.test").await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("unrecogni"), "{error}");
}

#[tokio::test]
async fn only_registered_relays_are_handed_visitors() {
    // Whoever is behind these addresses: they are no relays, or the one that asks.
    for said in [&[NOBODY][..], &[Ipv4Addr::LOCALHOST], &[]] {
        let gone = Gone::new().await;
        gone.zone.say(said);
        let start = Instant::now();
        let error = gone.first.visit("mynode.tun.test").await.unwrap_err();
        assert!(error.to_string().to_lowercase().contains("unrecogni"), "{said:?}: {error}");
        assert!(start.elapsed() < Duration::from_secs(1), "{said:?}: {:?}", start.elapsed());
        assert_eq!(gone.zone.asked(), 1);
    }
}

#[tokio::test]
async fn nothing_is_asked_about_clients_that_were_never_served_here() {
    let gone = Gone::new().await;
    gone.zone.say(&[SECOND]);
    for host in ["other.tun.test", "nobody.tun.test", "elsewhere.example"] {
        assert!(gone.first.visit(host).await.is_err(), "{host}");
    }
    assert_eq!(gone.zone.asked(), 0);
}

#[tokio::test]
async fn a_zone_that_says_nothing_is_waited_for_once() {
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = Gone::asking(mute.local_addr().unwrap().port()).await;
    for waits in [1.5..4.0, 0.0..1.0] {
        let start = Instant::now();
        assert!(gone.first.visit("mynode.tun.test").await.is_err());
        assert!(waits.contains(&start.elapsed().as_secs_f64()), "{waits:?}: {:?}", start.elapsed());
    }
}
