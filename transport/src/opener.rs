//! Opens the streams of one connection, on the side that may: counts them, so that yamux's own bounds are never met.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tunnler_protocol::stream::StreamHeader;

use crate::driver::OpenRequest;
use crate::link::Link;
use crate::stream::SessionStream;

/// How long a visitor waits for a free stream.
pub const OPEN_DEADLINE: Duration = Duration::from_secs(2);

/// Opens streams of one connection. Cheap to clone; does not keep the connection alive.
#[derive(Clone, Debug)]
pub struct StreamOpener {
    link: Arc<Link>,
    opens: mpsc::Sender<OpenRequest>,
}

/// Why a visitor gets no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// All streams of the connection are in use: other visitors must leave first.
    #[error("every stream of the session is in use")]
    Full,
    /// The session is over: try another.
    #[error("the session is over")]
    Ended,
}

impl StreamOpener {
    pub(crate) fn new(link: Arc<Link>, opens: mpsc::Sender<OpenRequest>) -> Self {
        Self { link, opens }
    }

    /// Opens a stream for a visitor and sends its header. Waits up to 2 s for a free one.
    pub async fn open(&self, header: &StreamHeader) -> Result<SessionStream, OpenError> {
        let permit = match timeout(OPEN_DEADLINE, self.link.permits.acquire()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(OpenError::Ended),
            Err(_) => return Err(OpenError::Full),
        };
        let (reply, stream) = oneshot::channel();
        self.opens.send(reply).await.map_err(|_| OpenError::Ended)?;
        // From here on the driver gives it back, when yamux has forgotten the stream.
        permit.forget();
        let mut stream = stream.await.map_err(|_| OpenError::Ended)?;
        stream.write_all(&header.encode()).await.map_err(|_| OpenError::Ended)?;
        Ok(stream)
    }

    /// Streams open now.
    pub fn open_streams(&self) -> usize {
        self.link.open_streams()
    }
}
