//! `scripts/bench` and `scripts/soak sessions`, and the roles that processes of theirs play. Thin: everything is in
//! `tunnler_tests::bench`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tunnler_tests::bench::{self, Options, bare, roles, sessions};

/// Measures the data path.
#[derive(Parser)]
#[command(name = "tunnler-bench")]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Our paths beside their peers
    Compare {
        /// Rounds over all paths
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Seconds of one measurement
        #[arg(long, default_value_t = 1.5)]
        seconds: f64,
        /// Only paths whose name contains this; may be repeated
        #[arg(long, value_name = "TEXT")]
        only: Vec<String>,
        /// Where JSON goes
        #[arg(long, default_value = "target/bench.json")]
        out: PathBuf,
    },
    /// Many idle sessions at one relay
    Sessions {
        /// How many
        #[arg(long, default_value_t = 10_000)]
        count: usize,
        /// Seconds of idling in all
        #[arg(long, default_value_t = 600)]
        seconds: u64,
    },
    /// Serve and swallow big bodies
    #[command(hide = true)]
    Bodies {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// The visitors' end of a tunnel that is nothing but its core
    #[command(hide = true)]
    BareServer {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        control: SocketAddr,
        #[arg(long)]
        chain: PathBuf,
        #[arg(long)]
        tls_key: PathBuf,
    },
    /// Its other end
    #[command(hide = true)]
    BareClient {
        #[arg(long)]
        control: SocketAddr,
        #[arg(long)]
        upstream: SocketAddr,
    },
    /// End TLS and proxy, without a tunnel
    #[command(hide = true)]
    Edge {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        chain: PathBuf,
        #[arg(long)]
        tls_key: PathBuf,
        #[arg(long)]
        upstream: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    tunnler_transport::tls::install_provider();
    match play(Arguments::parse().role).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn play(role: Role) -> Result<ExitCode> {
    let code = |held: bool| if held { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    match role {
        Role::Compare { rounds, seconds, only, out } => {
            let options = Options { rounds, span: Duration::from_secs_f64(seconds), only, out };
            let report = bench::run(&options).await?;
            print!("{report}");
            Ok(code(report.passed()))
        }
        Role::Sessions { count, seconds } => {
            let found = sessions::soak(count, Duration::from_secs(seconds)).await?;
            println!("{}", serde_json::to_string(&found)?);
            Ok(code(found.holds))
        }
        Role::Bodies { listen } => {
            roles::bodies(TcpListener::bind(listen).await?).await?;
            Ok(ExitCode::SUCCESS)
        }
        Role::BareServer { listen, control, chain, tls_key } => {
            let control = TcpListener::bind(control).await?;
            bare::server(TcpListener::bind(listen).await?, control, &chain, &tls_key).await?;
            Ok(ExitCode::SUCCESS)
        }
        Role::BareClient { control, upstream } => {
            bare::client(control, upstream).await?;
            Ok(ExitCode::SUCCESS)
        }
        Role::Edge { listen, chain, tls_key, upstream } => {
            roles::edge(TcpListener::bind(listen).await?, &chain, &tls_key, &upstream).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
