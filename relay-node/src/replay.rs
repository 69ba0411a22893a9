//! Tokens that were used: none works twice. Keyed on claims, because one token has many spellings. Pure.

use std::collections::{BTreeMap, HashSet};

use tunnler_protocol::token::{Claims, SKEW};
use tunnler_protocol::{Address, UnixSeconds};

/// Tokens remembered. A token answers a challenge that only one connection ever saw, so forgetting the one that
/// expires first opens nothing.
const MOST: usize = 65_536;

type Key = (Address, UnixSeconds, UnixSeconds, Option<String>);

/// Used tokens that could still pass the clock.
#[derive(Debug, Default)]
pub struct UsedTokens {
    used: HashSet<Key>,
    by_expiry: BTreeMap<UnixSeconds, Vec<Key>>,
}

impl UsedTokens {
    /// Marks a token as used; false when it was already.
    pub fn spend(&mut self, claims: &Claims, now: UnixSeconds) -> bool {
        while let Some(first) = self.by_expiry.first_entry() {
            if first.key().plus(SKEW) >= now && self.used.len() < MOST {
                break;
            }
            for key in first.remove() {
                self.used.remove(&key);
            }
        }
        let (sub, iat, exp, challenge) = claims.replay_key();
        let key = (sub, iat, exp, challenge.map(str::to_owned));
        if !self.used.insert(key.clone()) {
            return false;
        }
        self.by_expiry.entry(exp).or_default().push(key);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key;

    fn token(exp: u64, challenge: &str) -> Claims {
        Claims {
            iss: tunnler_protocol::token::ISSUER.into(),
            sub: key(1).address(),
            aud: key(9).address(),
            iat: UnixSeconds(100),
            services: vec![],
            exp: UnixSeconds(exp),
            challenge: Some(challenge.into()),
            role: Default::default(),
        }
    }

    #[test]
    fn a_token_works_once() {
        let mut used = UsedTokens::default();
        let now = UnixSeconds(150);
        assert!(used.spend(&token(200, "a"), now));
        assert!(!used.spend(&token(200, "a"), now));
        assert!(!used.spend(&Claims { services: vec!["web".parse().unwrap()], ..token(200, "a") }, now));
        assert!(used.spend(&token(200, "b"), now));
        assert!(!used.spend(&token(200, "a"), UnixSeconds(260)), "until the skew has passed too");
        assert!(used.spend(&token(900, "c"), UnixSeconds(261)));
        assert_eq!(used.used.len(), 1);
    }
}
