//! Why the client cannot do what was asked, in words that say what to do next.

use std::time::Duration;

use tunnler_chain::descriptor::DescriptorError;
use tunnler_chain::key::KeyFileError;
use tunnler_chain::{ChainError, WriteError};
use tunnler_protocol::name::{HOME_DOMAIN_MAX, NameError};
use tunnler_protocol::{Address, Label};

use crate::state::StateError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The network argument.
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
    /// The key file or variable.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// An argument that cannot be.
    #[error("{0}")]
    Usage(String),
    /// A text that is not a name.
    #[error("{text:?} is not a name: {source}")]
    Name {
        /// The text.
        text: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The chain cannot be read.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A transaction failed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Nobody registered the name.
    #[error("{label} is not registered; run: tunnler name register {label}")]
    Unregistered {
        /// The label.
        label: Label,
    },
    /// The name's registration is over.
    #[error("{label} has expired; run: tunnler name renew {label}")]
    Expired {
        /// The label.
        label: Label,
    },
    /// The admin suspended the name.
    #[error("{label} is suspended by the zone's administrator; the reason is on chain")]
    Suspended {
        /// The label.
        label: Label,
    },
    /// The name points to another key.
    #[error("{label} points to {}, not to this key; its owner can run: tunnler name set-target {label} {mine}",
        .target.map_or_else(|| "nobody".to_owned(), |target| target.to_string()))]
    NotOurs {
        /// The label.
        label: Label,
        /// Where it points.
        target: Option<Address>,
        /// This client's key.
        mine: Address,
    },
    /// Somebody has the name.
    #[error("{label} is taken: it belongs to {owner}")]
    Taken {
        /// The label.
        label: Label,
        /// Whose it is.
        owner: String,
    },
    /// The zone does not answer this key's account host.
    #[error(
        "this zone answers {0} only for keys that own a name; pass --name, or run: tunnler name register NAME"
    )]
    NoAccountHost(String),
    /// No relay took a session.
    #[error("no relay took a session within {}: {problems}", seconds(.waited))]
    NoRelay {
        /// How long was tried.
        waited: Duration,
        /// What each relay said last.
        problems: String,
    },
    /// Too long for the ledger's field.
    #[error("{host} has {} bytes, a home_domain at most {HOME_DOMAIN_MAX}; {budget}", .host.len())]
    HomeDomainTooLong {
        /// The host.
        host: String,
        /// What would fit.
        budget: String,
    },
    /// What was asked for is not there, or was not agreed to.
    #[error("{0}")]
    Failed(String),
    /// The tunnel's task is gone.
    #[error("the tunnel stopped: {0}")]
    Stopped(String),
}

impl ClientError {
    /// 1: failed; 2: usage or a missing prerequisite.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Descriptor(_) | Self::Key(_) | Self::Usage(_) | Self::Name { .. } => 2,
            _ => 1,
        }
    }
}

fn seconds(duration: &Duration) -> String {
    format!("{} s", duration.as_secs())
}
