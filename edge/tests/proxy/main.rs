//! The edge as a whole: a visitor's TLS and HTTP against a recording upstream, all on loopback.

mod adversary;
mod bodies;
mod hostile;
mod requests;
mod rig;
mod upgrades;
