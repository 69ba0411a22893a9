//! `scripts/soak failover` and `scripts/soak hour`: a whole network for a long time. Thin: see `tunnler_tests::soak`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tunnler_tests::process::Scratch;
use tunnler_tests::soak::{failover, hour};

/// Long runs of a whole network on this machine. JSON lines on standard output; 0 only if the bars hold.
#[derive(Parser)]
#[command(name = "tunnler-soak")]
struct Arguments {
    #[command(subcommand)]
    run: Run,
}

#[derive(Subcommand)]
enum Run {
    /// Takes the relay in use away again and again under steady visits and at rest: killed, frozen, cut off.
    ///
    /// Cutting off needs a network namespace of its own: unshare --map-root-user --net.
    Failover {
        /// How often each way.
        #[arg(long, default_value_t = 20)]
        rounds: usize,
    },
    /// One client under visits while a relay dies every few minutes: memory, certificate orders.
    Hour {
        /// How long.
        #[arg(long, default_value_t = 60)]
        minutes: u64,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    tunnler_transport::tls::install_provider();
    let arguments = Arguments::parse();
    let scratch = match Scratch::new() {
        Ok(scratch) => scratch,
        Err(error) => {
            eprintln!("soak: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let held = match arguments.run {
        Run::Failover { rounds } => failover::run(scratch.path(), rounds).await,
        Run::Hour { minutes } => hour::run(scratch.path(), Duration::from_secs(60 * minutes)).await,
    };
    match held {
        Ok(true) => {
            scratch.done();
            ExitCode::SUCCESS
        }
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}
