//! Why the registry says no. Codes 100–149, stable for ever; the steward's are 10–29, OpenZeppelin's pause 1000–1001.

use soroban_sdk::contracterror;

/// Expected failures of the registry's calls.
#[contracterror]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Error {
    /// No relay is registered under this key.
    UnknownRelay = 100,
    /// A relay is already registered under this key.
    RelayTaken = 101,
    /// A relay key must be an Ed25519 account (G…).
    NotAnAccount = 102,
    /// The stake is below the least stake.
    StakeTooSmall = 103,
    /// The operator has as many relays as one operator may have.
    OperatorCap = 104,
    /// The relay is being unbonded; only `withdraw` is left.
    Unbonding = 105,
    /// The relay has not been deregistered.
    NotUnbonding = 106,
    /// The stake is still locked; see `unbonding_until`.
    StakeLocked = 107,
    /// The relay is already delisted.
    AlreadyDelisted = 108,
    /// The relay is not delisted.
    NotDelisted = 109,
    /// A port outside 1..=65535.
    BadPort = 110,
    /// Neither IPv4 nor IPv6, or an unspecified address.
    BadAddress = 111,
    /// Not a DNS name in lower case, or too long.
    BadHost = 112,
    /// Not 1..=16 of a-z, 0-9 and hyphen.
    BadRegion = 113,
    /// A capacity outside 1..=1,000,000.
    BadCapacity = 114,
    /// Not a CAA issuer domain, or too long.
    BadIssuer = 115,
    /// Not an https URI that may stand in CAA, too long, or more than one account.
    BadAccount = 116,
    /// Not an https URI, or too long.
    BadTerms = 117,
    /// A configuration value outside its range.
    BadConfig = 118,
    /// The token is fixed at construction.
    TokenFixed = 119,
    /// A page starts beyond the end.
    PageStart = 120,
    /// A page limit outside 1..=20.
    PageLimit = 121,
    /// A reason is 1..=32 printable ASCII characters.
    BadReason = 122,
}
