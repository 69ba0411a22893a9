//! The edge as a whole: a visitor's TLS and HTTP against a recording upstream, all on loopback.

mod access;
#[allow(dead_code)]
mod adversary;
mod bodies;
mod files;
mod hints;
mod hostile;
mod odd_upstreams;
mod requests;
mod rig;
mod routing;
mod upgrades;
