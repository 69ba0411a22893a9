//! The places in one connection of a client, shared fairly by those who visit: every stream holds one.
//!
//! Who gets one is decided by the [`book`]; here is what waits, and what breaks off the visit that must give way.

pub mod book;
mod pulse;
mod seated;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tunnler_transport::{OpenError, SessionStream};

pub use self::book::Prospect;
use self::book::{Book, Decision, Visit};
use self::pulse::Pulse;
pub use self::seated::Seated;
use crate::limits::shares::{Origin, Party};

/// How long a visitor waits for a place and a stream.
const PATIENCE: Duration = Duration::from_secs(2);

/// The places of one connection.
#[derive(Debug)]
pub struct Places(Mutex<State>);

#[derive(Debug)]
struct State {
    book: Book<Party>,
    /// Those that wait or have a place.
    visits: HashMap<Visit, Told>,
}

/// How a visit hears what was decided.
#[derive(Debug)]
struct Told {
    /// Taken when it is; dropped when it need not wait any longer.
    seated: Option<oneshot::Sender<()>>,
    displaced: CancellationToken,
}

/// A visit's place, or its turn to get one. Dropping it passes it on.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    party: Party,
    visit: Visit,
    pulse: Pulse,
}

impl Places {
    /// So many places, all free.
    pub fn new(places: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { book: Book::new(places), visits: HashMap::new() })))
    }

    /// What a visitor from `origin` could expect now.
    pub fn prospect(&self, origin: Origin) -> Prospect {
        self.with(|state| (state.book.prospect(origin.party()), vec![]))
    }

    /// Waits for a place and has `open` use it, both within 2 s. `displaced` is cancelled if the visit must give way:
    /// then it is to be broken off at once.
    pub async fn seat(
        self: &Arc<Self>,
        origin: Origin,
        displaced: CancellationToken,
        open: impl Future<Output = Result<SessionStream, OpenError>>,
    ) -> Result<Seated, OpenError> {
        let seating = async {
            let (place, seated) = self.arrive(origin.party(), displaced.clone());
            seated.await.map_err(|_| OpenError::Full)?;
            tokio::select! {
                opened = open => opened.map(|stream| Seated::new(stream, place, displaced.clone())),
                () = displaced.cancelled() => Err(OpenError::Full),
            }
        };
        timeout(PATIENCE, seating).await.unwrap_or(Err(OpenError::Full))
    }

    fn arrive(
        self: &Arc<Self>,
        party: Party,
        displaced: CancellationToken,
    ) -> (Place, oneshot::Receiver<()>) {
        let (seated, hears) = oneshot::channel();
        let pulse = Pulse::new(Instant::now());
        let visit = self.with(|state| {
            let (visit, decisions) = state.book.arrive(party, pulse.clone());
            state.visits.insert(visit, Told { seated: Some(seated), displaced });
            (visit, decisions)
        });
        (Place { places: self.clone(), party, visit, pulse }, hears)
    }

    /// Does something with the book, and what was decided.
    fn with<T>(&self, act: impl FnOnce(&mut State) -> (T, Vec<Decision>)) -> T {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        let (done, decisions) = act(state);
        for decision in decisions {
            match decision {
                Decision::Seat(visit) => {
                    // One that gave up meanwhile passes it on when its place is dropped.
                    let seated = state.visits.get_mut(&visit).and_then(|told| told.seated.take());
                    let _ = seated.map(|seated| seated.send(()));
                }
                Decision::Displace(visit) => {
                    metrics::counter!("tunnler_displaced_visitors_total").increment(1);
                    if let Some(told) = state.visits.remove(&visit) {
                        told.displaced.cancel();
                    }
                }
                Decision::TurnAway(visit) => drop(state.visits.remove(&visit)),
            }
        }
        done
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.with(|state| {
            state.visits.remove(&self.visit);
            ((), state.book.leave(self.party, self.visit))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Party {
        Origin::Direct(address.parse().unwrap()).party()
    }

    #[tokio::test]
    async fn nobody_waits_for_ever_and_who_gave_up_holds_nothing() {
        let places = Places::new(1);
        let (held, seated) = places.arrive(from("192.0.2.1"), CancellationToken::new());
        seated.await.unwrap();
        let never = async { unreachable!("there is no place") };
        let origin = Origin::Direct("192.0.2.2".parse().unwrap());
        let start = tokio::time::Instant::now();
        let seat = places.seat(origin, CancellationToken::new(), never).await;
        assert_eq!(seat.err(), Some(OpenError::Full));
        assert!(start.elapsed() >= PATIENCE && start.elapsed() < PATIENCE * 2, "{:?}", start.elapsed());
        assert_eq!(places.prospect(origin), Prospect::Queue(0));
        drop(held);
        assert_eq!(places.prospect(origin), Prospect::Free(0));
        assert!(places.0.lock().unwrap().visits.is_empty());
    }

    #[tokio::test]
    async fn who_must_give_way_is_told_and_the_newcomer_is_seated_at_once() {
        let places = Places::new(2);
        let told = [CancellationToken::new(), CancellationToken::new()];
        let loud = told.clone().map(|told| places.arrive(from("192.0.2.1"), told));
        loud[1].0.pulse.beat(Instant::now() + Duration::from_secs(1));
        let (newcomer, seated) = places.arrive(from("198.51.100.1"), CancellationToken::new());
        seated.await.unwrap();
        assert_eq!(told.map(|told| told.is_cancelled()), [true, false]);
        drop(loud);
        drop(newcomer);
        assert_eq!(places.prospect(Origin::Direct("192.0.2.1".parse().unwrap())), Prospect::Free(0));
    }
}
