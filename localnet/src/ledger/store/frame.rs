//! Frames: `length (u32, big endian) ‖ first 8 bytes of SHA-256(payload) ‖ payload`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::{StoreError, at};
use crate::codec;

const HEADER: usize = 12;

/// No frame of this network is near this long.
const MAX_PAYLOAD: u32 = 64 * 1024 * 1024;

/// One frame around a payload.
pub(super) fn encode(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER + payload.len());
    frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    frame.extend_from_slice(&codec::sha256(payload).0[..8]);
    frame.extend_from_slice(payload);
    frame
}

/// How a file of frames ends.
pub(super) struct End {
    /// The last frame is whole.
    pub complete: bool,
    /// Bytes up to the end of the last whole frame.
    pub valid_bytes: u64,
}

/// The payloads of all whole frames from the start of a file.
pub(super) fn read_all(path: &Path) -> Result<(Vec<Vec<u8>>, End), StoreError> {
    let file = File::open(path).map_err(|source| at(path, source))?;
    let length = file.metadata().map_err(|source| at(path, source))?.len();
    let mut reader = BufReader::new(file);
    let mut payloads = Vec::new();
    let mut valid_bytes = 0;
    while let Some(payload) = read_one(&mut reader, length - valid_bytes) {
        valid_bytes += (HEADER + payload.len()) as u64;
        payloads.push(payload);
    }
    Ok((payloads, End { complete: valid_bytes == length, valid_bytes }))
}

/// Shortens a file to its whole frames.
pub(super) fn cut(path: &Path, valid_bytes: u64) -> Result<(), StoreError> {
    let file = File::options().write(true).open(path).map_err(|source| at(path, source))?;
    file.set_len(valid_bytes).and_then(|()| file.sync_all()).map_err(|source| at(path, source))
}

fn read_one(reader: &mut impl Read, left: u64) -> Option<Vec<u8>> {
    if left < HEADER as u64 {
        return None;
    }
    let mut header = [0; HEADER];
    reader.read_exact(&mut header).ok()?;
    let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    if length > MAX_PAYLOAD || u64::from(length) > left - HEADER as u64 {
        return None;
    }
    let mut payload = vec![0; length as usize];
    reader.read_exact(&mut payload).ok()?;
    (codec::sha256(&payload).0[..8] == header[4..]).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whole_frames_survive_any_cut_and_any_flipped_byte(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 1..6),
            damage in any::<(prop::sample::Index, bool)>(),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("frames");
            let whole: Vec<u8> = payloads.iter().flat_map(|payload| encode(payload)).collect();
            let (index, cut_off) = (damage.0.index(whole.len()), damage.1);
            let mut bytes = whole.clone();
            if cut_off { bytes.truncate(index) } else { bytes[index] ^= 0x55 }
            std::fs::write(&path, &bytes).unwrap();
            let (read, end) = read_all(&path).unwrap();
            prop_assert!(read.len() <= payloads.len());
            prop_assert_eq!(&read[..], &payloads[..read.len()]);
            prop_assert!(end.valid_bytes as usize <= index || !cut_off && read.len() < payloads.len());
            cut(&path, end.valid_bytes).unwrap();
            let (again, end) = read_all(&path).unwrap();
            prop_assert!(end.complete);
            prop_assert_eq!(again, read);
        }
    }
}
