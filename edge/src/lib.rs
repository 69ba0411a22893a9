//! The edge: whoever ends a visitor's TLS speaks HTTP for the service behind it.
//!
//! One implementation for the client (pass mode) and the relay (term mode): TLS with one certificate per host
//! ([`tls`], [`certificate`]), certificates from ACME by DNS-01 ([`acme`], [`propagation`]), and a streaming reverse
//! proxy that is hard to smuggle through ([`proxy`]). Knows nothing of relays, sessions or ledgers.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod acme;
pub mod certificate;
pub mod https;
pub mod propagation;
pub mod proxy;
pub mod question;
pub mod store;
pub mod tls;

pub use certificate::{Certificate, Certificates};
pub use proxy::{Site, Upstream, Visitor};
pub use store::Store;
