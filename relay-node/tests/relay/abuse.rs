//! Clients that log in and then break every rule of WebSocket, yamux and the control channel, by hand; visitors that
//! torture the ClientHello. Meanwhile an honest visitor is served, again and again, not much later than beside an equal
//! load that attacks nobody.

use std::time::Duration;

use futures::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tunnler_protocol::control::{CloseCode, ToClient};
use tunnler_protocol::instance::SessionId;
use tunnler_transport::Login;

use crate::comparison::{Sink, Tally, Visits, compare};
use crate::raw::*;
use crate::world::*;

/// `mynode` is served honestly; `evil` is the attacker's own.
struct Scene {
    world: World,
    _honest: (tunnler_transport::SessionControl, SiteTask),
    sink: Sink,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new().await;
        let names = vec![named("mynode", &key(1)), named("evil", &key(2))];
        world.directory.send_replace(Some(directory(names).into()));
        let honest = world.serve_mynode(echo).await;
        Self { world, _honest: honest, sink: Sink::start().await }
    }

    async fn attacker(&self) -> Raw {
        Raw::client(&self.world, 2, &presence(2, 0, &["evil"], &[self.world.relay.address()])).await
    }

    /// Repeats an attack for a while; somebody visits all the while, and once more afterwards. Then the same beside an
    /// equal load.
    async fn served_during(&self, name: &str, attack: impl AsyncFn()) {
        self.world.attackers.take();
        let start = Instant::now();
        let attacked = Visits::while_repeating(&self.world, attack).await;
        let (effort, took) = (self.world.attackers.take(), start.elapsed());
        Visits::some(&self.world, 1).await;
        let idle = Visits::during(&self.world, self.sink.load(effort, took), || {}).await;
        compare(name, &attacked, &idle);
    }

    /// Only the honest session is left, and nothing of the attacker's in memory.
    async fn is_clean(&self) {
        let observer = self.world.relay.observer();
        eventually("nothing is left", || async {
            observer.session_count() == 1 && observer.unread_bytes() == 0
        })
        .await;
    }
}

/// A visitor of `evil`, and the stream that the attacker got for it.
async fn stream_of(scene: &Scene, raw: &mut Raw) -> (TcpStream, u32) {
    let mut visitor = TcpStream::connect(scene.world.relay.local_addr()).await.unwrap();
    scene.world.attackers.connected();
    visitor.write_all(&client_hello("evil.tun.test")).await.unwrap();
    let stream = loop {
        let frame = raw.next_frame().await.expect("a stream for the visitor");
        if frame.flags & OPEN != 0 {
            break frame.stream;
        }
    };
    assert!(raw.send(frame(WINDOW, ACK, stream, 0)).await);
    (visitor, stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_no_client_sends_end_its_session_with_a_reason() {
    let scene = Scene::new().await;
    let bad = [
        ("opening an odd stream", data(OPEN, 1, b"hello")),
        ("opening one of the relay's", data(OPEN, 2, b"hello")),
        ("opening by a window update", frame(WINDOW, OPEN, 7, 0)),
        ("an oversize opening", frame(DATA, OPEN, 1, u32::MAX)),
        ("an oversize body", frame(DATA, 0, 2, 256 * 1024 + 1)),
        ("an unknown version", vec![1; 12]),
        ("an unknown kind", frame(9, 0, 0, 0)),
        ("noise", vec![0xff; 4096]),
    ];
    scene
        .served_during("malformed frames", async || {
            for (name, bytes) in &bad {
                let mut raw = scene.attacker().await;
                assert!(raw.send(bytes.clone()).await);
                let Some(ToClient::Closing(closing)) = raw.next().await else { panic!("{name}: no reason") };
                assert_eq!(closing.code, CloseCode::Violation, "{name}");
                assert!(raw.next().await.is_none(), "{name}");
            }
        })
        .await;
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_overruns_its_window_holds_no_memory() {
    let scene = Scene::new().await;
    let observer = scene.world.relay.observer();
    scene
        .served_during("window overrun", async || {
            let mut raw = scene.attacker().await;
            let (mut visitor, stream) = stream_of(&scene, &mut raw).await;
            // Nobody reads it at the other end; 20 times the window.
            let chunk = data(0, stream, &[7; 32 * 1024]);
            for _ in 0..160 {
                assert!(observer.unread_bytes() <= 20 << 20);
                if !raw.send(chunk.clone()).await {
                    break;
                }
            }
            raw.end().await;
            // The visitor sees an abnormal end, not an end of data.
            let end = timeout(PATIENCE, visitor.read_to_end(&mut Vec::new())).await.unwrap();
            assert!(end.is_err());
        })
        .await;
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impossible_credit_and_floods_of_small_frames_are_survived() {
    let scene = Scene::new().await;
    /// One frame, at an attacker that has this stream.
    type Flood = fn(u32) -> Vec<u8>;
    let floods: [(&str, Flood); 7] = [
        ("pings", |_| frame(PING, OPEN, 0, 7)),
        ("answers to no ping", |_| frame(PING, ACK, 0, 7)),
        ("credit for nobody", |_| frame(WINDOW, 0, 4242, u32::MAX)),
        ("data for nobody", |_| data(0, 4242, b"x")),
        ("empty data", |stream| data(0, stream, b"")),
        ("endless credit", |stream| frame(WINDOW, 0, stream, u32::MAX)),
        ("one byte at a time", |stream| data(0, stream, b"x")),
    ];
    for (name, one) in floods {
        scene
            .served_during(name, async || {
                let mut raw = scene.attacker().await;
                let (_visitor, stream) = stream_of(&scene, &mut raw).await;
                let many = one(stream).repeat(500);
                for _ in 0..40 {
                    if !raw.send(many.clone()).await {
                        break;
                    }
                }
            })
            .await;
        assert!(scene.world.relay.observer().unread_bytes() <= 20 << 20, "{name}");
    }
    scene.is_clean().await;
}

/// Sends so many bytes, as far as they are taken.
async fn flood(visitor: &mut TcpStream, bytes: usize, attackers: &Tally) -> std::io::Result<()> {
    let chunk = [9; 16 * 1024];
    for _ in 0..bytes / chunk.len() {
        visitor.write_all(&chunk).await?;
        attackers.sent(chunk.len());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_taken_and_never_read_hurt_nobody_else() {
    let scene = Scene::new().await;
    scene
        .served_during("streams never read", async || {
            let mut raw = scene.attacker().await;
            let mut visitors = Vec::new();
            for _ in 0..32 {
                visitors.push(stream_of(&scene, &mut raw).await.0);
            }
            // What visitors send piles up nowhere: they are stopped when the window is full.
            for visitor in &mut visitors {
                let _ =
                    timeout(Duration::from_millis(20), flood(visitor, 4 << 20, &scene.world.attackers)).await;
            }
        })
        .await;
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websocket_floods_and_fragments_are_survived() {
    let scene = Scene::new().await;
    /// One WebSocket frame (RFC 6455, section 5.2) with a mask of zeros.
    fn ws(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            short @ 0..126 => bytes.push(0x80 | short as u8),
            long => {
                bytes.push(0x80 | 126);
                bytes.extend((long as u16).to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }
    const FIN: u8 = 0x80;
    let fragments = [vec![ws(2, b"")], vec![ws(0, b""); 20_000]].concat().concat();
    let growing = [vec![ws(2, &[0; 60_000])], vec![ws(0, &[0; 60_000]); 20]].concat().concat();
    let cases: [(&str, Vec<u8>, bool); 9] = [
        ("pings", ws(FIN | 9, &[1; 125]).repeat(5000), false),
        ("pongs", ws(FIN | 10, &[1; 125]).repeat(5000), false),
        ("empty messages", ws(FIN | 2, b"").repeat(20_000), false),
        ("empty fragments", fragments, false),
        ("a message that grows for ever", growing, true),
        ("a frame of 2^63 bytes", [&[0x82, 0xff, 0x7f][..], &[0xff; 7], &[0; 4]].concat(), true),
        ("reserved bits", ws(0xf0 | 2, b"x"), true),
        ("a continuation of nothing", ws(FIN, b"x"), true),
        ("no mask", vec![0x82, 1, 0], true),
    ];
    for (name, bytes, ends) in cases {
        scene
            .served_during(name, async || {
                let mut raw = scene.attacker().await;
                scene.world.attackers.sent(bytes.len());
                let socket = raw.websocket.get_mut();
                let sent = async {
                    socket.write_all(&bytes).await?;
                    socket.flush().await
                };
                let _ = timeout(PATIENCE, sent).await.expect("taken in time");
                if ends {
                    raw.end().await;
                }
            })
            .await;
    }
    for (name, text) in [
        ("text that is no message", "hello".to_owned()),
        ("two members", r#"{"type":"leaving","type":"leaving"}"#.into()),
        ("a long message", format!(r#"{{"type":"x","pad":"{}"}}"#, "x".repeat(17 * 1024))),
    ] {
        let mut raw = scene.attacker().await;
        raw.websocket.send(Message::text(text)).await.unwrap();
        let Some(ToClient::Closing(closing)) = raw.next().await else { panic!("{name}: no reason") };
        assert_eq!(closing.code, CloseCode::Violation, "{name}");
    }
    scene.is_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_talker_is_cut_off() {
    let scene = Scene::new().await;
    let leaving = r#"{"type":"leaving"}"#;
    scene
        .served_during("control messages", async || {
            let mut raw = scene.attacker().await;
            for _ in 0..2000 {
                scene.world.attackers.sent(leaving.len());
                if raw.websocket.send(Message::text(leaving)).await.is_err() {
                    break;
                }
            }
            let Some(ToClient::Closing(closing)) = raw.next().await else { panic!("no reason") };
            assert!(matches!(closing.code, CloseCode::Overloaded | CloseCode::Violation), "{closing:?}");
        })
        .await;
    scene.is_clean().await;
}

/// The same hello in TLS records of at most `size` bytes each.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let record = |body: &[u8]| [&[22, 3, 1][..], &(body.len() as u16).to_be_bytes(), body].concat();
    hello[5..].chunks(size).map(record).collect::<Vec<_>>().concat()
}

async fn answer_to(scene: &Scene, bytes: &[u8], segment: usize) -> std::io::Result<Vec<u8>> {
    let mut tcp = TcpStream::connect(scene.world.relay.local_addr()).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    scene.world.attackers.connected();
    scene.world.attackers.sent(bytes.len());
    for part in bytes.chunks(segment) {
        tcp.write_all(part).await?;
    }
    let mut answer = vec![0; 3];
    let n = timeout(PATIENCE * 2, tcp.read(&mut answer)).await.expect("in time")?;
    answer.truncate(n);
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_is_read_however_it_is_cut_and_refused_if_it_is_none() {
    let scene = Scene::new().await;
    let hello = client_hello("mynode.tun.test");
    let handshake = [22, 3, 3];
    for (bytes, segment) in [(hello.clone(), 1), (in_records(&hello, 1), 4096), (in_records(&hello, 100), 7)]
    {
        assert_eq!(answer_to(&scene, &bytes, segment).await.unwrap()[..], handshake);
    }
    // A handshake message that claims 16 MiB and goes on past what anybody sends.
    let mut huge = vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    huge.resize(5 + 0x4000, 0);
    let huge = huge.repeat(8);
    let refused = [
        ("a hello of 16 MiB", huge),
        ("an alert first", vec![21, 3, 3, 0, 2, 2, 40]),
        ("application data first", [&[23, 3, 3, 0, 100][..], &[0; 100]].concat()),
        ("SSLv2", vec![0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: mynode.tun.test\r\n\r\n".to_vec()),
        ("an empty record", [&[22, 3, 1, 0, 0][..], &[22, 3, 1, 0, 0]].concat()),
    ];
    let refuse = async |(name, bytes): &(&str, Vec<u8>)| {
        let start = Instant::now();
        match answer_to(&scene, bytes, 4096).await {
            Ok(answer) => assert!(answer.is_empty() || answer[0] == 21, "{name}: {answer:?}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{name}"),
        }
        assert!(start.elapsed() < Duration::from_secs(14), "{name}");
    };
    scene
        .served_during("broken hellos", async || {
            futures::future::join_all(refused.iter().map(refuse)).await;
        })
        .await;
    scene.is_clean().await;
}

/// Twenty processes fight for one instance: one of them has it in the end, whole, and visitors are served by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_race_for_one_instance_has_one_winner() {
    let world = World::new().await;
    let mut racers = Vec::new();
    for n in 0..20_u8 {
        let login = Login { session: SessionId([n; 16]), ..login(1, Some(world.presence(1, u64::from(n)))) };
        racers.push(async { world.connect(login).await.map(|session| spawn_site(session, echo)) });
    }
    let racers: Vec<_> = futures::future::join_all(racers).await.into_iter().flatten().collect();
    let observer = world.relay.observer();
    eventually("one is left", || async {
        let sessions = observer.sessions();
        sessions.len() == 1 && sessions[0].connections == 1
    })
    .await;
    let mut tls = world.visit("mynode.tun.test").await.unwrap();
    assert_eq!(exchange(&mut tls, b"hello").await.unwrap(), b"hello");
    drop(racers);
}
