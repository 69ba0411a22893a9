//! Why a steward's call fails. Codes 10–29, stable for ever.

use soroban_sdk::contracterror;

/// Expected failures of the steward's calls.
#[contracterror]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum StewardError {
    /// Nothing has been announced that could be executed or cancelled.
    NothingAnnounced = 10,
    /// The seven days of notice are not over.
    NoticeNotOver = 11,
}
