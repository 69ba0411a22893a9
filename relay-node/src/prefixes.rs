//! How many connections one network has open at once: nobody alone can take every place.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tunnler_protocol::prefix::{self, Prefix};

/// Open connections by network: an IPv4 address or an IPv6 /64.
#[derive(Debug, Default)]
pub struct Prefixes(Mutex<HashMap<Prefix, usize>>);

/// One connection's place; dropping it gives the place back.
#[derive(Debug)]
pub struct Place {
    prefixes: Arc<Prefixes>,
    prefix: Prefix,
}

impl Prefixes {
    /// A place for a connection from `address`, unless its network has `most` already.
    pub fn take(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Place> {
        let prefix = Prefix::of(address, prefix::HOST);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(prefix).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { prefixes: self.clone(), prefix })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.prefixes.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = open.entry(self.prefix) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let prefixes = Arc::<Prefixes>::default();
        let address = "192.0.2.1".parse().unwrap();
        let place = prefixes.take(address, 1).unwrap();
        assert!(prefixes.take(address, 1).is_none());
        assert!(prefixes.take("192.0.2.2".parse().unwrap(), 1).is_some());
        drop(place);
        assert!(prefixes.take(address, 1).is_some());
        assert!(prefixes.0.lock().unwrap().is_empty());
    }
}
