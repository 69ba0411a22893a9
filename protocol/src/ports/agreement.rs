//! Settling on one port for each TCP service that all relays of a client grant: a pure state machine (DESIGN §9).
//!
//! The first candidate that no relay in use has refused is asked of all of them. Once enough relays grant it, it is
//! settled and does not move any more: visitors wrote it down. A relay that refuses what another one grants is told to
//! be unsuitable; never the last one that serves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::candidates;
use crate::address::Address;
use crate::control::PortGrant;
use crate::name::ServiceName;

/// A relay that has not answered by then has refused.
const ANSWER: Duration = Duration::from_secs(10);
/// Relays hold a port for a week after it was asked for; it is asked for again long before.
const AGAIN: Duration = Duration::from_secs(6 * 3600);

/// Which port each TCP service has, and what each relay says about it.
#[derive(Debug)]
pub struct Agreement {
    /// Relays that must grant a port before it is settled.
    enough: usize,
    services: Vec<Wanted>,
    relays: BTreeMap<Address, Relay>,
}

#[derive(Debug)]
struct Wanted {
    service: ServiceName,
    candidates: Vec<u16>,
    settled: Option<u16>,
}

#[derive(Debug, Default)]
struct Relay {
    granted: BTreeMap<ServiceName, u16>,
    refused: BTreeSet<(ServiceName, u16)>,
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    wishes: Vec<PortGrant>,
    at: Instant,
    answered: bool,
}

impl Agreement {
    /// Nothing is agreed yet. `kept` are ports that were settled in an earlier run; `enough` relays settle a port.
    pub fn new(
        client: &Address,
        services: impl IntoIterator<Item = ServiceName>,
        kept: &BTreeMap<ServiceName, u16>,
        enough: usize,
    ) -> Self {
        let services = services.into_iter().map(|service| {
            let candidates: Vec<u16> = candidates(client, &service).into();
            let settled = kept.get(&service).copied().filter(|port| candidates.contains(port));
            Wanted { service, candidates, settled }
        });
        Self { enough: enough.max(1), services: services.collect(), relays: BTreeMap::new() }
    }

    /// A session with `relay` began.
    pub fn attached(&mut self, relay: Address) {
        self.relays.insert(relay, Relay::default());
    }

    /// It is over.
    pub fn detached(&mut self, relay: &Address) {
        self.relays.remove(relay);
    }

    /// The relay says what it grants.
    pub fn answered(&mut self, relay: &Address, grants: &[PortGrant]) {
        let Some(answering) = self.relays.get_mut(relay) else { return };
        let Some(asked) = answering.asked.as_mut().filter(|asked| !asked.answered) else { return };
        asked.answered = true;
        for wish in &asked.wishes {
            if grants.contains(wish) {
                answering.granted.insert(wish.service.clone(), wish.port);
            } else {
                answering.granted.remove(&wish.service);
                answering.refused.insert((wish.service.clone(), wish.port));
            }
        }
        self.settle();
    }

    /// The next question to ask: of whom, and for which ports.
    pub fn poll_ask(&mut self, now: Instant) -> Option<(Address, Vec<PortGrant>)> {
        self.give_up_waiting(now);
        let wishes = self.wishes();
        if wishes.is_empty() {
            return None;
        }
        for (address, relay) in &mut self.relays {
            let waiting = relay.asked.as_ref().is_some_and(|asked| !asked.answered);
            let has = |wish: &PortGrant| relay.granted.get(&wish.service) == Some(&wish.port);
            let refused = |wish: &PortGrant| relay.refused.contains(&(wish.service.clone(), wish.port));
            let open = wishes.iter().any(|wish| !has(wish) && !refused(wish));
            let due = relay.asked.as_ref().is_none_or(|asked| now >= asked.at + AGAIN);
            if !waiting && (open || due) {
                relay.asked = Some(Asked { wishes: wishes.clone(), at: now, answered: false });
                return Some((*address, wishes));
            }
        }
        None
    }

    /// The port of a service, as soon as one relay grants it.
    pub fn port(&self, service: &ServiceName) -> Option<u16> {
        let wanted = self.services.iter().find(|wanted| wanted.service == *service)?;
        let port = self.aim(wanted);
        self.granting(wanted, port).next().map(|_| port)
    }

    /// Ports that do not move any more, to be kept for the next run.
    pub fn settled(&self) -> BTreeMap<ServiceName, u16> {
        let settled = self.services.iter();
        settled.filter_map(|wanted| Some((wanted.service.clone(), wanted.settled?))).collect()
    }

    /// Relays that refuse a port which another relay in use grants.
    pub fn unsuitable(&self) -> Vec<Address> {
        let refuses = |relay: &Relay| {
            self.services.iter().any(|wanted| {
                let port = self.aim(wanted);
                relay.refused.contains(&(wanted.service.clone(), port))
                    && self.granting(wanted, port).next().is_some()
            })
        };
        self.relays.iter().filter(|(_, relay)| refuses(relay)).map(|(address, _)| *address).collect()
    }

    fn wishes(&self) -> Vec<PortGrant> {
        let wish = |wanted: &Wanted| PortGrant { service: wanted.service.clone(), port: self.aim(wanted) };
        self.services.iter().map(wish).collect()
    }

    /// The port to aim at: what is settled, else the candidate that fewest relays refuse, the first of those.
    fn aim(&self, wanted: &Wanted) -> u16 {
        let refusals = |port: &u16| {
            let refused = (wanted.service.clone(), *port);
            self.relays.values().filter(|relay| relay.refused.contains(&refused)).count()
        };
        let best = || wanted.candidates.iter().copied().min_by_key(refusals);
        wanted.settled.or_else(best).unwrap_or(super::FIRST)
    }

    fn granting(&self, wanted: &Wanted, port: u16) -> impl Iterator<Item = &Address> {
        let granted = self.relays.iter();
        granted
            .filter(move |(_, relay)| relay.granted.get(&wanted.service) == Some(&port))
            .map(|(address, _)| address)
    }

    fn settle(&mut self) {
        for at in 0..self.services.len() {
            let wanted = &self.services[at];
            let port = self.aim(wanted);
            let granted = self.granting(wanted, port).count();
            let refused = (wanted.service.clone(), port);
            let nobody =
                !self.relays.is_empty() && self.relays.values().all(|relay| relay.refused.contains(&refused));
            self.services[at].settled = match self.services[at].settled {
                // Taken by somebody else everywhere meanwhile: there is nothing left to hold on to.
                Some(_) if nobody => None,
                Some(port) => Some(port),
                None => (granted >= self.enough).then_some(port),
            };
        }
    }

    fn give_up_waiting(&mut self, now: Instant) {
        let silent = |(address, relay): (&Address, &Relay)| {
            let asked = relay.asked.as_ref()?;
            (!asked.answered && now >= asked.at + ANSWER).then_some(*address)
        };
        let silent: Vec<Address> = self.relays.iter().filter_map(silent).collect();
        for relay in silent {
            self.answered(&relay, &[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::SecretKey;

    fn relay(n: u8) -> Address {
        SecretKey::from_seed(&[n; 32]).address()
    }

    fn ssh() -> ServiceName {
        "ssh".parse().unwrap()
    }

    fn agreement(kept: Option<u16>) -> (Agreement, [u16; 8]) {
        let client = relay(100);
        let kept = kept.map(|port| (ssh(), port)).into_iter().collect();
        (Agreement::new(&client, [ssh()], &kept, 2), candidates(&client, &ssh()))
    }

    /// Asks until nobody is to be asked; each relay grants what is not in its list of taken ports.
    fn negotiate(agreement: &mut Agreement, taken: &BTreeMap<Address, Vec<u16>>, now: Instant) -> usize {
        let mut questions = 0;
        while let Some((relay, wishes)) = agreement.poll_ask(now) {
            questions += 1;
            assert!(questions < 100, "no end of questions");
            let free = |wish: &PortGrant| !taken.get(&relay).is_some_and(|ports| ports.contains(&wish.port));
            let grants: Vec<PortGrant> = wishes.into_iter().filter(free).collect();
            agreement.answered(&relay, &grants);
        }
        questions
    }

    #[test]
    fn the_first_port_that_both_relays_grant_is_settled_and_stays() {
        let now = Instant::now();
        let (mut it, ports) = agreement(None);
        let taken = BTreeMap::from([(relay(1), vec![ports[0]]), (relay(2), vec![ports[1]])]);
        it.attached(relay(1));
        negotiate(&mut it, &taken, now);
        assert_eq!(it.port(&ssh()), Some(ports[1]), "usable with one relay");
        assert!(it.settled().is_empty(), "but one relay does not settle it");
        it.attached(relay(2));
        negotiate(&mut it, &taken, now);
        assert_eq!(it.port(&ssh()), Some(ports[2]));
        assert_eq!(it.settled(), BTreeMap::from([(ssh(), ports[2])]));
        assert!(it.unsuitable().is_empty());
        // A third one cannot: it goes, the port stays.
        it.attached(relay(3));
        negotiate(&mut it, &BTreeMap::from([(relay(3), vec![ports[2]])]), now);
        assert_eq!(it.port(&ssh()), Some(ports[2]));
        assert_eq!(it.unsuitable(), [relay(3)]);
        it.detached(&relay(3));
        assert!(it.unsuitable().is_empty());
        assert_eq!(negotiate(&mut it, &taken, now), 0, "nothing more to ask");
        assert_eq!(negotiate(&mut it, &taken, now + AGAIN), 2, "held for another week");
    }

    #[test]
    fn a_kept_port_comes_first_and_is_given_up_only_when_nobody_grants_it() {
        let now = Instant::now();
        let (_, ports) = agreement(None);
        let (mut it, _) = agreement(Some(ports[5]));
        it.attached(relay(1));
        negotiate(&mut it, &BTreeMap::new(), now);
        assert_eq!(it.port(&ssh()), Some(ports[5]));
        let (mut it, _) = agreement(Some(ports[5]));
        it.attached(relay(1));
        negotiate(&mut it, &BTreeMap::from([(relay(1), vec![ports[5]])]), now);
        assert_eq!(it.port(&ssh()), Some(ports[0]));
        let (it, _) = agreement(Some(1));
        assert!(it.settled().is_empty(), "no candidate");
    }

    #[test]
    fn silence_is_a_refusal_and_unasked_answers_mean_nothing() {
        let now = Instant::now();
        let (mut it, ports) = agreement(None);
        it.attached(relay(1));
        it.answered(&relay(1), &[PortGrant { service: ssh(), port: ports[0] }]);
        assert_eq!(it.port(&ssh()), None);
        assert!(it.poll_ask(now).is_some());
        assert!(it.poll_ask(now).is_none());
        let (_, wishes) = it.poll_ask(now + ANSWER).expect("the next candidate");
        assert_eq!(wishes[0].port, ports[1]);
        // All refuse everything: no port, and the only relay is not sent away for it.
        negotiate(&mut it, &BTreeMap::from([(relay(1), ports.to_vec())]), now + ANSWER);
        assert_eq!(it.port(&ssh()), None);
        assert!(it.unsuitable().is_empty());
    }

    proptest! {
        /// Whatever is taken: questions end, a settled port is granted by enough relays, and someone always stays.
        #[test]
        fn it_ends_and_agrees(taken in proptest::collection::vec(proptest::collection::vec(0_usize..8, 0..8), 1..4)) {
            let (mut it, ports) = agreement(None);
            let now = Instant::now();
            let taken: BTreeMap<Address, Vec<u16>> = (1_u8..)
                .zip(&taken)
                .map(|(n, taken)| (relay(n), taken.iter().map(|i| ports[*i]).collect()))
                .collect();
            taken.keys().for_each(|relay| it.attached(*relay));
            negotiate(&mut it, &taken, now);
            prop_assert!(it.unsuitable().len() < taken.len());
            let common = ports.iter().find(|port| taken.values().all(|taken| !taken.contains(port)));
            if let Some(common) = common.filter(|_| taken.len() == 2) {
                prop_assert_eq!(it.settled(), BTreeMap::from([(ssh(), *common)]));
            }
            if let Some(port) = it.port(&ssh()) {
                prop_assert!(taken.values().any(|taken| !taken.contains(&port)));
            }
        }
    }
}
