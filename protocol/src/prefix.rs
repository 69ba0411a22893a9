//! Address prefixes: what counts as one party where many addresses may be one visitor's.
//!
//! The one place that says how long such a prefix is. Who counts what by it is for the programs.

use std::net::IpAddr;

/// How many leading bits of an address make a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// Of IPv4, 0–32.
    pub ipv4: u32,
    /// Of IPv6, 0–128.
    pub ipv6: u32,
}

/// What one site or small provider has: IPv4 /24, IPv6 /56. For shares of what all have to share, and for what
/// should not lie together.
pub const NETWORK: Lengths = Lengths { ipv4: 24, ipv6: 56 };

/// What one machine has at least: an IPv4 address, an IPv6 /64. For mistakes and manners of a single visitor.
pub const HOST: Lengths = Lengths { ipv4: 32, ipv6: 64 };

/// IPv4 addresses stand in ::ffff:0:0/96.
const MAPPED: u32 = 96;

/// A prefix. Those of the same [`Lengths`] can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix(u128);

impl Prefix {
    /// The prefix that `address` lies in. IPv4-mapped addresses count as IPv4.
    pub fn of(address: IpAddr, lengths: Lengths) -> Self {
        let (bits, length) = match address.to_canonical() {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped().to_bits(), MAPPED + lengths.ipv4.min(32)),
            IpAddr::V6(v6) => (v6.to_bits(), lengths.ipv6.min(128)),
        };
        let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
        Self(bits & mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(lengths: Lengths, a: &str, b: &str) -> bool {
        let of = |text: &str| Prefix::of(text.parse().unwrap(), lengths);
        of(a) == of(b)
    }

    #[test]
    fn a_network_is_a_24_or_a_56() {
        let same = |a, b| same(NETWORK, a, b);
        assert!(same("192.0.2.1", "192.0.2.254"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.254"));
        assert!(!same("192.0.2.1", "192.0.3.1"));
        assert!(same("2001:db8:1:200::1", "2001:db8:1:2ff:ffff::9"));
        assert!(!same("2001:db8:1:200::1", "2001:db8:1:300::1"));
        assert!(!same("0.0.0.1", "::1"));
    }

    #[test]
    fn a_host_is_an_address_or_a_64() {
        let same = |a, b| same(HOST, a, b);
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"));
        assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
    }

    #[test]
    fn lengths_at_the_ends_of_their_ranges_are_lengths() {
        let all = Lengths { ipv4: 0, ipv6: 0 };
        assert!(same(all, "192.0.2.1", "203.0.113.9") && same(all, "2001:db8::", "fe80::1"));
        let each = Lengths { ipv4: 32, ipv6: 128 };
        assert!(!same(each, "2001:db8::1", "2001:db8::2") && same(each, "2001:db8::1", "2001:db8::1"));
    }
}
