//! HTTP/2 frames by hand (RFC 9113, section 4; RFC 7541 without compression), for what no library would send.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Wire;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// What a client says first, with empty settings.
pub fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes
}

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literals that are never compressed and never remembered.
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            length(&mut bytes, text.len());
            bytes.extend(text);
        }
    }
    bytes
}

/// An integer with a seven-bit prefix (RFC 7541, section 5.1).
fn length(bytes: &mut Vec<u8>, length: usize) {
    if length < 127 {
        bytes.push(length as u8);
        return;
    }
    bytes.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        bytes.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    bytes.push(rest as u8);
}

/// The headers of a plain GET.
pub fn get(host: &str, path: &str) -> Vec<u8> {
    block(&[(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", path)])
}

/// A frame that was read: kind, flags, stream, payload.
pub struct Read {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// Reads one frame.
pub async fn read<S: Wire>(wire: &mut S) -> io::Result<Read> {
    let mut head = [0; 9];
    wire.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    wire.read_exact(&mut payload).await?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
    Ok(Read { kind: head[3], flags: head[4], stream, payload })
}

/// Writes frames and reads until `stream` is answered or reset, or the connection ends. The error code of a reset.
pub async fn exchange<S: Wire>(wire: &mut S, bytes: &[u8], stream: u32) -> io::Result<Option<u32>> {
    wire.write_all(bytes).await?;
    wire.flush().await?;
    loop {
        let read = read(wire).await?;
        let code =
            |at: usize| read.payload.get(at..at + 4).map(|b| u32::from_be_bytes(b.try_into().unwrap()));
        match read.kind {
            GOAWAY => return Ok(code(4)),
            RST_STREAM if read.stream == stream => return Ok(code(0)),
            HEADERS | DATA if read.stream == stream && read.flags & END_STREAM != 0 => return Ok(None),
            _ => {}
        }
    }
}
