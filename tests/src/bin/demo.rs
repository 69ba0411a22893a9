//! `scripts/demo`: the main job, end to end, on this machine. Thin: the story is in `tunnler_tests::demo`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tunnler_tests::demo::{self, Options};

/// Publishes a web server of this machine through two relays found on chain, then kills the relay in use.
#[derive(Parser)]
#[command(name = "scripts/demo")]
struct Arguments {
    /// Leave everything running and print how to look around (until Ctrl-C).
    #[arg(long)]
    keep: bool,
    /// The short version for continuous integration: fewer seconds of visits, same steps.
    #[arg(long)]
    smoke: bool,
    /// Print the report as JSON on standard output instead of a table.
    #[arg(long)]
    json: bool,
    /// Where state, keys and logs go (default: a new temporary directory, removed at the end).
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    tunnler_transport::tls::install_provider();
    let arguments = Arguments::parse();
    let options =
        Options { keep: arguments.keep, smoke: arguments.smoke, json: arguments.json, dir: arguments.dir };
    match demo::run(options).await {
        Ok(report) if report.passed() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
