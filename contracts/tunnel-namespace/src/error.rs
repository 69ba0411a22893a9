//! Why the namespace says no. Codes 200–249, stable for ever; the steward's are 10–29, OpenZeppelin's pause 1000–1001.

use soroban_sdk::contracterror;

/// Expected failures of the namespace's calls.
#[contracterror]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Error {
    /// Nobody ever registered this label.
    UnknownName = 200,
    /// The name is live, or in the grace period of its owner.
    NameTaken = 201,
    /// The name has expired; it can be renewed until its grace period ends.
    NameExpired = 202,
    /// The name's grace period is over, or it was released; it can only be registered anew.
    NameLapsed = 203,
    /// The name is suspended.
    NameSuspended = 204,
    /// The name is not suspended.
    NotSuspended = 205,
    /// The name points to no target.
    NoTarget = 206,
    /// A target or an allowed relay must be an Ed25519 account (G…).
    NotAnAccount = 207,
    /// The owner holds as many names as one owner may hold.
    OwnerCap = 208,
    /// Years outside 1..=5, or an expiry more than five years away.
    BadYears = 209,
    /// A name cannot be transferred to its own owner.
    SelfTransfer = 210,
    /// The name does not point to this target.
    NotTheTarget = 211,
    /// More than 8 allowed relays, or one of them twice.
    BadRelays = 212,
    /// A label shorter than 3 characters.
    LabelTooShort = 213,
    /// A label longer than 63 characters.
    LabelTooLong = 214,
    /// A label with something else than a-z, 0-9 and hyphen.
    LabelCharacter = 215,
    /// A label with a leading, trailing or doubled hyphen.
    LabelHyphen = 216,
    /// A label of the shape of a Stellar address.
    LabelAddress = 217,
    /// A label that no zone gives away, or that the admin set aside.
    LabelReserved = 218,
    /// The label is not reserved.
    NotReserved = 219,
    /// No commitment of this owner to this name, target and salt.
    NoCommitment = 220,
    /// The commitment is younger than 12 ledgers.
    CommitmentTooYoung = 221,
    /// The commitment is older than 17,280 ledgers.
    CommitmentTooOld = 222,
    /// Registration here needs a commitment: pass its salt.
    SaltMissing = 223,
    /// Not a DNS name in lower case, a name below the zone, or too long.
    BadDomain = 224,
    /// The domain is already mapped to this name.
    DomainTaken = 225,
    /// The domain is not mapped to this name.
    UnknownDomain = 226,
    /// A name maps at most 4 domains.
    DomainCap = 227,
    /// A configuration value outside its range.
    BadConfig = 228,
    /// The token is fixed at construction.
    TokenFixed = 229,
    /// A page starts beyond the end.
    PageStart = 230,
    /// A page limit outside 1..=20.
    PageLimit = 231,
    /// A reason is 1..=32 printable ASCII characters.
    BadReason = 232,
    /// A withdrawal of fees must be of more than nothing.
    BadAmount = 233,
}
