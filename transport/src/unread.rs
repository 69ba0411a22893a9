//! What the other side has sent and nobody here has read yet, per stream, per connection and in the whole program.
//!
//! yamux windows are credit, not memory: memory is what a peer sends and nobody reads. This table counts it from
//! the frame headers that pass by and picks the stream to give up when there is too much. It also knows how each
//! stream ended, which yamux does not tell. Decides only; never touches a socket.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::time::Instant;

use crate::frames::{Header, Violation};

/// Unread payload and frames that one connection may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreadLimits {
    /// Payload in bytes.
    pub bytes: usize,
    /// Frames with payload.
    pub frames: usize,
}

impl Default for UnreadLimits {
    /// 32 MiB and 8,192 frames.
    fn default() -> Self {
        Self { bytes: 32 << 20, frames: 8192 }
    }
}

/// Unread payload that all connections of a program may hold together.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: usize,
    used: AtomicUsize,
    connections: AtomicUsize,
}

impl MemoryBudget {
    /// A budget of `limit` bytes. Each connection is entitled to its even share; above the limit, those that use
    /// more than their share give up streams, so that twice the limit is never passed.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0), connections: AtomicUsize::new(0) })
    }

    /// Unread bytes in all connections now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn exceeded_by(&self, connection: usize) -> bool {
        let share = self.limit / self.connections.load(Ordering::Relaxed).max(1);
        self.used() > self.limit && connection > share
    }
}

/// Which side opens streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opener {
    /// This one; the other never does.
    Us,
    /// The other one, at most this many at once.
    Them { at_most: usize },
}

/// How the other side's half of a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Remote {
    Open = 0,
    Finished = 1,
    Reset = 2,
    /// This side gave the stream up; the other does not know yet.
    GivenUp = 3,
}

/// What a stream and the table share: how the remote half ended, and whom to wake when it is cut.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    remote: std::sync::atomic::AtomicU8,
    pub reader: AtomicWaker,
    pub writer: AtomicWaker,
}

impl Fate {
    pub fn remote(&self) -> Remote {
        match self.remote.load(Ordering::Acquire) {
            0 => Remote::Open,
            1 => Remote::Finished,
            2 => Remote::Reset,
            _ => Remote::GivenUp,
        }
    }

    /// Whether nothing more can come of the stream.
    pub fn is_cut(&self) -> bool {
        matches!(self.remote(), Remote::Reset | Remote::GivenUp)
    }

    fn finish(&self) {
        let (open, finished) = (Remote::Open as u8, Remote::Finished as u8);
        let _ = self.remote.compare_exchange(open, finished, Ordering::AcqRel, Ordering::Acquire);
    }

    fn cut(&self, how: Remote) {
        self.remote.store(how as u8, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }
}

/// The streams of one connection and what is unread of each.
#[derive(Debug)]
pub(crate) struct UnreadTable {
    opener: Opener,
    limits: UnreadLimits,
    budget: Arc<MemoryBudget>,
    streams: HashMap<u32, Unread>,
    bytes: usize,
    frames: usize,
}

#[derive(Debug)]
struct Unread {
    fate: Arc<Fate>,
    bytes: usize,
    frames: VecDeque<u32>,
    read_at: Instant,
    /// Given up: what still arrives for it is on its way out and no longer counted.
    shed: bool,
}

impl UnreadTable {
    pub fn new(opener: Opener, limits: UnreadLimits, budget: Arc<MemoryBudget>) -> Self {
        budget.connections.fetch_add(1, Ordering::Relaxed);
        Self { opener, limits, budget, streams: HashMap::new(), bytes: 0, frames: 0 }
    }

    /// A stream that this side opened.
    pub fn opened(&mut self, stream: u32, now: Instant) -> Arc<Fate> {
        let fate = Arc::<Fate>::default();
        let unread =
            Unread { fate: fate.clone(), bytes: 0, frames: VecDeque::new(), read_at: now, shed: false };
        self.streams.insert(stream, unread);
        fate
    }

    /// The fate of a stream that the other side opened.
    pub fn fate(&self, stream: u32) -> Option<Arc<Fate>> {
        self.streams.get(&stream).map(|unread| unread.fate.clone())
    }

    /// A frame of the other side passed by. Returns how many streams were given up to make room for it.
    pub fn on_frame(&mut self, header: &Header, now: Instant) -> Result<usize, Violation> {
        if header.opens() {
            self.admit(header.stream, now)?;
        }
        let Some(unread) = self.streams.get_mut(&header.stream) else { return Ok(0) };
        if header.resets() {
            unread.fate.cut(Remote::Reset);
        } else if header.finishes() {
            unread.fate.finish();
        }
        let len = header.body_len();
        if len == 0 || unread.shed {
            return Ok(0);
        }
        if unread.bytes == 0 {
            unread.read_at = now;
        }
        unread.bytes += len;
        unread.frames.push_back(len as u32);
        self.bytes += len;
        self.frames += 1;
        self.budget.used.fetch_add(len, Ordering::Relaxed);
        Ok(self.make_room(now))
    }

    /// The other side said that the stream ended abnormally.
    pub fn on_reset(&mut self, stream: u32) {
        if let Some(unread) = self.streams.get(&stream) {
            unread.fate.cut(Remote::Reset);
        }
    }

    /// `n` bytes of the stream were read.
    pub fn read(&mut self, stream: u32, mut n: usize, now: Instant) {
        let Some(unread) = self.streams.get_mut(&stream) else { return };
        unread.read_at = now;
        if unread.shed {
            return;
        }
        n = n.min(unread.bytes);
        unread.bytes -= n;
        self.bytes -= n;
        self.budget.used.fetch_sub(n, Ordering::Relaxed);
        while let Some(front) = unread.frames.front_mut() {
            if n < *front as usize {
                *front -= n as u32;
                break;
            }
            n -= *front as usize;
            unread.frames.pop_front();
            self.frames -= 1;
        }
        if unread.frames.is_empty() && unread.frames.capacity() > 64 {
            unread.frames = VecDeque::new();
        }
    }

    /// The stream is gone on this side.
    pub fn closed(&mut self, stream: u32) {
        if let Some(unread) = self.streams.remove(&stream)
            && !unread.shed
        {
            self.forget(unread.bytes, unread.frames.len());
        }
    }

    fn admit(&mut self, stream: u32, now: Instant) -> Result<(), Violation> {
        let Opener::Them { at_most } = self.opener else { return Err(Violation::UnexpectedOpen) };
        // Numbers need not rise: yamux opens a stream with its first frame, and of two streams either may write first.
        if stream == 0 || !stream.is_multiple_of(2) || self.streams.contains_key(&stream) {
            return Err(Violation::UnexpectedOpen);
        }
        if self.streams.len() >= at_most {
            return Err(Violation::TooManyStreams);
        }
        self.opened(stream, now);
        Ok(())
    }

    /// Gives up the streams that have held most for longest until the connection is within its limits.
    fn make_room(&mut self, now: Instant) -> usize {
        let mut given_up = 0;
        while self.bytes > self.limits.bytes
            || self.frames > self.limits.frames
            || self.budget.exceeded_by(self.bytes)
        {
            // Frames cost memory whatever they carry: an average one stands for its bytes.
            let per_frame = self.limits.bytes / self.limits.frames.max(1);
            let hoarded = |unread: &Unread| {
                let held = unread.bytes.max(unread.frames.len() * per_frame) as u128;
                held * (now.duration_since(unread.read_at) + Duration::from_millis(1)).as_millis()
            };
            let candidates = self.streams.values_mut().filter(|unread| !unread.shed && unread.bytes > 0);
            let Some(worst) = candidates.max_by_key(|unread| hoarded(unread)) else { break };
            worst.shed = true;
            worst.fate.cut(Remote::GivenUp);
            let (bytes, frames) = (worst.bytes, worst.frames.len());
            worst.frames = VecDeque::new();
            self.forget(bytes, frames);
            given_up += 1;
        }
        given_up
    }

    fn forget(&mut self, bytes: usize, frames: usize) {
        self.bytes -= bytes;
        self.frames -= frames;
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for UnreadTable {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::testing::*;
    use proptest::prelude::*;

    fn frame(bytes: [u8; 12]) -> Header {
        Header::decode(&bytes).unwrap()
    }

    fn table(opener: Opener) -> UnreadTable {
        UnreadTable::new(opener, UnreadLimits { bytes: 1000, frames: 10 }, MemoryBudget::new(1 << 20))
    }

    #[test]
    fn only_the_opener_opens_even_numbers_in_any_order() {
        let now = Instant::now();
        let mut relay = table(Opener::Us);
        assert_eq!(relay.on_frame(&frame(header(0, OPEN, 1, 0)), now), Err(Violation::UnexpectedOpen));
        let mut client = table(Opener::Them { at_most: 2 });
        client.on_frame(&frame(header(0, OPEN, 2, 0)), now).unwrap();
        for stream in [2, 3, 0] {
            let again = frame(header(1, OPEN, stream, 0));
            assert_eq!(client.on_frame(&again, now), Err(Violation::UnexpectedOpen), "{stream}");
        }
        client.on_frame(&frame(header(0, OPEN, 6, 0)), now).unwrap();
        assert_eq!(client.on_frame(&frame(header(0, OPEN, 4, 0)), now), Err(Violation::TooManyStreams));
        client.closed(2);
        client.on_frame(&frame(header(0, OPEN, 4, 0)), now).unwrap();
    }

    #[test]
    fn an_end_is_told_from_a_reset() {
        let now = Instant::now();
        let mut table = table(Opener::Us);
        let (a, b, c) = (table.opened(2, now), table.opened(4, now), table.opened(6, now));
        table.on_frame(&frame(header(0, FINISH, 2, 0)), now).unwrap();
        table.on_frame(&frame(header(1, RESET, 4, 0)), now).unwrap();
        table.on_frame(&frame(header(0, FINISH, 6, 0)), now).unwrap();
        table.on_reset(6);
        table.on_reset(99);
        assert_eq!([a.remote(), b.remote(), c.remote()], [Remote::Finished, Remote::Reset, Remote::Reset]);
    }

    #[test]
    fn the_stream_that_hoards_longest_is_given_up_not_the_busy_one() {
        let start = Instant::now();
        let mut table = table(Opener::Us);
        let (idle, busy, small) = (table.opened(2, start), table.opened(4, start), table.opened(6, start));
        table.on_frame(&frame(header(0, 0, 6, 1)), start).unwrap();
        table.on_frame(&frame(header(0, 0, 2, 400)), start).unwrap();
        let later = start + Duration::from_secs(5);
        for _ in 0..20 {
            table.on_frame(&frame(header(0, 0, 4, 500)), later).unwrap();
            table.read(4, 500, later);
        }
        assert_eq!(idle.remote(), Remote::Open);
        assert_eq!(table.on_frame(&frame(header(0, 0, 4, 600)), later), Ok(1));
        let remotes = [idle.remote(), busy.remote(), small.remote()];
        assert_eq!(remotes, [Remote::GivenUp, Remote::Open, Remote::Open]);
        // What is still under way for a stream given up changes nothing.
        assert_eq!(table.on_frame(&frame(header(0, 0, 2, 900)), later), Ok(0));
        table.closed(2);
        assert_eq!((table.bytes, table.frames), (601, 2));
    }

    #[test]
    fn many_tiny_frames_count_too() {
        let now = Instant::now();
        let mut table = table(Opener::Us);
        let fate = table.opened(2, now);
        let given_up: usize = (0..11).map(|_| table.on_frame(&frame(header(0, 0, 2, 1)), now).unwrap()).sum();
        assert_eq!((given_up, fate.remote()), (1, Remote::GivenUp));
    }

    #[test]
    fn the_budget_of_all_connections_takes_from_those_above_their_share() {
        let now = Instant::now();
        let budget = MemoryBudget::new(1000);
        let limits = UnreadLimits { bytes: 10_000, frames: 100 };
        let mut greedy = UnreadTable::new(Opener::Us, limits, budget.clone());
        let mut modest = UnreadTable::new(Opener::Us, limits, budget.clone());
        greedy.opened(2, now);
        modest.opened(2, now);
        assert_eq!(greedy.on_frame(&frame(header(0, 0, 2, 900)), now), Ok(0));
        assert_eq!(modest.on_frame(&frame(header(0, 0, 2, 300)), now), Ok(0), "within its share of 500");
        assert_eq!(greedy.on_frame(&frame(header(0, 0, 2, 1)), now), Ok(1));
        assert_eq!(budget.used(), 300);
        drop(modest);
        assert_eq!(budget.used(), 0);
    }

    proptest! {
        #[test]
        fn books_balance(steps in prop::collection::vec((1_u32..5, 0_usize..400, 0_u8..4), 1..200)) {
            let now = Instant::now();
            let budget = MemoryBudget::new(1500);
            let limits = UnreadLimits { bytes: 1000, frames: 10 };
            let mut table = UnreadTable::new(Opener::Us, limits, budget.clone());
            for (stream, n, what) in steps {
                let stream = stream * 2;
                match what {
                    0 => { if table.fate(stream).is_none() { table.opened(stream, now); } }
                    1 => { table.on_frame(&frame(header(0, 0, stream, n as u32)), now).unwrap(); }
                    2 => {
                        let unread = table.streams.get(&stream).filter(|s| !s.shed).map_or(0, |s| s.bytes);
                        table.read(stream, n.min(unread), now);
                    }
                    _ => table.closed(stream),
                }
                let live = table.streams.values().filter(|unread| !unread.shed);
                let bytes: usize = live.clone().map(|unread| unread.bytes).sum();
                let frames: usize = live.clone().map(|unread| unread.frames.len()).sum();
                prop_assert_eq!((table.bytes, table.frames, budget.used()), (bytes, frames, bytes));
                prop_assert!(live.clone().all(|u| u.frames.iter().map(|n| *n as usize).sum::<usize>() == u.bytes));
                prop_assert!(bytes <= 1000 && frames <= 10);
            }
        }
    }
}
