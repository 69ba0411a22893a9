//! DNS messages on the wire: which packets become queries, and how answers are encoded (RFC 1035, 6891, 8906).
//!
//! Pure. Parsing is hickory's; what is checked before it, and every size, is decided here. Knows no zone.

mod query;
mod reply;

pub use query::{Edns, Query, Received, receive};
pub use reply::{Limit, Reply, encode, truncated};
