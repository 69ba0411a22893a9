//! A pool of copy buffers: a splice holds one only while bytes move, so idle visitors cost none.

use std::sync::{Arc, Mutex, PoisonError};

use crate::wire::LONGEST_BODY;

/// Size of a copy buffer in bytes: just below 64 KiB, so that what is read at once fills whole frames. One that left a few bytes
/// over would be followed by a frame of its own for those, which costs a bulk transfer a tenth of its speed.
pub const BUFFER_LEN: usize = 2 * LONGEST_BODY;

/// Lets the allocator keep what the program frees for what it allocates next. For the beginning of `main`.
///
/// A session allocates and frees the payload of each frame. glibc gives the top of the heap back to the kernel as soon as
/// 128 KiB of it are free, and takes it again, page fault by page fault, for the next frame: a tenth of the processor time of
/// a bulk transfer. Both thresholds follow the largest block that was mapped and freed (mallopt(3), `M_MMAP_THRESHOLD`), here
/// 2 MiB, so that 4 MiB of each heap may stay free. Other allocators do not mind.
pub fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(2 << 20)));
}

/// Buffers of [`BUFFER_LEN`] bytes, kept for reuse up to a bound.
#[derive(Debug)]
pub struct BufferPool {
    free: Mutex<Vec<Box<[u8]>>>,
    keep: usize,
}

impl BufferPool {
    /// A pool that keeps at most `keep` free buffers; more are made on demand.
    pub fn new(keep: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::default(), keep })
    }

    pub(crate) fn take(&self) -> Box<[u8]> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| vec![0; BUFFER_LEN].into_boxed_slice())
    }

    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(crate) fn give_back(&self, buffer: Box<[u8]>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.keep {
            free.push(buffer);
        }
    }
}
