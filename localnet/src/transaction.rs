//! Transactions: what they are, whether the network takes them, and what they do.

pub(crate) mod apply;
pub(crate) mod check;
pub(crate) mod envelope;
pub(crate) mod outcome;
pub(crate) mod signatures;

pub(crate) use envelope::Envelope;
