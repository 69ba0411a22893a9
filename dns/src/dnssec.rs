//! DNSSEC with keys online (RFC 4033–4035, algorithm 13): answers are signed when they are first asked for.
//!
//! [`keys`] are the zone's keys and their states, [`denial`] says what is not there (RFC 9824), [`Signer`] signs and
//! remembers. Nothing here decides what an answer is.

pub mod denial;
pub mod keys;
pub mod rollover;
mod sign;

pub use sign::{Fresh, MustWait, Signer};
