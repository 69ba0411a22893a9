//! The `tunnler-relay` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Two providers are compiled in; without a default rustls panics. An error means that one is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tunnler_transport::keep_freed_memory();
    tunnler_relay::cli::main()
}
