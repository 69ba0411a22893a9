//! Takes in the streams a relay opens: reads each one's header on its own time, so that none waits for another.

use std::fmt;
use std::pin::Pin;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tunnler_protocol::stream::{FIXED_LEN, MAX_LEN, StreamHeader};

use super::{IncomingStream, STREAM_HEADER_DEADLINE};
use crate::stream::SessionStream;

type HeaderRead = Pin<Box<dyn Future<Output = Option<IncomingStream>> + Send>>;

/// Visitors of one session.
pub struct IncomingStreams {
    accepted: mpsc::Receiver<SessionStream>,
    reading: FuturesUnordered<HeaderRead>,
}

impl IncomingStreams {
    pub(crate) fn new(accepted: mpsc::Receiver<SessionStream>) -> Self {
        Self { accepted, reading: FuturesUnordered::new() }
    }

    /// The next visitor; `None` when the session is over. Cancel-safe.
    pub async fn next(&mut self) -> Option<IncomingStream> {
        loop {
            tokio::select! {
                biased;
                Some(read) = self.reading.next() => {
                    if read.is_some() {
                        return read;
                    }
                }
                accepted = self.accepted.recv() => self.reading.push(Box::pin(read_header(accepted?))),
            }
        }
    }
}

impl fmt::Debug for IncomingStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingStreams").field("reading", &self.reading.len()).finish()
    }
}

/// Reads exactly the header. A stream without a proper one is reset: dropping it does that.
async fn read_header(mut io: SessionStream) -> Option<IncomingStream> {
    let read = async {
        let mut bytes = vec![0; FIXED_LEN];
        io.read_exact(&mut bytes).await.ok()?;
        let len = FIXED_LEN + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
        if len > MAX_LEN {
            return None;
        }
        bytes.resize(len, 0);
        io.read_exact(&mut bytes[FIXED_LEN..]).await.ok()?;
        StreamHeader::decode(&bytes).ok()
    };
    let (header, _) = timeout(STREAM_HEADER_DEADLINE, read).await.ok()??;
    Some(IncomingStream { header, io })
}
