//! The program `tunnler`. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tunnler_transport::tls::install_provider();
    tunnler_transport::keep_freed_memory();
    tunnler::cli::main()
}
