//! yamux frame headers as they pass by (yamux specification, "Framing"): enough to count and to judge, never to
//! multiplex. Pure.

/// Length of every frame header in bytes.
pub(crate) const HEADER_LEN: usize = 12;
/// Longest body that either side sends in one frame; both sides hold the other to it.
pub(crate) const MAX_BODY: usize = 256 * 1024;

const SYN: u16 = 1;
const ACK: u16 = 2;
const FIN: u16 = 4;
const RST: u16 = 8;

/// What the other side did that no honest peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A header that is none.
    #[error("malformed frame header")]
    Header,
    /// A data frame longer than 256 KiB.
    #[error("frame body longer than 256 KiB")]
    BodyTooLong,
    /// The acceptor opened a stream, or a stream number was reused or has the wrong parity.
    #[error("unexpected stream opened")]
    UnexpectedOpen,
    /// More open streams than agreed.
    #[error("more streams than agreed")]
    TooManyStreams,
    /// The multiplexer refused a frame: window overrun or an impossible window update.
    #[error("flow control ignored")]
    FlowControl,
    /// A WebSocket frame that RFC 6455 does not allow here, or a message that is too long.
    #[error("malformed WebSocket frame")]
    WebSocket,
    /// A text frame that is no control message.
    #[error("malformed control message")]
    Control,
    /// More control messages than anybody could answer.
    #[error("too many control messages")]
    ControlFlood,
}

/// Kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Data,
    WindowUpdate,
    Ping,
    GoAway,
}

/// A decoded frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub kind: Kind,
    flags: u16,
    pub stream: u32,
    /// Body length of a data frame; credit, ping number or code otherwise.
    pub value: u32,
}

impl Header {
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, Violation> {
        let [version, kind, f0, f1, s0, s1, s2, s3, v0, v1, v2, v3] = *bytes;
        let kind = match (version, kind) {
            (0, 0) => Kind::Data,
            (0, 1) => Kind::WindowUpdate,
            (0, 2) => Kind::Ping,
            (0, 3) => Kind::GoAway,
            _ => return Err(Violation::Header),
        };
        let header = Self {
            kind,
            flags: u16::from_be_bytes([f0, f1]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            value: u32::from_be_bytes([v0, v1, v2, v3]),
        };
        if header.body_len() > MAX_BODY { Err(Violation::BodyTooLong) } else { Ok(header) }
    }

    /// Bytes of body that follow.
    pub fn body_len(&self) -> usize {
        if self.kind == Kind::Data { self.value as usize } else { 0 }
    }

    pub fn opens(&self) -> bool {
        self.is_of_a_stream() && self.flags & SYN != 0
    }

    pub fn finishes(&self) -> bool {
        self.is_of_a_stream() && self.flags & FIN != 0
    }

    pub fn resets(&self) -> bool {
        self.is_of_a_stream() && self.flags & RST != 0
    }

    /// Whether this is a ping that wants an answer.
    pub fn asks_pong(&self) -> bool {
        self.kind == Kind::Ping && self.flags & ACK == 0
    }

    fn is_of_a_stream(&self) -> bool {
        matches!(self.kind, Kind::Data | Kind::WindowUpdate)
    }
}

/// The answer to the ping numbered `id`.
pub(crate) fn pong(id: u32) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = id.to_be_bytes();
    [0, 2, 0, ACK as u8, 0, 0, 0, 0, a, b, c, d]
}

/// Finds the frame boundaries in a byte stream, whatever its segmentation.
#[derive(Debug, Default)]
pub(crate) struct Boundaries {
    header: [u8; HEADER_LEN],
    have: usize,
    body_left: usize,
}

/// One step through a byte stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// This many bytes belong to an unfinished header.
    Partial(usize),
    /// This many bytes complete this header.
    Header(usize, Header),
    /// This many bytes are body.
    Body(usize),
}

impl Boundaries {
    /// Whether the next byte begins a frame.
    pub fn between_frames(&self) -> bool {
        self.have == 0 && self.body_left == 0
    }

    /// Bytes that the header being read still needs. Not for use inside a body.
    pub fn missing(&self) -> usize {
        HEADER_LEN - self.have
    }

    /// The bytes of the header last completed.
    pub fn header_bytes(&self) -> &[u8; HEADER_LEN] {
        &self.header
    }

    /// Takes one step into `bytes`, which must not be empty.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, Violation> {
        if self.body_left > 0 {
            let n = self.body_left.min(bytes.len());
            self.body_left -= n;
            return Ok(Step::Body(n));
        }
        let n = (HEADER_LEN - self.have).min(bytes.len());
        self.header[self.have..self.have + n].copy_from_slice(&bytes[..n]);
        self.have += n;
        if self.have < HEADER_LEN {
            return Ok(Step::Partial(n));
        }
        let header = Header::decode(&self.header)?;
        self.have = 0;
        self.body_left = header.body_len();
        Ok(Step::Header(n, header))
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Frames as an attacker would write them.
    use super::*;

    pub fn data(stream: u32, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = header(0, flags, stream, body.len() as u32).to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    pub fn header(kind: u8, flags: u16, stream: u32, value: u32) -> [u8; HEADER_LEN] {
        let mut bytes = [0, kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes[4..8].copy_from_slice(&stream.to_be_bytes());
        bytes[8..12].copy_from_slice(&value.to_be_bytes());
        bytes
    }

    pub const OPEN: u16 = SYN;
    pub const FINISH: u16 = FIN;
    pub const RESET: u16 = RST;
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_are_judged() {
        let open = Header::decode(&header(0, OPEN | FINISH, 2, 5)).unwrap();
        assert!(open.opens() && open.finishes() && !open.resets());
        assert_eq!((open.stream, open.body_len()), (2, 5));
        assert_eq!(Header::decode(&header(1, 0, 2, u32::MAX)).unwrap().body_len(), 0);
        assert!(Header::decode(&header(2, OPEN, 0, 7)).unwrap().asks_pong());
        assert!(!Header::decode(&pong(7)).unwrap().asks_pong());
        assert_eq!(Header::decode(&header(0, 0, 2, 256 * 1024 + 1)), Err(Violation::BodyTooLong));
        assert_eq!(Header::decode(&header(4, 0, 2, 0)), Err(Violation::Header));
        let mut wrong_version = header(0, 0, 2, 0);
        wrong_version[0] = 1;
        assert_eq!(Header::decode(&wrong_version), Err(Violation::Header));
    }

    proptest! {
        #[test]
        fn boundaries_do_not_depend_on_segmentation(
            bodies in prop::collection::vec(0_usize..40, 1..12),
            cuts in prop::collection::vec(1_usize..17, 1..40),
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|n| data(2, 0, &vec![7; *n])).collect();
            let mut boundaries = Boundaries::default();
            let mut found = Vec::new();
            let mut rest = stream.as_slice();
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let (mut piece, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                rest = tail;
                while !piece.is_empty() {
                    let n = match boundaries.step(piece).unwrap() {
                        Step::Partial(n) | Step::Body(n) => n,
                        Step::Header(n, header) => { found.push(header.body_len()); n }
                    };
                    piece = &piece[n..];
                }
            }
            prop_assert!(boundaries.between_frames());
            prop_assert_eq!(found, bodies);
        }
    }
}
