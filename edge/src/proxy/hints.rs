//! Interim answers on their way to a visitor (RFC 9110, section 15.2): 103 Early Hints (RFC 8297), 102 and the like.
//!
//! Only HTTP/2 visitors get them: some HTTP/1.1 clients take one for the answer (RFC 8297, section 3). Never 100, which
//! the edge itself answers, and never 101, which is no interim answer.

use std::sync::{Arc, Mutex, PoisonError};

use http::header::{self, HeaderMap};
use http::{Response, StatusCode};
use tokio::sync::mpsc;

use super::headers;

/// Most interim answers to one request that are passed on.
const MOST: usize = 8;
/// Most bytes of all their headers; one that would exceed them is dropped.
const MOST_BYTES: usize = 16 * 1024;
/// What a header counts beside its name and value (RFC 9113, section 6.5.2).
const PER_HEADER: usize = 32;

/// Takes the interim answers to one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Hints(Option<Arc<Wanted>>);

#[derive(Debug)]
struct Wanted {
    allowance: Mutex<Allowance>,
    to: mpsc::Sender<Response<()>>,
}

impl Hints {
    /// For a visitor that takes none.
    pub(super) fn unwanted() -> Self {
        Self::default()
    }

    /// For a visitor that takes them; they come out in the order in which they are told.
    pub(super) fn wanted() -> (Self, mpsc::Receiver<Response<()>>) {
        let (to, told) = mpsc::channel(MOST);
        let allowance = Mutex::new(Allowance { answers: MOST, bytes: MOST_BYTES });
        (Self(Some(Arc::new(Wanted { allowance, to }))), told)
    }

    /// Whether anybody listens.
    pub(super) fn are_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Passes one on, without what belongs to the upstream's connection, or drops it. Never waits.
    pub(super) fn tell(&self, status: StatusCode, headers: &HeaderMap) {
        let Some(wanted) = &self.0 else { return };
        if matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
            return;
        }
        if !wanted.allowance.lock().unwrap_or_else(PoisonError::into_inner).take(headers) {
            tracing::debug!(%status, "an interim answer too many or too large");
            return;
        }
        let mut interim = Response::new(());
        *interim.status_mut() = status;
        headers.clone_into(interim.headers_mut());
        headers::strip_hop_by_hop(interim.headers_mut());
        // No interim answer has a body (RFC 9110, section 8.6).
        interim.headers_mut().remove(header::CONTENT_LENGTH);
        let _ = wanted.to.try_send(interim);
    }
}

/// What one request may still have passed on.
#[derive(Debug)]
struct Allowance {
    answers: usize,
    bytes: usize,
}

impl Allowance {
    fn take(&mut self, headers: &HeaderMap) -> bool {
        let size: usize =
            headers.iter().map(|(name, value)| name.as_str().len() + value.len() + PER_HEADER).sum();
        let fits = self.answers > 0 && size <= self.bytes;
        if fits {
            self.answers -= 1;
            self.bytes -= size;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn link(length: usize) -> HeaderMap {
        let value = HeaderValue::from_bytes(&vec![b'x'; length]).unwrap();
        [(header::LINK, value)].into_iter().collect()
    }

    #[test]
    fn interim_answers_are_bounded_in_number_and_size() {
        let (hints, mut told) = Hints::wanted();
        for length in [20_000, 10_000, 10_000, 100] {
            hints.tell(StatusCode::EARLY_HINTS, &link(length));
        }
        let lengths = |told: &mut mpsc::Receiver<Response<()>>| {
            let told = std::iter::from_fn(|| told.try_recv().ok());
            told.map(|interim| interim.headers()[header::LINK].len()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&mut told), [10_000, 100], "too large ones are dropped, others not");
        for _ in 0..1000 {
            hints.tell(StatusCode::EARLY_HINTS, &link(1));
        }
        assert_eq!(lengths(&mut told).len(), MOST - 2);
    }

    #[test]
    fn they_say_nothing_of_the_upstreams_connection() {
        let (hints, mut told) = Hints::wanted();
        let mut headers = link(3);
        for (name, value) in
            [("connection", "x-private"), ("x-private", "1"), ("keep-alive", "5"), ("content-length", "9")]
        {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for status in [100, 101, 102, 103] {
            hints.tell(StatusCode::from_u16(status).unwrap(), &headers);
        }
        for status in [102, 103] {
            let interim = told.try_recv().unwrap();
            assert_eq!(interim.status(), status);
            assert_eq!(interim.headers().keys().collect::<Vec<_>>(), [header::LINK]);
        }
        assert!(told.try_recv().is_err());
    }
}
