//! The six stream rules of DESIGN §6, over in-memory pipes with real WebSockets and real yamux on both sides, or with
//! an attacker's bytes on one.

use std::io::ErrorKind;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tunnler_protocol::control::{ToClient, ToRelay};

use super::*;
use crate::frames::Violation;
use crate::frames::testing::{FINISH, OPEN, data, header};
use crate::unread::{MemoryBudget, UnreadLimits};

/// Virtual time: nothing in these tests really waits this long.
const PATIENCE: Duration = Duration::from_secs(100);

fn config(streams: u32) -> LinkConfig {
    LinkConfig { streams, unread: UnreadLimits::default(), budget: MemoryBudget::new(1 << 30) }
}

/// One side of a connection with its driver running.
struct Side<C> {
    ends: Ends<C>,
    driver: JoinHandle<End>,
}

impl<C> Drop for Side<C> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn side<C: Control>(io: DuplexStream, role: Role, opener: Opener, config: &LinkConfig) -> Side<C> {
    let (ends, driver) = start(WebSocket::new(BufStream::new(io), role, Vec::new()), opener, config);
    Side { ends, driver: tokio::spawn(driver) }
}

const THEM: Opener = Opener::Them { at_most: 0 };

async fn pair(streams: u32) -> (Side<ToRelay>, Side<ToClient>) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let relay = side(ours, Role::Server, Opener::Us, &config(streams)).await;
    (relay, side(theirs, Role::Client, THEM, &config(streams)).await)
}

/// A relay whose client is an attacker with a plain WebSocket.
async fn attacked(config: &LinkConfig) -> (Side<ToRelay>, WebSocketStream<DuplexStream>) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let relay = side(ours, Role::Server, Opener::Us, config).await;
    (relay, WebSocketStream::from_raw_socket(theirs, Role::Client, None).await)
}

impl Side<ToRelay> {
    /// As `RelaySession::open` does.
    async fn open(&self) -> Option<SessionStream> {
        let permit = timeout(Duration::from_secs(2), self.ends.link.permits.acquire()).await.ok()?.ok()?;
        let (reply, stream) = oneshot::channel();
        self.ends.opens.send(reply).await.ok()?;
        permit.forget();
        let mut stream = stream.await.ok()?;
        stream.write_all(b"hello").await.ok()?;
        Some(stream)
    }
}

impl Side<ToClient> {
    async fn accept(&mut self) -> SessionStream {
        let mut stream = timeout(PATIENCE, self.ends.accepted.as_mut().unwrap().recv())
            .await
            .expect("in time")
            .expect("alive");
        stream.read_exact(&mut [0; 5]).await.unwrap();
        stream
    }
}

async fn ended<C>(side: &mut Side<C>) -> End {
    timeout(PATIENCE, &mut side.driver).await.expect("in time").unwrap()
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}

#[tokio::test(start_paused = true)]
async fn bytes_and_half_close_pass_both_ways() {
    let (relay, mut client) = pair(4).await;
    let mut visitor = relay.open().await.unwrap();
    let mut upstream = client.accept().await;
    let sent: Vec<u8> = (0..2_000_000_u32).map(|n| n as u8).collect();
    let (up, down) = (sent.clone(), sent.clone());
    let upstream = tokio::spawn(async move {
        let mut got = Vec::new();
        upstream.read_to_end(&mut got).await.unwrap();
        upstream.write_all(&down).await.unwrap();
        upstream.shutdown().await.unwrap();
        got
    });
    visitor.write_all(&up).await.unwrap();
    visitor.shutdown().await.unwrap();
    let mut got = Vec::new();
    timeout(PATIENCE, visitor.read_to_end(&mut got)).await.unwrap().unwrap();
    assert!(got == sent && upstream.await.unwrap() == sent);
    drop(visitor);
    eventually("nothing is open", || relay.ends.link.open_streams() + client.ends.link.open_streams() == 0)
        .await;
}

/// Rule 1: the opener never exceeds its limit, whoever is above it waits and is refused, and nothing else suffers.
#[tokio::test(start_paused = true)]
async fn rule_1_the_opener_counts() {
    let (relay, mut client) = pair(3).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push((relay.open().await.unwrap(), client.accept().await));
    }
    assert!(relay.open().await.is_none(), "above the limit");
    let (mut visitor, mut upstream) = streams.pop().unwrap();
    visitor.write_all(b"alive").await.unwrap();
    upstream.read_exact(&mut [0; 5]).await.unwrap();
    drop((visitor, upstream));
    // Many more than the limit, one after the other: every place comes back.
    for _ in 0..50 {
        let visitor = relay.open().await.expect("a place is free again");
        drop((visitor, client.accept().await));
    }
}

/// Of streams opened together, any may be the first to say something.
#[tokio::test(start_paused = true)]
async fn streams_open_in_any_order() {
    let (relay, mut client) = pair(8).await;
    let mut streams = Vec::new();
    for _ in 0..6 {
        let (reply, stream) = oneshot::channel();
        relay.ends.link.permits.acquire().await.unwrap().forget();
        relay.ends.opens.send(reply).await.unwrap();
        streams.push(stream.await.unwrap());
    }
    for (i, stream) in streams.iter_mut().enumerate().rev() {
        stream.write_all(format!("str {i}").as_bytes()).await.unwrap();
    }
    for _ in 0..6 {
        client.accept().await;
    }
    assert!(!relay.driver.is_finished() && !client.driver.is_finished());
}

/// Rule 2: streams that the client has not answered yet block no new one.
#[tokio::test(start_paused = true)]
async fn rule_2_silent_streams_block_nobody() {
    let (relay, mut client) = pair(400).await;
    let mut open = Vec::new();
    for n in 0..300 {
        let visitor = timeout(PATIENCE, relay.open()).await.ok().flatten();
        open.push((visitor.unwrap_or_else(|| panic!("stream {n} is blocked")), client.accept().await));
    }
}

/// Rule 3: a stream dropped after its own FIN is read out and then reset: the other side's writer never hangs.
#[tokio::test(start_paused = true)]
async fn rule_3_who_half_closes_and_vanishes_leaves_nothing_behind() {
    let (relay, mut client) = pair(8).await;
    for _ in 0..1000 {
        let mut visitor = relay.open().await.expect("no place is lost");
        let mut upstream = client.accept().await;
        visitor.shutdown().await.unwrap();
        drop(visitor);
        let writer = async { while upstream.write_all(&[0; 64 * 1024]).await.is_ok() {} };
        timeout(PATIENCE, writer).await.expect("the writer is told");
    }
    eventually("nothing is open", || relay.ends.link.open_streams() + client.ends.link.open_streams() == 0)
        .await;
}

#[tokio::test(start_paused = true)]
async fn rule_3_a_short_rest_is_read_out_without_a_reset() {
    let (relay, mut client) = pair(8).await;
    let mut visitor = relay.open().await.unwrap();
    let mut upstream = client.accept().await;
    visitor.shutdown().await.unwrap();
    drop(visitor);
    sleep(Duration::from_secs(1)).await;
    upstream.write_all(&[0; 100_000]).await.unwrap();
    upstream.shutdown().await.unwrap();
    assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0);
}

/// Rule 4: whatever the state, a reset reads as an error and never as an end.
#[tokio::test(start_paused = true)]
async fn rule_4_a_reset_is_an_error_in_every_state() {
    let (relay, mut client) = pair(8).await;
    for (reader_ended, writer_sent) in [(false, 0), (false, 9), (true, 0), (true, 9)] {
        let mut visitor = relay.open().await.unwrap();
        let mut upstream = client.accept().await;
        if reader_ended {
            // After our own FIN yamux itself cannot tell FIN from RST.
            visitor.shutdown().await.unwrap();
            assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0);
        }
        upstream.write_all(&vec![7; writer_sent]).await.unwrap();
        if writer_sent > 0 {
            visitor.read_exact(&mut vec![0; writer_sent]).await.unwrap();
        }
        upstream.reset();
        let error = timeout(PATIENCE, visitor.read_to_end(&mut Vec::new())).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{reader_ended} {writer_sent}");
        assert!(visitor.write_all(b"x").await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn rule_4_a_reset_after_fin_and_to_a_blocked_writer_is_seen_too() {
    let (relay, mut client) = pair(8).await;
    let mut visitor = relay.open().await.unwrap();
    let mut upstream = client.accept().await;
    upstream.shutdown().await.unwrap();
    let writer = tokio::spawn(async move {
        loop {
            if let Err(error) = visitor.write_all(&[0; 64 * 1024]).await {
                return error.kind();
            }
        }
    });
    sleep(Duration::from_secs(1)).await;
    upstream.reset();
    assert_eq!(timeout(PATIENCE, writer).await.unwrap().unwrap(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn rule_4_a_lost_session_is_an_error_too() {
    let (relay, mut client) = pair(8).await;
    let mut visitor = relay.open().await.unwrap();
    let mut upstream = client.accept().await;
    upstream.write_all(b"half an").await.unwrap();
    visitor.read_exact(&mut [0; 7]).await.unwrap();
    client.driver.abort();
    let error = timeout(PATIENCE, visitor.read_to_end(&mut Vec::new())).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    assert_eq!(upstream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

/// Rule 5: what nobody reads is given up before it fills memory; who reads is not disturbed.
#[tokio::test(start_paused = true)]
async fn rule_5_a_hoarding_stream_is_given_up_and_the_others_go_on() {
    /// yamux's first window: what a stream that nobody reads can hold.
    const WINDOW: usize = 256 * 1024;
    const HOARDERS: usize = 6;
    // The visitor alone stays below the limit, however far it lags behind.
    let limits = UnreadLimits { bytes: HOARDERS * WINDOW + 20_000, frames: 8192 };
    let small = LinkConfig { unread: limits, ..config(8) };
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let relay: Side<ToRelay> = side(ours, Role::Server, Opener::Us, &small).await;
    let mut client: Side<ToClient> = side(theirs, Role::Client, THEM, &config(8)).await;
    let mut never_read = Vec::new();
    let mut floods = Vec::new();
    for _ in 0..HOARDERS {
        never_read.push(relay.open().await.unwrap());
        let mut flood = client.accept().await;
        floods.push(tokio::spawn(async move { while flood.write_all(&[0; 4096]).await.is_ok() {} }));
    }
    sleep(Duration::from_secs(1)).await;
    let mut visitor = relay.open().await.unwrap();
    let mut upstream = client.accept().await;
    let busy = tokio::spawn(async move {
        for _ in 0..100 {
            upstream.write_all(&[1; 10_000]).await.unwrap();
        }
        upstream.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    timeout(PATIENCE, visitor.read_to_end(&mut got)).await.unwrap().unwrap();
    assert_eq!(got.len(), 1_000_000);
    busy.await.unwrap();
    let mut given_up = 0;
    for stream in &mut never_read {
        match timeout(PATIENCE, stream.read(&mut [0; 16])).await.unwrap() {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => given_up += 1,
            read => assert_eq!(read.unwrap(), 16),
        }
    }
    assert!(given_up > 0, "nobody was given up");
    drop(never_read);
    for flood in floods {
        timeout(PATIENCE, flood).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn rule_5_violations_end_the_session() {
    let one_frame = |bytes: Vec<u8>| vec![Message::Binary(bytes.into())];
    let overrun: Vec<_> = (0..20).map(|_| Message::Binary(data(2, 0, &[0; 32 * 1024]).into())).collect();
    let cases: Vec<(Vec<Message>, Violation)> = vec![
        (one_frame(header(0, OPEN, 1, 0).to_vec()), Violation::UnexpectedOpen),
        (one_frame(header(0, OPEN | FINISH, 2, 0).to_vec()), Violation::UnexpectedOpen),
        (one_frame(header(0, 0, 2, 1 << 20).to_vec()), Violation::BodyTooLong),
        (one_frame(header(9, 0, 2, 0).to_vec()), Violation::Header),
        (one_frame([header(1, 0, 2, u32::MAX), header(1, 0, 2, u32::MAX)].concat()), Violation::FlowControl),
        (overrun, Violation::FlowControl),
        (vec![Message::text("{}")], Violation::Control),
        (vec![Message::text("x".repeat(20_000))], Violation::Control),
        (vec![Message::text(r#"{"type":"leaving"}"#); CONTROL_QUEUE + 2], Violation::ControlFlood),
    ];
    for (messages, violation) in cases {
        let (mut relay, mut attacker) = attacked(&config(8)).await;
        let _stream = relay.open().await.unwrap();
        for message in messages {
            if attacker.send(message).await.is_err() {
                break;
            }
        }
        assert_eq!(ended(&mut relay).await, End::Violation(violation));
        let mut said = Vec::new();
        while let Some(Ok(message)) = attacker.next().await {
            said.extend(message.into_text().ok().filter(|text| text.contains("closing")));
        }
        assert!(said.iter().any(|text| text.contains("violation")), "{violation}: {said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn floods_of_pings_are_answered_without_growing_and_without_starving_others() {
    let (relay, attacker) = attacked(&config(8)).await;
    let (mut write, mut read) = attacker.split();
    let flood = tokio::spawn(async move {
        for n in 0..20_000_u32 {
            let ping = header(2, OPEN, 0, n).to_vec();
            if write.feed(Message::Binary(ping.into())).await.is_err() {
                return false;
            }
            let _ = write.feed(Message::Ping(Default::default())).await;
        }
        write.flush().await.is_ok()
    });
    let reader = tokio::spawn(async move { while read.next().await.is_some_and(|m| m.is_ok()) {} });
    assert!(timeout(PATIENCE, flood).await.unwrap().unwrap());
    assert!(timeout(PATIENCE, relay.open()).await.unwrap().is_some());
    assert!(relay.ends.link.end().is_none());
    reader.abort();
}

/// Rule 6: last words, no streams left, WebSocket close; nothing that was under way is lost.
#[tokio::test(start_paused = true)]
async fn rule_6_a_session_ends_drained() {
    let (mut relay, mut client) = pair(8).await;
    let mut visitor = relay.open().await.unwrap();
    let mut upstream = client.accept().await;
    let last_words = Some(r#"{"type":"closing","code":"shutting_down","text":""}"#.to_owned());
    let deadline = Instant::now() + Duration::from_secs(60);
    relay.ends.link.request_close(crate::link::CloseRequest { last_words, deadline });
    assert!(matches!(client.ends.texts_in.recv().await, Some(ToClient::Closing(_))));
    visitor.shutdown().await.unwrap();
    sleep(Duration::from_secs(5)).await;
    let answer = async {
        upstream.write_all(&[5; 500_000]).await?;
        upstream.shutdown().await
    };
    let mut got = Vec::new();
    tokio::try_join!(answer, visitor.read_to_end(&mut got)).unwrap();
    assert_eq!(got.len(), 500_000);
    assert!(relay.ends.link.end().is_none(), "a stream is left");
    drop((visitor, upstream));
    assert_eq!((ended(&mut relay).await, ended(&mut client).await), (End::Closed, End::Closed));
}

#[tokio::test(start_paused = true)]
async fn rule_6_at_the_deadline_what_is_left_is_cut() {
    let (mut relay, mut client) = pair(8).await;
    let mut visitor = relay.open().await.unwrap();
    let _upstream = client.accept().await;
    let start = Instant::now();
    let deadline = start + Duration::from_secs(7);
    relay.ends.link.request_close(crate::link::CloseRequest { last_words: None, deadline });
    assert_eq!(ended(&mut relay).await, End::Closed);
    assert!((7..10).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert!(visitor.read(&mut [0]).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_busy_session_after_ten_seconds_and_any_byte_is_life() {
    let (mut relay, mut attacker) = attacked(&config(8)).await;
    let (reply, stream) = oneshot::channel();
    relay.ends.opens.send(reply).await.unwrap();
    let _stream = stream.await.unwrap();
    let start = Instant::now();
    for _ in 0..6 {
        sleep(Duration::from_secs(9)).await;
        attacker.send(Message::Pong(Default::default())).await.unwrap();
    }
    assert!(relay.ends.link.end().is_none());
    assert_eq!(ended(&mut relay).await, End::Silent);
    let silent_for = start.elapsed() - Duration::from_secs(54);
    assert!((10.0..10.5).contains(&silent_for.as_secs_f64()), "{silent_for:?}");
}

#[tokio::test(start_paused = true)]
async fn a_session_at_rest_is_asked_seldom_until_a_stream_opens() {
    let (mut relay, mut attacker) = attacked(&config(8)).await;
    let start = Instant::now();
    // The client would ask 1 s before each.
    for due in [8, 16, 62] {
        assert!(matches!(attacker.next().await, Some(Ok(Message::Ping(_)))));
        assert_eq!(start.elapsed().as_secs(), due);
        attacker.send(Message::Pong(Default::default())).await.unwrap();
    }
    sleep(Duration::from_secs(20)).await;
    let (reply, stream) = oneshot::channel();
    relay.ends.opens.send(reply).await.unwrap();
    let _stream = stream.await.unwrap();
    assert_eq!(ended(&mut relay).await, End::Silent);
    assert_eq!(start.elapsed().as_secs(), 62 + 20 + 10, "since the stream was opened");
}

#[tokio::test(start_paused = true)]
async fn a_doubted_session_must_give_a_sign_of_life_soon() {
    let within = Duration::from_secs(2);
    let (mut relay, mut attacker) = attacked(&config(8)).await;
    relay.ends.link.request_check(within);
    // It is asked at once, and any byte is an answer.
    let asked = timeout(Duration::from_millis(10), attacker.next()).await.expect("a ping at once");
    assert!(matches!(asked, Some(Ok(Message::Ping(_)))), "{asked:?}");
    attacker.send(Message::Pong(Default::default())).await.unwrap();
    sleep(within * 2).await;
    assert!(relay.ends.link.end().is_none());
    let start = Instant::now();
    relay.ends.link.request_check(within);
    assert_eq!(ended(&mut relay).await, End::Silent);
    assert!((within..within * 2).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn idle_sessions_live_by_their_pings() {
    let (relay, client) = pair(8).await;
    sleep(Duration::from_secs(3600)).await;
    assert!(relay.ends.link.end().is_none() && client.ends.link.end().is_none());
}

/// Whatever bytes come, a driver ends or goes on; it never panics and never keeps more than its limits.
#[tokio::test(start_paused = true)]
async fn garbage_ends_sessions_and_nothing_else() {
    use rand::{Rng, SeedableRng};
    for seed in 0..300 {
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let budget = MemoryBudget::new(1 << 20);
        let limits = LinkConfig { budget: budget.clone(), ..config(8) };
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (role, opener) = if seed % 2 == 0 { (Role::Server, Opener::Us) } else { (Role::Client, THEM) };
        let mut victim: Side<ToRelay> = side(ours, role, opener, &limits).await;
        let peer = if seed % 2 == 0 { Role::Client } else { Role::Server };
        let mut attacker = WebSocketStream::from_raw_socket(theirs, peer, None).await;
        for _ in 0..50 {
            let frame = match random.random_range(0..4) {
                // Well-formed headers with random contents, whole or cut.
                0..3 => {
                    let mut bytes = data(
                        random.random_range(0..6),
                        random.random_range(0..16),
                        &vec![7; random.random_range(0..3000)],
                    );
                    bytes[1] = random.random_range(0..4);
                    bytes.truncate(random.random_range(0..=bytes.len()));
                    Message::Binary(bytes.into())
                }
                _ => Message::Binary(
                    (0..random.random_range(0..40)).map(|_| random.random()).collect::<Vec<u8>>().into(),
                ),
            };
            if attacker.send(frame).await.is_err() {
                break;
            }
        }
        drop(attacker);
        let end = timeout(PATIENCE, &mut victim.driver).await.expect("ends").expect("does not panic");
        assert_ne!(end, End::Silent, "seed {seed}");
        drop(victim);
        assert_eq!(budget.used(), 0, "seed {seed}");
    }
}
