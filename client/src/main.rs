//! The program `tunnler`. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Two TLS providers are compiled in by dependencies; without a default rustls would panic.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("error: a TLS provider is already installed");
        return ExitCode::FAILURE;
    }
    tunnler_transport::keep_freed_memory();
    tunnler::cli::main()
}
