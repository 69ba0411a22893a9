//! Which of the live relays are answered: at most three, of different operators and networks where that is possible,
//! and in an order that turns.

use std::sync::Arc;

use tunnler_protocol::directory::{AddressPolicy, Relay};
use tunnler_protocol::prefix::{self, Prefix};

/// Most relays in one answer.
const MOST: usize = 3;

/// Picks from `live`, the client's preference first.
pub(super) fn select(live: &[Arc<Relay>], policy: AddressPolicy) -> Vec<&Arc<Relay>> {
    let mut picked: Vec<&Arc<Relay>> = Vec::with_capacity(MOST);
    let passes: [fn(&Relay, &Relay, AddressPolicy) -> bool; 3] = [
        |a, b, policy| a.operator == b.operator || share_prefix(a, b, policy),
        |a, b, policy| share_prefix(a, b, policy),
        |_, _, _| false,
    ];
    // First only what shares neither operator nor network with those picked, then what shares no network, then any.
    for alike in passes {
        for relay in live {
            let fresh =
                !picked.iter().any(|other| other.address == relay.address || alike(other, relay, policy));
            if picked.len() < MOST && fresh {
                picked.push(relay);
            }
        }
    }
    picked
}

/// Whether two relays lie in one /24 or /56.
fn share_prefix(a: &Relay, b: &Relay, policy: AddressPolicy) -> bool {
    let network = |address| Prefix::of(address, prefix::NETWORK);
    a.addresses(policy).any(|a| b.addresses(policy).any(|b| network(a) == network(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn picked(relays: &[(u8, &str, [u8; 4])]) -> Vec<u8> {
        let live: Vec<_> = relays
            .iter()
            .map(|(n, operator, ip)| {
                let relay =
                    Relay { ipv4: Some((*ip).into()), operator: (*operator).into(), ..fixture::relay(*n) };
                (*n, Arc::new(relay))
            })
            .collect();
        let relays: Vec<_> = live.iter().map(|(_, relay)| relay.clone()).collect();
        let number =
            |relay: &Arc<Relay>| live.iter().find(|(_, other)| other.address == relay.address).unwrap().0;
        select(&relays, AddressPolicy::GlobalOnly).into_iter().map(number).collect()
    }

    #[test]
    fn operators_and_networks_are_mixed_where_possible() {
        let (near, beside, far, other) = ([9, 9, 9, 1], [9, 9, 9, 2], [8, 8, 8, 1], [7, 7, 7, 1]);
        assert_eq!(picked(&[(1, "a", near), (2, "a", beside), (3, "a", far), (4, "b", other)]), [1, 4, 3]);
        assert_eq!(picked(&[(1, "a", near), (2, "b", beside), (3, "c", far)]), [1, 3, 2]);
        assert_eq!(picked(&[(1, "a", near), (2, "a", beside)]), [1, 2], "better than one");
        assert_eq!(
            picked(&[(1, "a", near), (2, "b", far), (3, "c", other), (4, "d", [6, 6, 6, 6])]),
            [1, 2, 3]
        );
        assert_eq!(picked(&[]), [0; 0]);
    }
}
