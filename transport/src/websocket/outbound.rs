//! What a WebSocket has to send: whole frames, then one binary message that is being gathered. Never writes.

use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::{MESSAGE, Mask, apply_mask};

#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// Whole frames on their way out.
    pub(super) frames: Vec<u8>,
    sent: usize,
    /// The payload of the binary message that follows them, behind room for its header; or nothing.
    gathered: Vec<u8>,
    /// Payload of the last ping, to be sent back.
    pub(super) pong: Option<Vec<u8>>,
    /// Whether the closing frame was queued.
    pub(super) closed: bool,
}

impl Outbound {
    pub(super) fn has_room(&self, n: usize, role: Role) -> bool {
        self.gathered.is_empty() || self.gathered.len() + n <= room(role) + MESSAGE
    }

    pub(super) fn gather(&mut self, bytes: &[u8], role: Role) {
        if self.gathered.is_empty() {
            self.gathered.resize(room(role), 0);
        }
        self.gathered.extend_from_slice(bytes);
    }

    pub(super) fn seal(&mut self, role: Role) -> bool {
        if self.gathered.is_empty() {
            return false;
        }
        debug_assert!(self.frames.is_empty(), "messages keep their order");
        std::mem::swap(&mut self.frames, &mut self.gathered);
        let (place, payload) = self.frames.split_at_mut(room(role));
        let header = header(OpCode::Data(Data::Binary), role);
        // A short payload has a shorter header than there is room for.
        self.sent = place.len() - header.len(payload.len() as u64);
        header.format(payload.len() as u64, &mut &mut place[self.sent..]).expect("there is room");
        if let Some(mask) = header.mask {
            apply_mask(payload, mask, 0);
        }
        true
    }

    /// Adds a whole frame.
    pub(super) fn push(&mut self, opcode: OpCode, payload: &[u8], role: Role) {
        let header = header(opcode, role);
        header.format(payload.len() as u64, &mut self.frames).expect("memory takes every byte");
        let begin = self.frames.len();
        self.frames.extend_from_slice(payload);
        if let Some(mask) = header.mask {
            apply_mask(&mut self.frames[begin..], mask, 0);
        }
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.frames[self.sent..]
    }

    pub(super) fn sent(&mut self, n: usize) {
        self.sent += n;
        if self.sent == self.frames.len() {
            self.frames.clear();
            self.sent = 0;
        }
    }

    pub(super) fn give_back(&mut self) {
        for bytes in [&mut self.frames, &mut self.gathered] {
            if bytes.is_empty() {
                *bytes = Vec::new();
            }
        }
    }
}

/// A header with a fresh mask where one is due: clients mask, servers do not (section 5.1).
fn header(opcode: OpCode, role: Role) -> FrameHeader {
    FrameHeader { opcode, mask: (role == Role::Client).then(rand::random), ..FrameHeader::default() }
}

/// Room for the header of a binary message: its length takes two bytes at most.
fn room(role: Role) -> usize {
    const { assert!(MESSAGE <= u16::MAX as usize) };
    if role == Role::Client { 4 + size_of::<Mask>() } else { 4 }
}
