//! Who may read the feed: one reserved slot for each server of the zone, and a few public ones.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tunnler_protocol::Address;

/// The slots of one relay.
pub struct Slots {
    public: Arc<Semaphore>,
    reserved: Mutex<HashMap<Address, CancellationToken>>,
}

/// One reader's place.
pub enum Slot {
    /// Any reader's.
    Public {
        /// Gives the place back.
        _permit: OwnedSemaphorePermit,
    },
    /// A zone server's: its newest connection has it.
    Reserved(CancellationToken),
}

impl Slots {
    /// With `public` slots for anybody.
    pub fn new(public: usize) -> Self {
        Self { public: Arc::new(Semaphore::new(public)), reserved: Mutex::default() }
    }

    /// A public slot, if one is free.
    pub fn public(&self) -> Option<Slot> {
        self.public.clone().try_acquire_owned().ok().map(|permit| Slot::Public { _permit: permit })
    }

    /// The slot of `server`, taken from its older connection.
    pub fn reserved(&self, server: Address) -> Slot {
        let token = CancellationToken::new();
        let older =
            self.reserved.lock().unwrap_or_else(PoisonError::into_inner).insert(server, token.clone());
        if let Some(older) = older {
            older.cancel();
        }
        Slot::Reserved(token)
    }
}

impl Slot {
    /// Returns when a newer connection took the slot.
    pub fn evicted(&self) -> impl Future<Output = ()> + Send + 'static {
        let token = match self {
            Self::Public { .. } => None,
            Self::Reserved(token) => Some(token.clone()),
        };
        async move {
            match token {
                Some(token) => token.cancelled().await,
                None => std::future::pending().await,
            }
        }
    }
}
