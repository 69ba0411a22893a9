//! The feed as its readers see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message as Frame, http};
use tunnler_protocol::challenge::{Exporter, Statement};
use tunnler_protocol::directory::ZoneServer;
use tunnler_protocol::feed::{Message, PATH, Request, SUBPROTOCOL};
use tunnler_protocol::instance::InstanceId;

use crate::world::*;

struct Reader {
    websocket: WebSocketStream<TlsStream<TcpStream>>,
    exporter: Exporter,
}

impl Reader {
    async fn connect(world: &World) -> Self {
        let tls = world.visit("relay.example").await.unwrap();
        let exporter = tunnler_transport::tls::exporter(tls.get_ref().1).unwrap();
        let mut request = format!("wss://relay.example{PATH}").into_client_request().unwrap();
        let protocol = http::HeaderValue::from_static(SUBPROTOCOL);
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        let (websocket, _) = tokio_tungstenite::client_async(request, tls).await.unwrap();
        let mut reader = Self { websocket, exporter };
        let Some(Message::Hello { relay, boot, signature }) = reader.next().await else { panic!("no hello") };
        assert_eq!(relay, world.relay.address());
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap().try_into().unwrap();
        Statement::Feed { relay, boot }.verify(&reader.exporter, &signature).unwrap();
        reader
    }

    /// The next message that is no heartbeat; `None` at the end.
    async fn next(&mut self) -> Option<Message> {
        loop {
            match timeout(PATIENCE, self.websocket.next()).await.expect("in time")? {
                Ok(Frame::Text(text)) => match Message::parse(text.as_str()).unwrap() {
                    Message::Heartbeat => {}
                    message => return Some(message),
                },
                Ok(Frame::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn subscribe(&mut self, seed: u8, world: &World) {
        let (server, relay) = (key(seed).address(), world.relay.address());
        let signature = Statement::Subscribe { server, relay }.sign(&key(seed), &self.exporter);
        let request = Request::Subscribe { server, signature: URL_SAFE_NO_PAD.encode(signature) };
        self.websocket.send(Frame::text(request.to_text())).await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_gets_a_proven_hello_the_snapshot_and_every_change() {
    let world = World::new().await;
    let first = world.presence(1, 0);
    let session = world.connect(login(1, Some(first.clone()))).await.unwrap();
    let (client, ins) = (key(1).address(), InstanceId([1; 16]));
    let mut reader = Reader::connect(&world).await;
    let presence =
        |p: &tunnler_protocol::presence::Presence| Message::Presence { presence: p.text().to_string() };
    assert_eq!(reader.next().await, Some(presence(&first)));
    assert_eq!(reader.next().await, Some(Message::Attached { client, ins }));
    assert_eq!(reader.next().await, Some(Message::Synced));
    let second = world.presence(1, 7);
    session.control.send_presence(&second).unwrap();
    assert_eq!(reader.next().await, Some(presence(&second)));
    session.control.leave().unwrap();
    assert_eq!(reader.next().await, Some(Message::Draining { client, ins }));
    let lost = Instant::now();
    drop(session);
    assert_eq!(reader.next().await, Some(Message::Detached { client, ins }));
    assert!(lost.elapsed() < Duration::from_secs(1), "a reset is told at once");
}

#[tokio::test]
async fn it_says_something_every_second() {
    let world = World::new().await;
    let mut reader = Reader::connect(&world).await;
    assert_eq!(reader.next().await, Some(Message::Synced));
    for _ in 0..3 {
        let frame = timeout(Duration::from_secs(2), reader.websocket.next()).await.expect("in time").unwrap();
        assert_eq!(Message::parse(frame.unwrap().to_text().unwrap()).unwrap(), Message::Heartbeat);
    }
}

/// A relay with so many public slots, in a zone whose one server has key 5.
async fn world_with_server(feed_readers: usize) -> World {
    let world = World::with(|config| config.limits.feed_readers = feed_readers).await;
    let mut with_server = directory(vec![]);
    with_server.zone.servers = vec![ZoneServer {
        host: "ns1.example".parse().unwrap(),
        ipv4: None,
        ipv6: None,
        key: key(5).address(),
    }];
    world.directory.send_replace(Some(with_server.into()));
    world
}

/// `TUNNLER_READERS` says how many; in the long run ten thousand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_readers_leaves_the_zones_server_its_place() {
    let crowd = std::env::var("TUNNLER_READERS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let world = Arc::new(world_with_server(8).await);
    let served = Arc::new(AtomicUsize::new(0));
    let mut readers = tokio::task::JoinSet::new();
    // At most so many at once wait for a slot.
    let turns = Arc::new(Semaphore::new(250));
    for _ in 0..crowd {
        let (world, served, turns) = (world.clone(), served.clone(), turns.clone());
        readers.spawn(async move {
            let turn = turns.acquire_owned().await.unwrap();
            let mut reader = Reader::connect(&world).await;
            let first = reader.next().await;
            drop(turn);
            if first == Some(Message::Synced) {
                served.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<()>().await;
            }
            assert_eq!(first, None);
        });
    }
    let crowded = || served.load(Ordering::Relaxed) == 8;
    let started = Instant::now();
    while !crowded() {
        assert!(started.elapsed() < PATIENCE, "{} readers have a slot", served.load(Ordering::Relaxed));
        sleep(Duration::from_millis(10)).await;
    }
    let asked = Instant::now();
    let mut server = Reader::connect(&world).await;
    server.subscribe(5, &world).await;
    assert_eq!(server.next().await, Some(Message::Synced));
    println!(
        "{{\"part\":\"feed-readers\",\"readers\":{crowd},\"server_ms\":{}}}",
        asked.elapsed().as_millis()
    );
    for _ in 0..crowd - 8 {
        readers.join_next().await.unwrap().unwrap();
    }
    assert!(crowded(), "nobody beyond the public slots is served");
    // And it is still read to.
    assert!(matches!(server.websocket.next().await, Some(Ok(Frame::Text(_)))));
}

#[tokio::test]
async fn servers_of_the_zone_have_reserved_slots() {
    let world = world_with_server(1).await;
    let mut public = Reader::connect(&world).await;
    assert_eq!(public.next().await, Some(Message::Synced));
    let mut forged = Reader::connect(&world).await;
    forged.subscribe(6, &world).await;
    let mut server = Reader::connect(&world).await;
    server.subscribe(5, &world).await;
    assert_eq!(server.next().await, Some(Message::Synced));
    let mut again = Reader::connect(&world).await;
    again.subscribe(5, &world).await;
    assert_eq!(again.next().await, Some(Message::Synced), "the newest connection of a server has its slot");
    assert_eq!(server.next().await, None);
    assert_eq!(forged.next().await, None, "nobody else gets a slot");
}
