//! How many orders a relay opens, in all and for one client: pure arithmetic on times, kept on disk.
//!
//! A CA allows 300 new orders in three hours per account, and a zone's names share its other limits; a client that
//! declares ever new services must not use up what belongs to all.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tunnler_protocol::{Address, UnixSeconds};

/// Orders in all: so many at once, and then one in so many seconds. 100 + 3 h / 60 s stays below 300.
const ALL: Rate = Rate { burst: 100, refill: 60 };
/// Orders for one client.
const CLIENT: Rate = Rate { burst: 10, refill: 6 * 3600 };

/// What may be spent.
#[derive(Clone, Copy)]
struct Rate {
    burst: u64,
    /// Seconds.
    refill: u64,
}

/// What was spent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    all: Spent,
    #[serde(default)]
    clients: BTreeMap<Address, Spent>,
}

/// The moment at which everything may be spent again, in Unix seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Spent(u64);

impl Budget {
    /// Takes one order for `client` out of the budget, or says how long there is none.
    pub fn spend(&mut self, client: Address, now: UnixSeconds) -> Result<(), Duration> {
        self.clients.retain(|_, spent| spent.0 > now.0);
        let own = self.clients.get(&client).copied().unwrap_or_default();
        let (all, own) = match (self.all.one_more(ALL, now), own.one_more(CLIENT, now)) {
            (Ok(all), Ok(own)) => (all, own),
            (Err(all), Err(own)) => return Err(all.max(own)),
            (Err(wait), _) | (_, Err(wait)) => return Err(wait),
        };
        self.all = all;
        self.clients.insert(client, own);
        Ok(())
    }
}

impl Spent {
    fn one_more(self, rate: Rate, now: UnixSeconds) -> Result<Self, Duration> {
        let whole = rate.burst * rate.refill;
        // A clock that was ahead costs one burst at most.
        let from = self.0.clamp(now.0, now.0 + whole);
        let full = from + rate.refill;
        match full.checked_sub(now.0 + whole) {
            None | Some(0) => Ok(Self(full)),
            Some(wait) => Err(Duration::from_secs(wait)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key;

    /// Orders that `clients` get in `seconds` when they want one each minute.
    fn orders(budget: &mut Budget, clients: u8, seconds: u64) -> Vec<u64> {
        let clients: Vec<Address> = (1..=clients).map(|seed| key(seed).address()).collect();
        let mut made = Vec::new();
        for now in (1_000_000..1_000_000 + seconds).step_by(60) {
            let spent = clients.iter().filter(|client| budget.spend(**client, UnixSeconds(now)).is_ok());
            made.extend(spent.map(|_| now));
        }
        made
    }

    #[test]
    fn a_week_of_new_services_stays_within_a_clients_share() {
        let made = orders(&mut Budget::default(), 1, 7 * 86_400);
        assert!((10 + 27..=10 + 28).contains(&made.len()), "{}", made.len());
    }

    #[test]
    fn no_three_hours_see_more_orders_than_the_ca_takes() {
        let made = orders(&mut Budget::default(), 150, 86_400);
        for start in &made {
            let within = made.iter().filter(|at| (*start..start + 3 * 3600).contains(at)).count();
            assert!(within <= 300, "{within} orders within three hours");
        }
        assert!(made.len() > 1400, "{}", made.len());
    }

    #[test]
    fn a_refusal_says_when_and_a_jump_of_the_clock_costs_a_burst_at_most() {
        let (mut budget, client, now) = (Budget::default(), key(1).address(), UnixSeconds(1_000_000_000));
        while budget.spend(client, now).is_ok() {}
        let wait = budget.spend(client, now).unwrap_err();
        assert_eq!(budget.spend(client, now.plus(wait)), Ok(()));
        let kept: Budget = serde_json::from_str(&serde_json::to_string(&budget).unwrap()).unwrap();
        assert_eq!(kept, budget);
        let past = UnixSeconds(1000);
        let wait = budget.spend(client, past).unwrap_err();
        assert!(wait <= Duration::from_secs(10 * 6 * 3600));
    }
}
