//! Whole-system harness: starts the real programs as processes, on loopback, and looks at them from outside.
//!
//! Used by the tests of this crate and by `scripts/demo`. The one crate that knows every program.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod bench;
pub mod demo;
pub mod hostile;
pub mod load;
pub mod pebble;
pub mod ports;
pub mod process;
pub mod sni;
pub mod soak;
pub mod visitor;
pub mod web;

pub mod world;
