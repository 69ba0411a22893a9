//! Against tungstenite at the other end, whatever the segmentation, and against frames that RFC 6455 forbids.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufStream, DuplexStream, duplex};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// Everything up to the end: binary payload as one stream, and the texts.
async fn read_out<S: Transport>(socket: &mut WebSocket<S>) -> Result<(Vec<u8>, Vec<String>), Failure> {
    let (mut bytes, mut texts, mut buffer) = (Vec::new(), Vec::new(), [0; 100]);
    loop {
        let read = poll_fn(|cx| {
            socket.next_turn();
            socket.poll_read(cx, &mut buffer)
        });
        match timeout(PATIENCE, read).await.expect("in time")? {
            Incoming::Bytes(n) => bytes.extend_from_slice(&buffer[..n]),
            Incoming::Text(text) => texts.push(text),
            Incoming::End => return Ok((bytes, texts)),
        }
    }
}

/// A frame as an attacker would write it: `first` holds the final bit and the opcode.
fn frame(first: u8, mask: Option<Mask>, payload: &[u8]) -> Vec<u8> {
    let flag = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        n @ 0..126 => bytes.push(flag | n as u8),
        n => {
            bytes.push(flag | 126);
            bytes.extend_from_slice(&(n as u16).to_be_bytes());
        }
    }
    bytes.extend(mask.into_iter().flatten());
    let begin = bytes.len();
    bytes.extend_from_slice(payload);
    apply_mask(&mut bytes[begin..], mask.unwrap_or_default(), 0);
    bytes
}

/// What a relay makes of these bytes, when they come in one piece and when they come one by one.
async fn relay_reads(bytes: &[u8]) -> Result<(Vec<u8>, Vec<String>), Failure> {
    let mut found = Vec::new();
    for capacity in [1, bytes.len().max(1)] {
        let (theirs, ours) = duplex(1 << 20);
        let mut theirs: DuplexStream = theirs;
        theirs.write_all(bytes).await.unwrap();
        drop(theirs);
        let io = tokio::io::join(BufReader::with_capacity(capacity, ours), tokio::io::sink());
        found.push(read_out(&mut WebSocket::new(io, Role::Server, Vec::new())).await);
    }
    let texts: Vec<String> = found.iter().map(|found| format!("{found:?}")).collect();
    assert_eq!(texts[0], texts[1], "segmentation changes nothing");
    found.pop().expect("two")
}

const MASK: Option<Mask> = Some([1, 2, 3, 4]);

#[tokio::test]
async fn fragments_and_control_frames_in_between_are_one_stream() {
    let bytes = [
        frame(0x02, MASK, b"ab"),
        frame(0x89, MASK, b"ping"),
        frame(0x00, MASK, b""),
        frame(0x8a, MASK, b"unasked pong"),
        frame(0x80, MASK, b"cd"),
        frame(0x01, MASK, "h\u{e9}".as_bytes()),
        frame(0x80, MASK, b"llo"),
        frame(0x82, Some([9, 0, 255, 7]), &[b'x'; 300]),
        frame(0x88, MASK, &[]),
        frame(0x82, MASK, b"after the end"),
    ];
    let (read, texts) = relay_reads(&bytes.concat()).await.unwrap();
    assert_eq!(read, [&b"abcd"[..], &[b'x'; 300]].concat());
    assert_eq!(texts, ["h\u{e9}llo"]);
}

#[tokio::test]
async fn what_the_standard_forbids_is_a_violation() {
    let text = |n: usize| frame(0x01, MASK, &vec![b'x'; n]);
    let mut length_of_years = frame(0x82, MASK, b"");
    length_of_years.splice(1..2, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let cases: &[(&str, Vec<u8>, Violation)] = &[
        ("unmasked", frame(0x82, None, b"x"), Violation::WebSocket),
        ("reserved bit", frame(0xc2, MASK, b"x"), Violation::WebSocket),
        ("reserved opcode", frame(0x83, MASK, b"x"), Violation::WebSocket),
        ("reserved control", frame(0x8b, MASK, b"x"), Violation::WebSocket),
        ("long ping", frame(0x89, MASK, &[0; 126]), Violation::WebSocket),
        ("ping in parts", frame(0x09, MASK, b"x"), Violation::WebSocket),
        ("continues nothing", frame(0x80, MASK, b"x"), Violation::WebSocket),
        (
            "message in a message",
            [frame(0x02, MASK, b"x"), frame(0x82, MASK, b"y")].concat(),
            Violation::WebSocket,
        ),
        ("longest length", length_of_years, Violation::WebSocket),
        ("no UTF-8", frame(0x81, MASK, &[0xff, 0xfe]), Violation::Control),
        ("long text", text(control::MAX_LEN + 1), Violation::Control),
        (
            "long text in parts",
            [text(control::MAX_LEN), frame(0x00, MASK, b"x")].concat(),
            Violation::Control,
        ),
    ];
    for (case, bytes, expected) in cases {
        match relay_reads(bytes).await {
            Err(Failure::Violation(found)) => assert_eq!(found, *expected, "{case}"),
            other => panic!("{case}: {other:?}"),
        }
    }
    let endless: Vec<u8> =
        (0..10).flat_map(|n| frame(if n == 0 { 2 } else { 0 }, MASK, &[0; 60_000])).collect();
    assert!(matches!(relay_reads(&endless).await, Err(Failure::Violation(Violation::WebSocket))));
    for cut in [1, 4, 7] {
        let bytes = &frame(0x82, MASK, b"cut short")[..cut];
        assert!(matches!(relay_reads(bytes).await, Err(Failure::Io(_))), "{cut}");
    }
    // A client takes no masked frame.
    let io = tokio::io::join(Cursor::new(frame(0x82, MASK, b"x")), tokio::io::sink());
    let mut client = WebSocket::new(io, Role::Client, Vec::new());
    assert!(matches!(read_out(&mut client).await, Err(Failure::Violation(Violation::WebSocket))));
}

#[tokio::test]
async fn a_flood_of_pings_costs_one_pong_and_leaves_others_their_turn() {
    let (theirs, ours) = duplex(1 << 20);
    let mut theirs: DuplexStream = theirs;
    let mut socket = WebSocket::new(BufStream::new(ours), Role::Server, Vec::new());
    for n in 0..FRAMES_PER_TURN as u32 + 9 {
        theirs.write_all(&frame(0x89, MASK, &n.to_be_bytes())).await.unwrap();
    }
    theirs.write_all(&frame(0x82, MASK, b"x")).await.unwrap();
    let mut out = [0; 1];
    let first = poll_fn(|cx| Poll::Ready(socket.poll_read(cx, &mut out).is_ready())).await;
    assert!(!first, "its turn is over before the payload");
    socket.next_turn();
    let read = poll_fn(|cx| socket.poll_read(cx, &mut out)).await.unwrap();
    assert_eq!((read, out), (Incoming::Bytes(1), *b"x"));
    assert_eq!(socket.outbound.pong.as_deref(), Some(&(FRAMES_PER_TURN as u32 + 8).to_be_bytes()[..]));
    assert!(socket.outbound.frames.is_empty());
}

/// A reader of an HTTP head gets all of it and nothing else, whatever the segmentation.
#[tokio::test]
async fn what_follows_a_head_stays_unread() {
    let head = b"HTTP/1.1 101 ok\r\na: \r\r\nb: c\r\n\r\n";
    let all = [&head[..], b"\r\n\r\nframes"].concat();
    for capacity in 1..all.len() + 1 {
        let io =
            tokio::io::join(BufReader::with_capacity(capacity, Cursor::new(all.clone())), tokio::io::sink());
        let mut one = OneHead::new(io);
        let mut read = vec![0; head.len()];
        one.read_exact(&mut read).await.unwrap();
        assert_eq!(read, head);
        assert_eq!(one.read(&mut [0; 8]).await.unwrap(), 0, "nothing behind the head");
        let mut rest = Vec::new();
        one.into_inner().read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"\r\n\r\nframes");
    }
}

/// What a test sends: payload for the stream, or a text.
#[derive(Clone, Debug)]
enum Sent {
    Bytes(Vec<u8>),
    Text(String),
}

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let bytes = prop_oneof![0_usize..5, 120_usize..130, 1000_usize..70_000];
    let one = prop_oneof![
        4 => bytes.prop_map(|n| Sent::Bytes((0..n).map(|i| (i * 7) as u8).collect())),
        1 => "[a-z]{0,300}".prop_map(Sent::Text),
    ];
    prop::collection::vec(one, 1..12)
}

fn told(all: &[Sent]) -> (Vec<u8>, Vec<String>) {
    let bytes = all.iter().flat_map(|one| if let Sent::Bytes(bytes) = one { bytes.as_slice() } else { &[] });
    let texts =
        all.iter().filter_map(|one| if let Sent::Text(text) = one { Some(text.clone()) } else { None });
    (bytes.copied().collect(), texts.collect())
}

/// Sends as the wire does: gathers what fits, hands over what does not.
async fn send<S: Transport>(mut socket: WebSocket<S>, all: &[Sent]) -> io::Result<()> {
    let seal = async |socket: &mut WebSocket<S>| -> io::Result<()> {
        poll_fn(|cx| socket.poll_hand_over(cx)).await?;
        socket.seal();
        poll_fn(|cx| socket.poll_hand_over(cx)).await
    };
    for one in all {
        match one {
            Sent::Text(text) => socket.text(text),
            Sent::Bytes(bytes) => {
                for part in bytes.chunks(MESSAGE) {
                    if !socket.has_room(part.len()) {
                        seal(&mut socket).await?;
                    }
                    socket.gather(part);
                }
            }
        }
    }
    seal(&mut socket).await?;
    socket.close().await
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tungstenite_understands_what_is_sent(all in sent(), pipe in 1_usize..5000, client in any::<bool>()) {
        let (role, peer) = if client { (Role::Client, Role::Server) } else { (Role::Server, Role::Client) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (ours, theirs) = duplex(pipe);
            let ours = WebSocket::new(BufStream::new(ours), role, Vec::new());
            let mut theirs = WebSocketStream::from_raw_socket(theirs, peer, None).await;
            let reading = async {
                let (mut bytes, mut texts) = (Vec::new(), Vec::new());
                while let Some(message) = theirs.next().await {
                    match message.unwrap() {
                        Message::Binary(part) => bytes.extend_from_slice(&part),
                        Message::Text(text) => texts.push(text.to_string()),
                        _ => {}
                    }
                }
                (bytes, texts)
            };
            let (sent, found) = tokio::join!(send(ours, &all), reading);
            sent.unwrap();
            prop_assert_eq!(found, told(&all));
            Ok(())
        })?;
    }

    #[test]
    fn what_tungstenite_sends_is_understood(all in sent(), pipe in 1_usize..5000, client in any::<bool>()) {
        let (role, peer) = if client { (Role::Client, Role::Server) } else { (Role::Server, Role::Client) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (ours, theirs) = duplex(pipe);
            let mut ours = WebSocket::new(BufReader::with_capacity(pipe, ours), role, Vec::new());
            let mut theirs = WebSocketStream::from_raw_socket(theirs, peer, None).await;
            let sending = async {
                for one in &all {
                    let message = match one {
                        Sent::Bytes(bytes) => Message::binary(bytes.clone()),
                        Sent::Text(text) => Message::text(text.clone()),
                    };
                    theirs.send(message).await.unwrap();
                }
                let _ = theirs.close(None).await;
            };
            let ((), found) = tokio::join!(sending, read_out(&mut ours));
            prop_assert_eq!(found.unwrap(), told(&all));
            Ok(())
        })?;
    }

    #[test]
    fn a_mask_taken_off_in_pieces_is_off(mut bytes in prop::collection::vec(any::<u8>(), 0..100), mask: Mask, cut in 0_usize..100) {
        let original = bytes.clone();
        let plain: Vec<u8> = bytes.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
        apply_mask(&mut bytes, mask, 0);
        prop_assert_eq!(&bytes, &plain);
        let cut = cut.min(bytes.len());
        let (front, back) = bytes.split_at_mut(cut);
        apply_mask(front, mask, 0);
        apply_mask(back, mask, cut);
        prop_assert_eq!(bytes, original);
    }
}
