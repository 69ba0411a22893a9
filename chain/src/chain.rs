//! The running reader: one task that owns the state machine, its calls and its file; handles read what it publishes.
//! Decides nothing itself (see `reader`).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tunnler_protocol::directory::Directory;
use tunnler_protocol::name::Label;
use tunnler_protocol::network::Network;

use self::task::{Command, Task};
use crate::error::ChainError;
use crate::status::ChainStatus;

mod alarms;
mod task;

/// How often endpoints are asked what is new (DESIGN §10).
pub const POLL: Duration = Duration::from_secs(5);
/// Commands that may wait for the task.
const COMMANDS: usize = 1024;

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
    task: JoinHandle<()>,
}

/// What a running reader knows. Cheap to clone; outlives the reader (it then serves the last state).
#[derive(Clone)]
pub struct ChainHandle {
    directory: watch::Receiver<Option<Arc<Directory>>>,
    status: watch::Receiver<ChainStatus>,
    commands: mpsc::Sender<Command>,
}

impl fmt::Debug for ChainHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainHandle").finish_non_exhaustive()
    }
}

impl ChainConfig {
    /// Follows `names` of `network`, polling every [`POLL`], keeping nothing.
    pub fn new(network: Network, names: FollowedNames) -> Self {
        Self { network, names, state: None, poll: POLL }
    }
}

impl Chain {
    /// Loads what was kept (the directory is then served at once, with its age) and starts to follow the endpoints.
    /// Must be called inside a tokio runtime. Fails only for what cannot heal: a malformed endpoint URL, or a state
    /// directory that cannot be used.
    pub fn start(config: ChainConfig) -> Result<Self, ChainError> {
        let (commands, received) = mpsc::channel(COMMANDS);
        let (task, directory, status) = Task::new(config, received)?;
        let handle = ChainHandle { directory, status, commands };
        Ok(Self { handle, task: tokio::spawn(task.run()) })
    }

    /// A handle to what is known.
    pub fn handle(&self) -> ChainHandle {
        self.handle.clone()
    }

    /// Waits until there is a directory, fresh or kept.
    pub async fn wait_ready(&self, timeout: Duration) -> Result<Arc<Directory>, ChainError> {
        let mut directory = self.handle.subscribe();
        match tokio::time::timeout(timeout, directory.wait_for(Option::is_some)).await {
            Ok(Ok(directory)) => Ok(directory.clone().expect("waited for")),
            Ok(Err(_)) => Err(ChainError::Stopped),
            Err(_) => Err(ChainError::NotReady { waited: timeout, problem: self.handle.status().problem() }),
        }
    }

    /// Stops following, writes the projection and ends the task.
    pub async fn shutdown(mut self) {
        // An error means that the task has ended already; either way it is joined.
        let _ = self.handle.commands.send(Command::Shutdown).await;
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the chain reader did not end in order");
        }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.task.abort();
    }
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
    pub async fn follow(&self, labels: impl IntoIterator<Item = Label>) {
        self.command(Command::Follow(labels.into_iter().collect(), None)).await;
    }

    /// Takes one `follow` of each of `labels` back.
    pub async fn unfollow(&self, labels: impl IntoIterator<Item = Label>) {
        self.command(Command::Unfollow(labels.into_iter().collect())).await;
    }

    /// Follows `labels` and waits until each of them has been read: the returned directory then holds every one that is
    /// registered. On a timeout they stay followed.
    pub async fn follow_and_wait(
        &self,
        labels: impl IntoIterator<Item = Label>,
        timeout: Duration,
    ) -> Result<Arc<Directory>, ChainError> {
        let (answer, read) = oneshot::channel();
        let command = Command::Follow(labels.into_iter().collect(), Some(answer));
        let answered = async {
            self.command(command).await;
            read.await
        };
        match tokio::time::timeout(timeout, answered).await {
            Ok(read) => read.map_err(|_| ChainError::Stopped),
            Err(_) => Err(ChainError::NotReady { waited: timeout, problem: self.status().problem() }),
        }
    }

    /// Asks the endpoints now instead of at the next poll; for use after an own transaction.
    pub fn refresh(&self) {
        // When the queue is full, polls are not what is missing.
        let _ = self.commands.try_send(Command::Refresh);
    }

    async fn command(&self, command: Command) {
        // An error means that the reader has ended: its last state is served, and nothing is followed any more.
        let _ = self.commands.send(command).await;
    }
}
