//! Authority in use: every stream holds the grant it was opened under, and loses it when the chain takes it back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio_util::sync::CancellationToken;
use tunnler_protocol::Address;

use crate::route::{Claimed, Wanted};

/// The grants that streams hold now.
#[derive(Debug, Default)]
pub struct Grants(Mutex<HashMap<(Address, Claimed), Weak<CancellationToken>>>);

/// What one stream holds; all streams of one client and name share it.
#[derive(Debug)]
pub struct Grant(Arc<CancellationToken>);

impl Grant {
    /// Returns when the authority is lost.
    pub async fn lost(&self) {
        self.0.cancelled().await;
    }
}

impl Grants {
    /// The grant for what a visitor wanted.
    pub fn hold(&self, wanted: &Wanted) -> Grant {
        let mut grants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = grants.entry((wanted.client, wanted.name.clone())).or_default();
        let token = slot.upgrade().filter(|token| !token.is_cancelled()).unwrap_or_else(|| {
            let token = Arc::new(CancellationToken::new());
            *slot = Arc::downgrade(&token);
            token
        });
        Grant(token)
    }

    /// Ends the streams of every grant that `holds` denies; returns how many grants that were.
    pub fn recheck(&self, holds: impl Fn(&Address, &Claimed) -> bool) -> usize {
        let mut lost = 0;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(client, name), token| {
            let Some(token) = token.upgrade() else { return false };
            let keep = holds(client, name);
            if !keep {
                tracing::info!(%client, %name, "authority lost; its streams are reset");
                token.cancel();
                lost += 1;
            }
            keep
        });
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key;

    #[tokio::test]
    async fn a_lost_grant_ends_its_streams_and_a_new_one_starts_clean() {
        let grants = Grants::default();
        let wanted = |name: &str| Wanted {
            client: key(1).address(),
            name: Claimed::Label(name.parse().unwrap()),
            service: None,
        };
        let (kept, lost) = (grants.hold(&wanted("kept")), grants.hold(&wanted("lost")));
        let holds = |_: &Address, name: &Claimed| name.to_string() == "kept";
        assert_eq!(grants.recheck(holds), 1);
        lost.lost().await;
        assert!(!kept.0.is_cancelled());
        assert!(!grants.hold(&wanted("lost")).0.is_cancelled());
        drop((kept, lost));
        assert_eq!(grants.recheck(|_, _| true), 0);
        assert!(grants.0.lock().unwrap().is_empty());
    }
}
