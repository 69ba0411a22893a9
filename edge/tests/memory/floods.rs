//! Floods of HTTP/2 frames (SECURITY 20, 35): whoever sends them is cut off or held back, others are served.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::adversary::frames::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, frame,
};
use crate::rig::{self, HOST, hello};
use crate::{ALONE, MIB, Watch, others};

/// What becomes of a flooder.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The edge closed the connection.
    Cut,
    /// The edge reads no more of it.
    HeldBack,
    /// Everything was taken.
    Taken,
}

/// Writes `parts` without ever reading, until the edge has had enough.
async fn flood(rig: &rig::Rig, first: Vec<u8>, parts: impl Iterator<Item = Vec<u8>>) -> End {
    let stream = rig.connect(HOST, b"h2").await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let mut bytes = frames::preface();
    bytes.extend(first);
    for part in parts {
        bytes.extend(part);
        if bytes.len() < 16 << 10 {
            continue;
        }
        match tokio::time::timeout(Duration::from_secs(2), write.write_all(&bytes)).await {
            Err(_) => return End::HeldBack,
            Ok(Err(_)) => return End::Cut,
            Ok(Ok(())) => bytes.clear(),
        }
    }
    let _ = tokio::time::timeout(Duration::from_secs(2), write.write_all(&bytes)).await;
    // Taken in so far: is it still listened to?
    let mut sink = vec![0; 64 << 10];
    let drained = async { while read.read(&mut sink).await.is_ok_and(|n| n > 0) {} };
    match tokio::time::timeout(Duration::from_secs(1), drained).await {
        Ok(()) => End::Cut,
        Err(_) => End::Taken,
    }
}

/// A block in which one long field stands once and is referred to many times (an HPACK bomb).
fn bomb() -> Vec<u8> {
    let mut block = frames::get(HOST, "/");
    // Literal with incremental indexing, name "x", value of 3,000 bytes.
    block.extend([0x40, 1, b'x', 127]);
    let rest = 3000 - 127;
    block.extend([(rest % 128 + 128) as u8, (rest / 128) as u8]);
    block.extend(vec![b'a'; 3000]);
    // The first entry of the dynamic table, again and again.
    block.extend(vec![0x80 | 62; 8000]);
    block
}

fn get() -> Vec<u8> {
    frames::get(HOST, "/")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_are_cut_off_or_held_back_and_others_are_served() {
    let _alone = ALONE.lock().await;
    let rig = rig::start(hello).await;
    let many = 20_000_u32;
    let odd = (0..many).map(|n| n * 2 + 1);
    let open = || frame(HEADERS, END_HEADERS, 1, &get());
    let fields = |n: usize| {
        let names: Vec<String> = (0..n).map(|i| format!("x-{i}")).collect();
        let fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "value")).collect();
        frames::block(&fields)
    };
    let cut = |flags: u8| {
        let mut block = get();
        block.extend(fields(20_000));
        let parts: Vec<Vec<u8>> = block.chunks(16_000).map(<[u8]>::to_vec).collect();
        let last = parts.len() - 1;
        parts.into_iter().enumerate().map(move |(i, part)| {
            let end = if i == last { END_HEADERS } else { 0 };
            if i == 0 { frame(HEADERS, flags | end, 1, &part) } else { frame(CONTINUATION, end, 1, &part) }
        })
    };
    let reset = move |n: u32| {
        let mut bytes = frame(HEADERS, END_HEADERS | END_STREAM, n, &get());
        bytes.extend(frame(RST_STREAM, 0, n, &8_u32.to_be_bytes()));
        bytes
    };
    type Flood = (&'static str, Vec<u8>, Box<dyn Iterator<Item = Vec<u8>> + Send>, &'static [End]);
    let any: &[End] = &[End::Cut, End::HeldBack, End::Taken];
    let floods: Vec<Flood> = vec![
        ("rapid reset", Vec::new(), Box::new(odd.map(reset)), &[End::Cut]),
        (
            "CONTINUATION",
            frame(HEADERS, END_STREAM, 1, &get()),
            Box::new((0..many).map(|_| frame(CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y']))),
            &[End::Cut],
        ),
        (
            "empty CONTINUATION",
            frame(HEADERS, END_STREAM, 1, &get()),
            Box::new((0..many).map(|_| frame(CONTINUATION, 0, 1, &[]))),
            &[End::Cut],
        ),
        (
            "SETTINGS",
            Vec::new(),
            Box::new((0..10 * many).map(|n| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, (n >> 8) as u8, n as u8]))),
            any,
        ),
        ("PING", Vec::new(), Box::new((0..10 * many).map(|_| frame(PING, 0, 0, &[7; 8]))), any),
        ("empty DATA", open(), Box::new((0..10 * many).map(|_| frame(DATA, 0, 1, &[]))), any),
        ("a huge list of headers", Vec::new(), Box::new(cut(END_STREAM)), &[End::Cut, End::Taken]),
        (
            "an HPACK bomb",
            Vec::new(),
            Box::new((0..200_u32).map(|n| frame(HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, &bomb()))),
            any,
        ),
        (
            "many streams that nobody reads",
            frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]),
            Box::new((0..many).map(|n| frame(HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, &get()))),
            any,
        ),
        (
            "acknowledgements of nothing",
            Vec::new(),
            Box::new((0..many).map(|_| frame(SETTINGS, ACK, 0, &[]))),
            any,
        ),
    ];
    for (name, first, parts, ends) in floods {
        let (watch, stop, seen) = (Watch::begin(), AtomicBool::new(false), rig.lines().len());
        let flooding = async {
            let end = flood(&rig, first, parts).await;
            stop.store(true, Ordering::Relaxed);
            end
        };
        let (end, (visits, slowest)) = tokio::join!(flooding, others(&rig, &stop));
        let (grown, reached) = (watch.end(), rig.lines().len() - seen - visits);
        println!(
            "{name}: {end:?}, memory +{} KiB, {reached} requests passed on, others {visits} (slowest {slowest:?})",
            grown >> 10
        );
        assert!(ends.contains(&end), "{name}: {end:?}");
        assert!(grown < 24 * MIB, "{name}: memory grew by {grown} bytes");
        assert!(reached <= 300, "{name}: {reached} requests reached the upstream");
    }
}
