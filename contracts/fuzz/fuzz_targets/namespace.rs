//! Runs the commands that libFuzzer spells against the namespace and checks its invariants after each: the exploration of the
//! test suite, with a better explorer.
#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../tunnel-namespace/tests/suite/exploration.rs"]
mod exploration;
#[path = "../../tunnel-namespace/tests/suite/scene.rs"]
mod scene;

libfuzzer_sys::fuzz_target!(|spelling: &[u8]| exploration::explore(tunnel_testbed::Build::Native, spelling));
