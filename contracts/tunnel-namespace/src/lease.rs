//! How long a name is whose: phases, expiry and fees. Pure: `now` is passed in.

use crate::error::Error;
use crate::types::{Fees, NameRecord};

/// Seconds of a year, of 365 days.
const YEAR: u64 = 365 * 24 * 60 * 60;
/// The furthest an expiry can be away, in years.
const YEARS_MAX: u32 = 5;

/// Where a name is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// It resolves, unless suspended.
    Live,
    /// It no longer resolves; only renewal and release are possible.
    Grace,
    /// Anybody can register it.
    Lapsed,
}

impl NameRecord {
    /// Where the name is in its life at `now`, in Unix seconds.
    pub fn phase(&self, now: u64) -> Phase {
        if now < self.expires_at {
            Phase::Live
        } else if now < self.expires_at.saturating_add(self.grace) {
            Phase::Grace
        } else {
            Phase::Lapsed
        }
    }

    /// Fails unless the name is live.
    pub fn require_live(&self, now: u64) -> Result<(), Error> {
        match self.phase(now) {
            Phase::Live => Ok(()),
            Phase::Grace => Err(Error::NameExpired),
            Phase::Lapsed => Err(Error::NameLapsed),
        }
    }

    /// Fails when the name is suspended.
    pub fn require_unsuspended(&self) -> Result<(), Error> {
        if self.suspended.is_some() { Err(Error::NameSuspended) } else { Ok(()) }
    }
}

/// The expiry of a lease of `years` that begins at `from`.
pub fn expiry(now: u64, from: u64, years: u32) -> Result<u64, Error> {
    let expires_at = from.saturating_add(u64::from(years).saturating_mul(YEAR));
    let furthest = now.saturating_add(u64::from(YEARS_MAX) * YEAR);
    if years == 0 || expires_at > furthest { Err(Error::BadYears) } else { Ok(expires_at) }
}

/// What a label of `length` characters costs for `years`. Cannot overflow: years are at most five here, and yearly
/// fees at most 2^96, so the plain product spares the contract the long checked one.
pub fn fee(fees: &Fees, length: u32, years: u32) -> i128 {
    let yearly = match length {
        ..=3 => fees.three,
        4 => fees.four,
        _ => fees.longer,
    };
    yearly.wrapping_mul(i128::from(years))
}
