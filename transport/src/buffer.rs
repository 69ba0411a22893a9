//! A pool of copy buffers: a splice holds one only while bytes move, so idle visitors cost none.

use std::sync::{Arc, Mutex, PoisonError};

/// Size of a copy buffer in bytes.
pub const BUFFER_LEN: usize = 64 * 1024;

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
