//! Floods of HTTP/2 frames (SECURITY 20): whoever sends them is cut off or held back.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Wire;
use super::frames::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, frame,
};

/// Frames of a usual flood.
const MANY: u32 = 20_000;

/// What becomes of a flooder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The connection was closed.
    Cut,
    /// Nothing more of it is read.
    HeldBack,
    /// Everything was taken.
    Taken,
}

/// Frames that nobody needs.
pub struct Flood {
    pub name: &'static str,
    first: Vec<u8>,
    parts: Box<dyn Iterator<Item = Vec<u8>> + Send>,
    /// What may become of who sends them.
    pub ends: &'static [End],
}

impl Flood {
    /// Writes everything without ever reading, until the other side has had enough.
    pub async fn pour(self, wire: impl Wire) -> End {
        let (mut read, mut write) = tokio::io::split(wire);
        let mut bytes = frames::preface();
        bytes.extend(self.first);
        for part in self.parts {
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
}

/// All floods on a TLS end that serves `host`.
pub fn floods(host: &str) -> Vec<Flood> {
    const ANY: &[End] = &[End::Cut, End::HeldBack, End::Taken];
    let get = frames::get(host, "/");
    let reset = {
        let get = get.clone();
        move |n: u32| {
            let mut bytes = frame(HEADERS, END_HEADERS | END_STREAM, n, &get);
            bytes.extend(frame(RST_STREAM, 0, n, &8_u32.to_be_bytes()));
            bytes
        }
    };
    let ask = {
        let get = get.clone();
        move |n: u32| frame(HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, &get)
    };
    let bomb = bomb(host);
    let mut floods = Vec::new();
    let mut flood = |name, ends, first, parts: Box<dyn Iterator<Item = Vec<u8>> + Send>| {
        floods.push(Flood { name, first, parts, ends });
    };
    let begun = || frame(HEADERS, END_STREAM, 1, &get);
    flood("rapid reset", &[End::Cut], Vec::new(), Box::new((0..MANY).map(|n| n * 2 + 1).map(reset)));
    flood(
        "CONTINUATION",
        &[End::Cut],
        begun(),
        Box::new((0..MANY).map(|_| frame(CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y']))),
    );
    flood(
        "empty CONTINUATION",
        &[End::Cut],
        begun(),
        Box::new((0..MANY).map(|_| frame(CONTINUATION, 0, 1, &[]))),
    );
    flood(
        "SETTINGS",
        ANY,
        Vec::new(),
        Box::new((0..10 * MANY).map(|n| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, (n >> 8) as u8, n as u8]))),
    );
    flood("PING", ANY, Vec::new(), Box::new((0..10 * MANY).map(|_| frame(PING, 0, 0, &[7; 8]))));
    flood(
        "empty DATA",
        ANY,
        frame(HEADERS, END_HEADERS, 1, &get),
        Box::new((0..10 * MANY).map(|_| frame(DATA, 0, 1, &[]))),
    );
    flood("a huge list of headers", &[End::Cut, End::Taken], Vec::new(), Box::new(huge(&get).into_iter()));
    flood(
        "an HPACK bomb",
        ANY,
        Vec::new(),
        Box::new((0..200).map(move |n| frame(HEADERS, END_HEADERS | END_STREAM, n * 2 + 1, &bomb))),
    );
    flood(
        "many streams that nobody reads",
        ANY,
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]),
        Box::new((0..MANY).map(ask)),
    );
    flood(
        "acknowledgements of nothing",
        ANY,
        Vec::new(),
        Box::new((0..MANY).map(|_| frame(SETTINGS, ACK, 0, &[]))),
    );
    floods
}

/// One head of 20,000 headers, in as many frames as it takes.
fn huge(get: &[u8]) -> Vec<Vec<u8>> {
    let names: Vec<String> = (0..20_000).map(|i| format!("x-{i}")).collect();
    let fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "value")).collect();
    let block = [get, &frames::block(&fields)].concat();
    let parts: Vec<&[u8]> = block.chunks(16_000).collect();
    let last = parts.len() - 1;
    let framed = parts.into_iter().enumerate().map(|(i, part)| {
        let end = if i == last { END_HEADERS } else { 0 };
        if i == 0 { frame(HEADERS, END_STREAM | end, 1, part) } else { frame(CONTINUATION, end, 1, part) }
    });
    framed.collect()
}

/// A block in which one long field stands once and is referred to many times (an HPACK bomb).
fn bomb(host: &str) -> Vec<u8> {
    let mut block = frames::get(host, "/");
    // Literal with incremental indexing, name "x", value of 3,000 bytes.
    block.extend([0x40, 1, b'x', 127]);
    let rest = 3000 - 127;
    block.extend([(rest % 128 + 128) as u8, (rest / 128) as u8]);
    block.extend(vec![b'a'; 3000]);
    // The first entry of the dynamic table, again and again.
    block.extend(vec![0x80 | 62; 8000]);
    block
}
