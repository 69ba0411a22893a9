//! The running reader: one task that owns the state machine, its calls and its file; handles read what it publishes.
//! Decides nothing itself (see `reader`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tunnler_protocol::directory::Directory;
use tunnler_protocol::name::Label;
use tunnler_protocol::network::Network;

use crate::error::ChainError;
use crate::status::ChainStatus;

/// How often endpoints are asked what is new (DESIGN §10).
pub const POLL: Duration = Duration::from_secs(5);

/// What to follow, and where to keep it.
#[derive(Clone, Debug)]
pub struct ChainConfig {
    /// The network: endpoints, quorum, contracts.
    pub network: Network,
    /// Which names are followed.
    pub names: FollowedNames,
    /// Directory in which the projection is kept, so that a restart needs no endpoint. `None`: nothing is kept.
    pub state: Option<PathBuf>,
    /// How often endpoints are asked; [`POLL`] unless the network is local.
    pub poll: Duration,
}

/// Which names a program follows. Relays are always followed, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowedNames {
    /// Every name: what the zone's DNS servers need.
    All,
    /// Those that [`ChainHandle::follow`] names at run time.
    Chosen,
}

/// A running reader. Dropping it aborts its task; [`Chain::shutdown`] ends it in order.
pub struct Chain {
    handle: ChainHandle,
}

/// What a running reader knows. Cheap to clone; outlives the reader (it then serves the last state).
#[derive(Clone)]
pub struct ChainHandle {
    directory: watch::Receiver<Option<Arc<Directory>>>,
    status: watch::Receiver<ChainStatus>,
}

impl ChainConfig {
    /// Follows `names` of `network`, polling every [`POLL`], keeping nothing.
    pub fn new(network: Network, names: FollowedNames) -> Self {
        Self { network, names, state: None, poll: POLL }
    }
}

impl Chain {
    /// Loads what was kept (the directory is then served at once, with its age) and starts to follow the endpoints.
    /// Must be called inside a tokio runtime. Fails only for what cannot heal: a malformed endpoint URL.
    pub fn start(config: ChainConfig) -> Result<Self, ChainError> {
        let _ = config;
        Err(ChainError::Stopped)
    }

    /// A handle to what is known.
    pub fn handle(&self) -> ChainHandle {
        self.handle.clone()
    }

    /// Waits until there is a directory, fresh or kept.
    pub async fn wait_ready(&self, timeout: Duration) -> Result<Arc<Directory>, ChainError> {
        let _ = timeout;
        Err(ChainError::Stopped)
    }

    /// Stops following, writes the projection and ends the task.
    pub async fn shutdown(self) {}
}

impl ChainHandle {
    /// The newest directory; `None` until the first snapshot is complete.
    pub fn directory(&self) -> Option<Arc<Directory>> {
        self.directory.borrow().clone()
    }

    /// Follows the directory: the receiver sees the newest one, never a queue of old ones. Precise differences come
    /// from [`Directory::changes_since`].
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Directory>>> {
        self.directory.clone()
    }

    /// The state of the reader.
    pub fn status(&self) -> ChainStatus {
        self.status.borrow().clone()
    }

    /// Follows `labels` as well (counted: each `follow` needs its own [`unfollow`](Self::unfollow)). With
    /// [`FollowedNames::All`] this does nothing.
    pub fn follow(&self, labels: impl IntoIterator<Item = Label>) {
        let _ = labels.into_iter().count();
    }

    /// Takes one `follow` of each of `labels` back.
    pub fn unfollow(&self, labels: impl IntoIterator<Item = Label>) {
        let _ = labels.into_iter().count();
    }

    /// Follows `labels` and waits until each of them has been read: the returned directory then holds every one that is
    /// registered. On a timeout they stay followed.
    pub async fn follow_and_wait(
        &self,
        labels: impl IntoIterator<Item = Label>,
        timeout: Duration,
    ) -> Result<Arc<Directory>, ChainError> {
        let _ = (labels.into_iter().count(), timeout);
        Err(ChainError::Stopped)
    }

    /// Asks the endpoints now instead of at the next poll; for use after an own transaction.
    pub fn refresh(&self) {}
}
