//! Ports of TCP services: candidates that every party computes alike, and how a client settles on one (DESIGN §9).

use sha2::{Digest, Sha256};

use crate::address::Address;
use crate::name::ServiceName;

mod agreement;

pub use agreement::Agreement;

/// First port of the range that relays open for TCP services.
pub const FIRST: u16 = 20_000;
/// Number of ports in the range.
pub const COUNT: u16 = 10_000;
/// Number of candidates per service.
pub const CANDIDATES: u8 = 8;

const TAG: &[u8] = b"tunnler/v1/port\0";

/// The candidate ports of a service in order of preference. They may repeat.
pub fn candidates(client: &Address, service: &ServiceName) -> [u16; CANDIDATES as usize] {
    std::array::from_fn(|i| {
        let digest = Sha256::new()
            .chain_update(TAG)
            .chain_update(client.as_bytes())
            .chain_update(service.as_str())
            .chain_update([i as u8])
            .finalize();
        let number = digest[..8].iter().fold(0_u64, |acc, byte| acc << 8 | u64::from(*byte));
        FIRST + (number % u64::from(COUNT)) as u16
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn golden_candidates() {
        let client = crate::SecretKey::from_seed(&[1; 32]).address();
        let ports = super::candidates(&client, &"ssh".parse().unwrap());
        assert!(ports.iter().all(|port| (20_000..30_000).contains(port)));
        assert_eq!(ports, super::candidates(&client, &"ssh".parse().unwrap()));
        assert_ne!(ports, super::candidates(&client, &"web".parse().unwrap()));
        assert_eq!(ports[..2], GOLDEN);
    }

    const GOLDEN: [u16; 2] = [21376, 21652];
}
