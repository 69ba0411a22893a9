//! Tokens that were used: none works twice. Keyed on claims, because one token has many spellings. Pure.

use std::collections::{BTreeMap, HashSet};

use tunnler_protocol::token::{Claims, SKEW};
use tunnler_protocol::{Address, UnixSeconds};

/// Tokens remembered of each kind.
const MOST: usize = 65_536;

type Key = (Address, UnixSeconds, UnixSeconds, Option<String>);

/// Used tokens that could still pass the clock.
#[derive(Debug, Default)]
pub struct UsedTokens {
    /// Each answers a challenge that only one connection ever saw: forgetting the one that expires first opens nothing.
    answers: Table,
    /// These anybody could use who saw them: none is forgotten, and what finds no room does not pass.
    bearer: Table,
}

#[derive(Debug, Default)]
struct Table {
    used: HashSet<Key>,
    by_expiry: BTreeMap<UnixSeconds, Vec<Key>>,
}

impl UsedTokens {
    /// Marks a token as used; false when it was already.
    pub fn spend(&mut self, claims: &Claims, now: UnixSeconds) -> bool {
        let (sub, iat, exp, challenge) = claims.replay_key();
        let table = if challenge.is_some() { &mut self.answers } else { &mut self.bearer };
        table.forget_expired(now);
        if table.used.len() >= MOST {
            if challenge.is_none() {
                return false;
            }
            table.forget_first();
        }
        table.insert((sub, iat, exp, challenge.map(str::to_owned)))
    }
}

impl Table {
    fn insert(&mut self, key: Key) -> bool {
        let new = self.used.insert(key.clone());
        if new {
            self.by_expiry.entry(key.2).or_default().push(key);
        }
        new
    }

    fn forget_expired(&mut self, now: UnixSeconds) {
        while self.by_expiry.first_key_value().is_some_and(|(exp, _)| exp.plus(SKEW) < now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        for key in self.by_expiry.pop_first().map(|(_, keys)| keys).unwrap_or_default() {
            self.used.remove(&key);
        }
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
        assert_eq!(used.answers.used.len(), 1);
    }

    #[test]
    fn a_crowd_of_logins_makes_nobody_forget_a_bearer_token() {
        let mut used = UsedTokens::default();
        let now = UnixSeconds(150);
        let answer = token(200, "a");
        let bearer = |exp| Claims { exp: UnixSeconds(exp), challenge: None, ..answer.clone() };
        assert!(used.spend(&bearer(200), now));
        for n in 0..MOST as u64 + 10 {
            assert!(used.spend(&Claims { exp: UnixSeconds(300 + n), ..answer.clone() }, now));
        }
        assert!(!used.spend(&bearer(200), now));
        assert!(used.answers.used.len() <= MOST);
        let fresh = (0..MOST as u64 + 10).filter(|n| used.spend(&bearer(1_000_000 + n), now)).count();
        assert_eq!(fresh, MOST - 1, "when there is no room, none passes");
        assert!(!used.spend(&bearer(200), now));
    }
}
