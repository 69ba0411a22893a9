//! Who holds a place, who waits for one, and who must give one up. Pure: time comes in through [`Pulse`]s, what follows
//! goes out as [`Decision`]s.
//!
//! No place is free while somebody waits. When none is free, whoever waits for a party that has at least two fewer than
//! the one with most gets one of that party's: the visit there that has been quiet for longest. Two fewer, so that the
//! exchange never turns the tables and nothing swings back and forth. Bounded: as many may wait as there are places.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use super::pulse::Pulse;

/// By how many places a party must have fewer than another to be given one of its.
const FEWER: usize = 2;

/// One visit; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Visit(u64);

/// What follows for a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It waited and has a place now.
    Seat(Visit),
    /// It had a place and has it no more.
    Displace(Visit),
    /// It waited and need not wait any longer: too many do.
    TurnAway(Visit),
}

/// What a visitor can expect; the better is the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prospect {
    /// A free place, where so many are taken.
    Free(usize),
    /// Somebody else's place.
    Another,
    /// To wait, with so many others.
    Queue(usize),
}

impl Prospect {
    /// What tells free places, those of others and none apart, however many there are.
    pub fn kind(self) -> std::mem::Discriminant<Self> {
        std::mem::discriminant(&self)
    }
}

/// The places of one connection and the parties that share them.
#[derive(Debug)]
pub struct Book<P> {
    places: usize,
    parties: HashMap<P, Holding>,
    taken: usize,
    waiting: usize,
    next: u64,
}

/// What one party has.
#[derive(Debug, Default)]
struct Holding {
    seated: HashMap<Visit, Pulse>,
    waiting: VecDeque<(Visit, Pulse)>,
}

impl Holding {
    /// Who has been quiet for longest.
    fn quietest(&self) -> Option<Visit> {
        self.seated.iter().min_by_key(|(visit, pulse)| (pulse.last(), **visit)).map(|(visit, _)| *visit)
    }
}

impl<P: Copy + Eq + Hash> Book<P> {
    /// A book of so many places, all free.
    pub fn new(places: usize) -> Self {
        Self { places, parties: HashMap::new(), taken: 0, waiting: 0, next: 0 }
    }

    /// What a visitor of `party` could expect now.
    pub fn prospect(&self, party: P) -> Prospect {
        if self.taken < self.places {
            return Prospect::Free(self.taken);
        }
        let own = self.parties.get(&party).map_or(0, |holding| holding.seated.len());
        let most = self.parties.values().map(|holding| holding.seated.len()).max().unwrap_or(0);
        if own + FEWER <= most { Prospect::Another } else { Prospect::Queue(self.waiting) }
    }

    /// A visit of `party` begins. What is decided may concern it and others.
    pub fn arrive(&mut self, party: P, pulse: Pulse) -> (Visit, Vec<Decision>) {
        let visit = Visit(self.next);
        self.next += 1;
        self.parties.entry(party).or_default().waiting.push_back((visit, pulse));
        self.waiting += 1;
        let mut decisions = self.settle();
        if self.waiting > self.places {
            decisions.extend(self.turn_away());
        }
        (visit, decisions)
    }

    /// A visit is over, whether it had a place, waited for one, or had been decided upon already.
    pub fn leave(&mut self, party: P, visit: Visit) -> Vec<Decision> {
        let Some(holding) = self.parties.get_mut(&party) else { return vec![] };
        if holding.seated.remove(&visit).is_some() {
            self.taken -= 1;
        } else if let Some(at) = holding.waiting.iter().position(|(waiting, _)| *waiting == visit) {
            holding.waiting.remove(at);
            self.waiting -= 1;
        }
        self.forget_if_gone(party);
        self.settle()
    }

    /// Gives places to those that wait, until the rest has no claim to one.
    fn settle(&mut self) -> Vec<Decision> {
        let mut decisions = Vec::new();
        while let Some((party, own)) = self.next_in_line() {
            if self.taken >= self.places {
                let Some(displaced) = self.displace_from_more_than(own) else { break };
                decisions.push(Decision::Displace(displaced));
            }
            let holding = self.parties.get_mut(&party).expect("it waits");
            let (visit, pulse) = holding.waiting.pop_front().expect("it waits");
            holding.seated.insert(visit, pulse);
            self.waiting -= 1;
            self.taken += 1;
            decisions.push(Decision::Seat(visit));
        }
        decisions
    }

    /// The party that has fewest of those that wait, first come first served among equals; with what it has.
    fn next_in_line(&self) -> Option<(P, usize)> {
        if self.waiting == 0 {
            return None;
        }
        let claims = self.parties.iter().filter_map(|(party, holding)| {
            let (first, _) = holding.waiting.front()?;
            Some((holding.seated.len(), *first, *party))
        });
        claims.min_by_key(|(own, first, _)| (*own, *first)).map(|(own, _, party)| (party, own))
    }

    /// Takes a place from the party that has most, if that is enough more than `own`.
    fn displace_from_more_than(&mut self, own: usize) -> Option<Visit> {
        let (party, holding) = self.parties.iter_mut().max_by_key(|(_, holding)| holding.seated.len())?;
        if holding.seated.len() < own + FEWER {
            return None;
        }
        let (party, visit) = (*party, holding.quietest()?);
        holding.seated.remove(&visit);
        self.taken -= 1;
        self.forget_if_gone(party);
        Some(visit)
    }

    /// Sends the last away of the party that has and wants most.
    fn turn_away(&mut self) -> Option<Decision> {
        let waiting = self.parties.iter_mut().filter(|(_, holding)| !holding.waiting.is_empty());
        let greediest = waiting.max_by_key(|(_, holding)| {
            let last = holding.waiting.back().map(|(visit, _)| *visit);
            (holding.seated.len() + holding.waiting.len(), Reverse(last))
        });
        let (party, holding) = greediest?;
        let (party, (visit, _)) = (*party, holding.waiting.pop_back()?);
        self.waiting -= 1;
        self.forget_if_gone(party);
        Some(Decision::TurnAway(visit))
    }

    fn forget_if_gone(&mut self, party: P) {
        if self.parties.get(&party).is_some_and(|h| h.seated.is_empty() && h.waiting.is_empty()) {
            self.parties.remove(&party);
        }
    }
}

#[cfg(test)]
mod tests;
