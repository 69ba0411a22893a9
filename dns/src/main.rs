//! The `tunnler-dns` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tunnler_transport::tls::install_provider();
    tunnler_dns::cli::main()
}
