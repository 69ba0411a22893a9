//! Reading bytes piece by piece, integers big-endian. Never reads beyond the end.

use std::io;

/// What has not been read yet.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn take(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| invalid("cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.take(N).map(|taken| taken.try_into().expect("as long as asked for"))
    }

    pub(super) fn byte(&mut self) -> io::Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn number(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn long(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A text behind its length.
    pub(super) fn text(&mut self) -> io::Result<&'a str> {
        let length = self.number()? as usize;
        std::str::from_utf8(self.take(length)?).map_err(invalid)
    }

    /// So many of something as are told, each read by `one`; `least` bytes each, so that no count takes more memory
    /// than there are bytes.
    pub(super) fn list<T>(
        &mut self,
        least: usize,
        mut one: impl FnMut(&mut Self) -> io::Result<T>,
    ) -> io::Result<Vec<T>> {
        let count = self.number()? as usize;
        if count.saturating_mul(least) > self.0.len() {
            return Err(invalid("cut off"));
        }
        (0..count).map(|_| one(self)).collect()
    }

    /// Something that may be absent.
    pub(super) fn maybe<T>(&mut self, one: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<Option<T>> {
        match self.byte()? {
            0 => Ok(None),
            _ => one(self).map(Some),
        }
    }
}

/// Appends a text behind its length.
pub(super) fn put_text(text: &str, out: &mut Vec<u8>) {
    put_count(text.len(), out);
    out.extend(text.as_bytes());
}

/// Appends a count.
pub(super) fn put_count(count: usize, out: &mut Vec<u8>) {
    out.extend(u32::try_from(count).expect("fewer than four thousand million").to_be_bytes());
}

/// Appends something that may be absent.
pub(super) fn put_maybe<T>(value: Option<T>, out: &mut Vec<u8>, put: impl FnOnce(T, &mut Vec<u8>)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(value, out);
    }
}

pub(super) fn invalid(problem: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
