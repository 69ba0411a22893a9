//! The clients that this relay served within a day, with the newest presence it holds of each: the memory behind
//! forwarding. Bounded, and kept across restarts.
//!
//! An expired presence still counts here: it only hints at where the client may be, and that relay decides.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tunnler_protocol::instance::InstanceId;
use tunnler_protocol::presence::{Presence, Service, UnverifiedPresence};
use tunnler_protocol::{Address, UnixSeconds};

use crate::route::Wanted;

/// How long after the last visit visitors of a client are still handed on.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// Instances remembered; beyond that the one served longest ago is forgotten.
const MOST: usize = 16_384;
/// A visit later than this after the last one is news.
const GRAIN: Duration = Duration::from_secs(60);

/// Clients served lately.
#[derive(Debug, Default)]
pub struct Served(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    by_client: HashMap<Address, HashMap<InstanceId, Memory>>,
    instances: usize,
    changed: bool,
}

#[derive(Debug)]
struct Memory {
    presence: Arc<Presence>,
    at: UnixSeconds,
}

/// One instance, as written down.
#[derive(Serialize, Deserialize)]
struct Written {
    presence: String,
    at: UnixSeconds,
}

impl Served {
    /// A visitor was served under this presence.
    pub fn note(&self, presence: &Arc<Presence>, now: UnixSeconds) {
        let mut state = self.lock();
        let claims = presence.claims();
        if let Some(memory) = state.by_client.get_mut(&claims.iss).and_then(|i| i.get_mut(&claims.ins)) {
            if now.since(memory.at) < GRAIN && memory.presence.claims().seq == claims.seq {
                return;
            }
            (memory.at, memory.presence) = (now, presence.clone());
        } else {
            if state.instances >= MOST {
                state.forget_oldest();
            }
            let memory = Memory { presence: presence.clone(), at: now };
            state.by_client.entry(claims.iss).or_default().insert(claims.ins, memory);
            state.instances += 1;
        }
        state.changed = true;
    }

    /// A client published anew: where it is now is worth knowing if it was served at all.
    pub fn update(&self, presence: &Arc<Presence>) {
        let mut state = self.lock();
        let claims = presence.claims();
        if let Some(memory) = state.by_client.get_mut(&claims.iss).and_then(|i| i.get_mut(&claims.ins))
            && memory.presence.claims().seq < claims.seq
        {
            memory.presence = presence.clone();
            state.changed = true;
        }
    }

    /// The newest presence of whoever may serve `wanted`, with the service.
    pub fn newest(&self, wanted: &Wanted, now: UnixSeconds) -> Option<(Arc<Presence>, Service)> {
        let state = self.lock();
        let memories = state.by_client.get(&wanted.client)?.values();
        let fresh = memories.filter(|memory| now.since(memory.at) <= REMEMBERED);
        let able = fresh.filter_map(|memory| {
            let service = wanted.service_anywhere(memory.presence.claims())?;
            Some((&memory.presence, service))
        });
        let (presence, service) = able.max_by_key(|(presence, _)| presence.claims().seq)?;
        Some((presence.clone(), service.clone()))
    }

    /// Whether this instance is remembered.
    pub fn remembers(&self, client: &Address, ins: &InstanceId) -> bool {
        self.lock().by_client.get(client).is_some_and(|instances| instances.contains_key(ins))
    }

    /// Forgets what is older than a day.
    pub fn sweep(&self, now: UnixSeconds) {
        let mut state = self.lock();
        let before = state.instances;
        state.by_client.retain(|_, instances| {
            instances.retain(|_, memory| now.since(memory.at) <= REMEMBERED);
            !instances.is_empty()
        });
        state.instances = state.by_client.values().map(HashMap::len).sum();
        state.changed |= state.instances != before;
    }

    /// Everything, to be written down, if there is news since the last time.
    pub fn news(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        if !std::mem::take(&mut state.changed) {
            return None;
        }
        let memories = state.by_client.values().flat_map(HashMap::values);
        let written: Vec<_> = memories
            .map(|memory| Written { presence: memory.presence.text().to_string(), at: memory.at })
            .collect();
        Some(serde_json::to_vec(&written).expect("plain JSON"))
    }

    /// What was written down; presences that do not verify are left out.
    pub fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let written: Vec<Written> = serde_json::from_slice(bytes)?;
        let served = Self::default();
        for Written { presence, at } in written {
            let read = UnverifiedPresence::parse_of_any_time(&presence);
            if let Ok(presence) = read.and_then(UnverifiedPresence::verify) {
                served.note(&Arc::new(presence), at);
            }
        }
        served.lock().changed = false;
        Ok(served)
    }

    /// Every presence.
    pub fn presences(&self) -> Vec<Arc<Presence>> {
        let state = self.lock();
        let memories = state.by_client.values().flat_map(HashMap::values);
        memories.map(|memory| memory.presence.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_oldest(&mut self) {
        let all = self.by_client.iter().flat_map(|(client, instances)| {
            instances.iter().map(move |(ins, memory)| (*client, *ins, memory.at))
        });
        let Some((client, ins, _)) = all.min_by_key(|(_, _, at)| *at) else { return };
        let instances = self.by_client.get_mut(&client).expect("just seen");
        instances.remove(&ins);
        if instances.is_empty() {
            self.by_client.remove(&client);
        }
        self.instances -= 1;
    }
}

#[cfg(test)]
mod tests {
    use tunnler_protocol::UnixMillis;

    use super::*;
    use crate::route::Claimed;
    use crate::testing::{key, presence};

    const NOW: UnixSeconds = UnixSeconds(1_000_000);

    fn wanted(client: u8, name: &str) -> Wanted {
        Wanted { client: key(client).address(), name: Claimed::Label(name.parse().unwrap()), service: None }
    }

    fn signed(client: u8, ins: u8, later: u64, relay: u8) -> Arc<Presence> {
        let seq = UnixMillis(NOW.millis().0 + later);
        presence(&key(client), InstanceId([ins; 16]), seq, &["mynode"], &[key(relay).address()]).into()
    }

    fn relay_of(served: &Served, now: UnixSeconds) -> Option<Address> {
        served.newest(&wanted(1, "mynode"), now).map(|(presence, _)| presence.claims().relays[0])
    }

    #[test]
    fn only_clients_served_within_a_day_are_known_and_only_for_what_they_list() {
        let served = Served::default();
        served.update(&signed(1, 1, 0, 5));
        assert_eq!(relay_of(&served, NOW), None, "never served");
        served.note(&signed(1, 1, 0, 5), NOW);
        assert_eq!(relay_of(&served, NOW), Some(key(5).address()));
        assert!(served.newest(&wanted(1, "other"), NOW).is_none());
        assert!(served.newest(&wanted(2, "mynode"), NOW).is_none());
        served.update(&signed(1, 1, 7, 6));
        served.update(&signed(1, 1, 3, 7));
        let end = NOW.plus(REMEMBERED);
        assert_eq!(relay_of(&served, end), Some(key(6).address()), "long after it expired");
        assert_eq!(relay_of(&served, end.plus(Duration::from_secs(1))), None);
        served.sweep(end.plus(Duration::from_secs(1)));
        assert!(!served.remembers(&key(1).address(), &InstanceId([1; 16])));
    }

    #[test]
    fn it_survives_a_restart_and_forged_lines_do_not() {
        let served = Served::default();
        assert_eq!(served.news(), None);
        served.note(&signed(1, 1, 0, 5), NOW);
        let text = String::from_utf8(served.news().unwrap()).unwrap();
        assert_eq!(served.news(), None, "written once");
        let again = Served::read(text.as_bytes()).unwrap();
        assert_eq!(relay_of(&again, NOW), Some(key(5).address()));
        assert_eq!(again.presences().len(), 1);
        let (head, signature) = text.rsplit_once('.').unwrap();
        let forged = format!("{head}.{}", signature.replacen(|c: char| c.is_ascii_alphabetic(), "_", 3));
        assert!(Served::read(forged.as_bytes()).map_or(true, |served| served.presences().is_empty()));
        assert!(Served::read(b"[{").is_err());
    }

    #[test]
    fn memory_is_bounded() {
        let served = Served::default();
        let first = signed(1, 0, 0, 5);
        served.note(&first, NOW);
        let template = first.claims().clone();
        for n in 0..3_u8 {
            let claims =
                tunnler_protocol::presence::Claims { ins: InstanceId([n + 1; 16]), ..template.clone() };
            served.note(
                &Arc::new(claims.sign(&key(1)).unwrap()),
                NOW.plus(Duration::from_secs(u64::from(n) + 1)),
            );
        }
        let mut state = served.lock();
        state.forget_oldest();
        assert_eq!(state.instances, 3);
        drop(state);
        assert!(!served.remembers(&key(1).address(), &InstanceId([0; 16])));
    }
}
