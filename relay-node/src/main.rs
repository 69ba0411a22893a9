//! The `tunnler-relay` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tunnler_transport::tls::install_provider();
    tunnler_transport::keep_freed_memory();
    tunnler_relay::cli::main()
}
