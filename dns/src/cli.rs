//! The command line: arguments and `dns.toml` into a validated [`Config`](crate::Config), and the programs' exit codes
//! (0 done, 1 failed, 2 usage or missing prerequisite).

mod ask;
mod config;
mod run;
mod zone_keys;

use ask::Form;
pub use config::ConfigError;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Authoritative DNS of a Tunnler zone: names follow their live tunnels.
#[derive(Debug, Parser)]
#[command(name = "tunnler-dns", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the zone.
    Run(Box<RunArguments>),
    /// Make, show and roll over the zone's DNSSEC keys.
    Keys {
        /// Directory with the zone's keys; every server of the zone needs a copy
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        #[command(subcommand)]
        step: zone_keys::Step,
    },
    /// Say why a name is answered as it is; asks a running server's admin listener.
    Explain {
        /// The name, for example mynode or mynode.tunnel.example
        name: String,
        /// Print JSON for machines
        #[arg(long)]
        json: bool,
        /// The running server's admin listener.
        #[arg(long, value_name = "IP:PORT", default_value = config::DEFAULT_ADMIN)]
        admin: SocketAddr,
    },
}

/// `tunnler-dns run`: flags win over the configuration file.
#[derive(Debug, Default, Args)]
struct RunArguments {
    /// Configuration file (TOML; the keys are these options' names)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Network descriptor: a file, `local` or `testnet`
    #[arg(long, value_name = "NETWORK", env = "TUNNLER_NETWORK")]
    network: Option<String>,
    /// File with this server's secret key (else TUNNLER_SECRET_KEY)
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// State directory
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Address for DNS over UDP and TCP; repeat for more. Name addresses, not 0.0.0.0, on hosts with several.
    #[arg(long, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// Address for health, metrics and explanations
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
    /// Address at which clients may POST their presence
    #[arg(long, value_name = "IP:PORT")]
    http: Option<SocketAddr>,
    /// UDP answers per second and /24 or /56; 0 for no limit
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Serve names from chain state at most this many hours old
    #[arg(long, value_name = "HOURS")]
    staleness: Option<u64>,
    /// Let at most this many names a week have their first certificates; 0 for all. The same on every server.
    #[arg(long, value_name = "N")]
    new_names: Option<u32>,
    /// Directory with the zone's keys (`tunnler-dns keys`); without it the zone is not signed
    #[arg(long, value_name = "DIR")]
    zone_keys: Option<PathBuf>,
    /// Address for DNS over TLS
    #[arg(long, value_name = "IP:PORT")]
    dot: Option<SocketAddr>,
    /// Address for DNS over HTTPS
    #[arg(long, value_name = "IP:PORT")]
    doh: Option<SocketAddr>,
    /// Certificate chain for DNS over TLS and HTTPS (PEM); read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_chain: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_chain")]
    tls_key: Option<PathBuf>,
    /// Look at each relay's ingress about every so many seconds; 0 for never
    #[arg(long, value_name = "SECONDS")]
    probe: Option<u64>,
}

/// Runs the program and returns its exit code.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Command::Run(arguments) => run::run(*arguments),
        Command::Keys { dir, step } => zone_keys::run(&dir, step),
        Command::Explain { name, admin, json } => {
            ask::explain(&name, admin, if json { Form::Json } else { Form::Text })
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("tunnler-dns: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

/// Why a command ends without having done its work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Usage, or something that has to be there first.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server cannot start.
    #[error(transparent)]
    Server(#[from] crate::ServerError),
    /// The chain cannot be followed.
    #[error(transparent)]
    Chain(#[from] tunnler_chain::ChainError),
    /// The zone's keys cannot be used.
    #[error(transparent)]
    ZoneKeys(#[from] crate::dnssec::keys::KeyError),
    /// No thread or signal handler to be had.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// A running server did not answer.
    #[error("{0}")]
    NoAnswer(String),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::Server(_) | Self::Chain(_) | Self::ZoneKeys(_) | Self::System(_) | Self::NoAnswer(_) => 1,
        }
    }
}
