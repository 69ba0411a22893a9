//! The book on a clock of its own.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::Decision::{Displace, Seat, TurnAway};
use super::*;

const LOUD: &str = "loud";
const CALM: &str = "calm";

/// As many visits of one party, each a second older than the next.
fn fill(book: &mut Book<&'static str>, party: &'static str, count: u64, now: Instant) -> Vec<(Visit, Pulse)> {
    let visits = (0..count).map(|n| {
        let pulse = Pulse::new(now + Duration::from_secs(n));
        let (visit, decisions) = book.arrive(party, pulse.clone());
        assert_eq!(decisions, [Seat(visit)]);
        (visit, pulse)
    });
    visits.collect()
}

#[test]
fn everybody_may_have_all_places_while_they_are_free() {
    let mut book = Book::new(4);
    let now = Instant::now();
    fill(&mut book, LOUD, 4, now);
    assert_eq!(book.prospect(LOUD), Prospect::Queue(0));
    let (waiting, decisions) = book.arrive(LOUD, Pulse::new(now));
    assert_eq!(decisions, [], "nobody gives way to its own");
    assert_eq!(book.leave(LOUD, waiting), []);
}

#[test]
fn who_has_most_gives_up_the_visit_that_has_been_quiet_for_longest() {
    let mut book = Book::new(4);
    let now = Instant::now();
    let visits = fill(&mut book, LOUD, 4, now);
    // The oldest is busy; the second has said nothing since it came.
    visits[0].1.beat(now + Duration::from_secs(9));
    assert_eq!(book.prospect(CALM), Prospect::Another);
    let (first, decisions) = book.arrive(CALM, Pulse::new(now));
    assert_eq!(decisions, [Displace(visits[1].0), Seat(first)]);
    assert_eq!(book.leave(LOUD, visits[1].0), [], "it is gone already");
    // 3 and 1: one more, and both have the same; then nobody has a claim.
    let (second, decisions) = book.arrive(CALM, Pulse::new(now));
    assert_eq!(decisions, [Displace(visits[2].0), Seat(second)]);
    assert_eq!(book.prospect(CALM), Prospect::Queue(0));
    let (third, decisions) = book.arrive(CALM, Pulse::new(now));
    assert_eq!(decisions, []);
    assert_eq!(book.leave(CALM, first), [Seat(third)]);
}

#[test]
fn a_difference_of_one_is_left_alone() {
    let mut book = Book::new(3);
    let now = Instant::now();
    fill(&mut book, LOUD, 2, now);
    fill(&mut book, CALM, 1, now);
    let (_, decisions) = book.arrive(CALM, Pulse::new(now));
    assert_eq!(decisions, []);
    let (third, decisions) = book.arrive("third", Pulse::new(now));
    assert!(matches!(decisions[..], [Displace(_), Seat(seated)] if seated == third), "{decisions:?}");
}

#[test]
fn a_free_place_goes_to_who_has_fewest_and_then_to_who_came_first() {
    let mut book = Book::new(3);
    let now = Instant::now();
    let loud = fill(&mut book, LOUD, 2, now);
    let calm = fill(&mut book, CALM, 1, now);
    let (loud_waits, _) = book.arrive(LOUD, Pulse::new(now));
    let (calm_waits, _) = book.arrive(CALM, Pulse::new(now));
    assert_eq!(book.leave(LOUD, loud[0].0), [Seat(loud_waits)], "1 and 1: it came first");
    assert_eq!(book.leave(LOUD, loud[1].0), [Seat(calm_waits)].map(|seat| seat), "1 and 1 again");
    assert_eq!(book.leave(CALM, calm[0].0), []);
    assert_eq!(book.prospect(CALM), Prospect::Free(2));
}

#[test]
fn too_many_that_wait_are_turned_away_where_most_are() {
    let mut book = Book::new(2);
    let now = Instant::now();
    let loud = fill(&mut book, LOUD, 1, now);
    fill(&mut book, CALM, 1, now);
    let (first, _) = book.arrive(LOUD, Pulse::new(now));
    let (second, _) = book.arrive(LOUD, Pulse::new(now));
    let (third, decisions) = book.arrive(LOUD, Pulse::new(now));
    assert_eq!(decisions, [TurnAway(third)]);
    let (calm, decisions) = book.arrive(CALM, Pulse::new(now));
    assert_eq!(decisions, [TurnAway(second)], "not the newcomer, whose party has less");
    assert_eq!(book.leave(LOUD, loud[0].0), [Seat(first)]);
    assert_eq!(book.leave(LOUD, first), [Seat(calm)]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive(u8),
    Leave(usize),
    Beat(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..5).prop_map(Step::Arrive),
        2 => any::<usize>().prop_map(Step::Leave),
        1 => any::<usize>().prop_map(Step::Beat),
    ]
}

/// What the world knows of a visit.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Seated,
}

proptest! {
    /// Whatever comes, goes and moves: no place is idle while somebody waits, none is given twice, only who had two more
    /// gives way, each time the quietest, nobody is displaced without a newcomer, and nothing is left at the end.
    #[test]
    fn no_place_is_idle_and_none_unfair(places in 1_usize..7, steps in prop::collection::vec(step(), 1..300)) {
        let start = Instant::now();
        let mut book = Book::new(places);
        let mut visits: Vec<(Visit, u8, Pulse, State)> = Vec::new();
        let (mut arrived, mut displaced) = (0_usize, 0_usize);
        for (n, step) in steps.into_iter().enumerate() {
            let now = start + Duration::from_millis(n as u64);
            let decisions = match step {
                Step::Arrive(party) => {
                    let pulse = Pulse::new(now);
                    let (visit, decisions) = book.arrive(party, pulse.clone());
                    visits.push((visit, party, pulse, State::Waiting));
                    arrived += 1;
                    decisions
                }
                Step::Leave(at) if !visits.is_empty() => {
                    let (visit, party, ..) = visits.remove(at % visits.len());
                    book.leave(party, visit)
                }
                Step::Beat(at) if !visits.is_empty() => {
                    visits[at % visits.len()].2.beat(now);
                    vec![]
                }
                Step::Leave(_) | Step::Beat(_) => vec![],
            };
            let seats = |visits: &[(Visit, u8, Pulse, State)], party: u8| {
                visits.iter().filter(|(_, whose, _, state)| *whose == party && *state == State::Seated).count()
            };
            let mut pending: Option<(u8, usize)> = None;
            for decision in decisions {
                let (Seat(visit) | Displace(visit) | TurnAway(visit)) = decision;
                let at = visits.iter().position(|(known, ..)| *known == visit).expect("known");
                let party = visits[at].1;
                match decision {
                    Seat(_) => {
                        prop_assert_eq!(&visits[at].3, &State::Waiting);
                        if let Some((_, had)) = pending.take() {
                            prop_assert!(seats(&visits, party) + FEWER <= had, "it had a claim");
                        }
                        visits[at].3 = State::Seated;
                    }
                    Displace(_) => {
                        prop_assert_eq!(&visits[at].3, &State::Seated);
                        let had = seats(&visits, party);
                        prop_assert!((0..5).all(|other| seats(&visits, other) <= had), "it had most");
                        let quiet = |(_, whose, pulse, state): &&(Visit, u8, Pulse, State)| {
                            *whose == party && *state == State::Seated && pulse.last() < visits[at].2.last()
                        };
                        prop_assert!(!visits.iter().any(|visit| quiet(&visit)), "it was the quietest");
                        pending = Some((party, had));
                        displaced += 1;
                        visits.remove(at);
                    }
                    TurnAway(_) => {
                        prop_assert_eq!(&visits[at].3, &State::Waiting);
                        visits.remove(at);
                    }
                }
            }
            prop_assert_eq!(pending, None, "displaced for somebody");
            let taken = visits.iter().filter(|visit| visit.3 == State::Seated).count();
            let waiting = visits.len() - taken;
            prop_assert!(taken <= places && waiting <= places);
            prop_assert!(waiting == 0 || taken == places, "no place is idle");
            let most = (0..5).map(|party| seats(&visits, party)).max().unwrap();
            for (_, party, _, state) in &visits {
                prop_assert!(*state == State::Seated || seats(&visits, *party) + FEWER > most, "nobody has a claim");
            }
            prop_assert!(displaced <= arrived);
        }
        for (visit, party, ..) in visits {
            book.leave(party, visit);
        }
        prop_assert!(book.parties.is_empty() && book.taken == 0 && book.waiting == 0);
    }
}
