//! Which client's service has which port. Pure but for the opening of a port, which the caller does.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use tunnler_protocol::{Address, ServiceName, UnixSeconds, ports};

use crate::memory::HeldPort;

/// How long a port is held for a service after it was last asked for.
const HELD: Duration = Duration::from_secs(7 * 24 * 3600);
/// Asked for again after this long is worth writing down.
const GRAIN: Duration = Duration::from_secs(3600);
/// Ports of one client.
const MOST_OF_ONE: usize = 16;
/// Ports of all clients.
const MOST: usize = 4096;

/// The ports in use; `P` stands for an open port.
#[derive(Debug)]
pub struct Book<P> {
    held: HashMap<u16, Held<P>>,
    changed: bool,
}

#[derive(Debug)]
struct Held<P> {
    client: Address,
    service: ServiceName,
    asked_at: UnixSeconds,
    open: P,
}

impl<P> Default for Book<P> {
    fn default() -> Self {
        Self { held: HashMap::new(), changed: false }
    }
}

impl<P> Book<P> {
    /// Grants `port` if it is a candidate of the service and free, or its own already.
    pub fn grant(
        &mut self,
        client: Address,
        service: &ServiceName,
        port: u16,
        now: UnixSeconds,
        open: impl FnOnce() -> io::Result<P>,
    ) -> bool {
        if !ports::candidates(&client, service).contains(&port) {
            return false;
        }
        if let Some(held) = self.held.get_mut(&port) {
            let own = held.client == client && held.service == *service;
            if own {
                // Written down now and then: a week needs no second.
                self.changed |= now.since(held.asked_at) > GRAIN;
                held.asked_at = now;
            }
            return own;
        }
        let own = self.held.values().filter(|held| held.client == client).count();
        if own >= MOST_OF_ONE || self.held.len() >= MOST {
            return false;
        }
        let Ok(open) = open() else { return false };
        self.held.insert(port, Held { client, service: service.clone(), asked_at: now, open });
        self.changed = true;
        true
    }

    /// Whose port it is.
    pub fn holder(&self, port: u16) -> Option<(Address, ServiceName)> {
        self.held.get(&port).map(|held| (held.client, held.service.clone()))
    }

    /// Takes back the ports whose time is over.
    pub fn sweep(&mut self, now: UnixSeconds) -> Vec<P> {
        let over = self.held.extract_if(|_, held| now.since(held.asked_at) > HELD);
        let over: Vec<_> = over.map(|(_, held)| held.open).collect();
        self.changed |= !over.is_empty();
        over
    }

    /// Every port, if that changed since the last call.
    pub fn changed(&mut self) -> Option<Vec<HeldPort>> {
        let port = |(port, held): (&u16, &Held<P>)| HeldPort {
            port: *port,
            client: held.client,
            service: held.service.clone(),
            asked_at: held.asked_at,
        };
        std::mem::take(&mut self.changed).then(|| self.held.iter().map(port).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key;

    #[test]
    fn a_port_is_held_for_one_service_for_a_week() {
        let mut book = Book::default();
        let (client, service) = (key(1).address(), "ssh".parse::<ServiceName>().unwrap());
        let [first, second, ..] = ports::candidates(&client, &service);
        let start = UnixSeconds(1_000_000);
        let week = UnixSeconds(1_000_000 + HELD.as_secs());
        let fails = || Err(io::Error::from(io::ErrorKind::AddrInUse));
        assert!(!book.grant(client, &service, first, start, fails), "another program has it");
        assert!(book.grant(client, &service, first, start, || Ok(1)));
        assert!(book.grant(client, &service, first, week, || Ok(2)), "its own");
        assert!(!book.grant(client, &"web".parse().unwrap(), first, start, || Ok(3)), "no candidate");
        assert!(!book.grant(key(2).address(), &service, second, start, || Ok(4)), "no candidate");
        assert_eq!(book.holder(first), Some((client, service.clone())));
        let held = HeldPort { port: first, client, service: service.clone(), asked_at: week };
        assert_eq!(book.changed(), Some(vec![held]));
        assert_eq!(book.changed(), None);
        assert!(book.sweep(week).is_empty(), "asked for again");
        assert_eq!(book.sweep(week.plus(HELD + Duration::from_secs(1))), [1]);
        assert_eq!(book.holder(first), None);
        assert_eq!(book.changed(), Some(vec![]));
    }

    #[test]
    fn one_client_cannot_take_all_ports() {
        let mut book = Book::default();
        let client = key(1).address();
        let mut granted = 0;
        for n in 0..40 {
            let service = format!("service-{n}").parse::<ServiceName>().unwrap();
            let port = ports::candidates(&client, &service)[0];
            granted += usize::from(book.grant(client, &service, port, UnixSeconds(0), || Ok(())));
        }
        assert_eq!(granted, MOST_OF_ONE);
    }
}
