//! The command line: flags and `relay.toml` into a running relay or one transaction, and the programs' exit codes
//! (0 done, 1 failed, 2 usage or missing prerequisite).

mod config;
mod limits;
mod record;
mod run;
mod transact;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tunnler_protocol::HostName;
use tunnler_protocol::directory::RelayStatus;

/// A public host through which clients' services are reached, and which cannot read what it passes on.
#[derive(Debug, Parser)]
#[command(name = "tunnler-relay", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Open the ACME account and register on chain, or bring the record up to date
    Init(Settings),
    /// Serve
    Run {
        /// First register, or bring the record up to date, as `init` does
        #[arg(long)]
        register: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Show what the chain says of this relay
    Status(Settings),
    /// Say on chain whether this relay takes sessions
    Set {
        /// The new status
        #[arg(long)]
        status: NewStatus,
        #[command(flatten)]
        settings: Settings,
    },
    /// Leave: the stake comes back after the unbonding period
    Leave {
        /// The unbonding period is over: take the stake back
        #[arg(long)]
        withdraw: bool,
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum NewStatus {
    /// Takes sessions
    Active,
    /// Takes no new ones
    Draining,
}

impl From<NewStatus> for RelayStatus {
    fn from(status: NewStatus) -> Self {
        match status {
            NewStatus::Active => Self::Active,
            NewStatus::Draining => Self::Draining,
        }
    }
}

/// Flags win over the configuration file, whose keys have their names.
#[derive(Debug, Default, Args)]
struct Settings {
    /// Configuration file (TOML; the keys are these options' names)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Network descriptor: a file, `local` or `testnet`
    #[arg(long, value_name = "NETWORK", env = "TUNNLER_NETWORK")]
    network: Option<String>,
    /// File with this relay's secret key (else TUNNLER_SECRET_KEY)
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// File with the operator's secret key, which pays the stake (default: the relay's)
    #[arg(long, value_name = "FILE")]
    operator_key: Option<PathBuf>,
    /// State directory
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Address for visitors, clients and feed readers
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Address for health and metrics
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
    /// Address of a plain HTTP listener that redirects to HTTPS, usually port 80
    #[arg(long, value_name = "IP:PORT")]
    redirect: Option<SocketAddr>,
    /// Own domain of this relay (default: ADDRESS.relay.ZONE, which needs none)
    #[arg(long, value_name = "DOMAIN")]
    host: Option<HostName>,
    /// Public IPv4 address (default: that of --listen)
    #[arg(long, value_name = "IP")]
    ipv4: Option<Ipv4Addr>,
    /// Public IPv6 address (default: that of --listen)
    #[arg(long, value_name = "IP")]
    ipv6: Option<Ipv6Addr>,
    /// Public port (default: that of --listen)
    #[arg(long, value_name = "PORT")]
    public_port: Option<u16>,
    /// Region code, 1–16 of a-z 0-9 -
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Most sessions
    #[arg(long, value_name = "N")]
    capacity: Option<u32>,
    /// https:// page with the operator's terms
    #[arg(long, value_name = "URL")]
    terms: Option<String>,
    /// Stake to register with, in whole units of the registry's token
    #[arg(long, value_name = "AMOUNT")]
    stake: Option<u64>,
    /// Hours between two heartbeats on chain
    #[arg(long, value_name = "HOURS")]
    heartbeat: Option<u64>,
    /// Seconds that streams get to finish when the relay stops
    #[arg(long, value_name = "SECONDS")]
    drain: Option<u64>,
    /// Log as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the program and returns its exit code.
pub fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Init(settings) => transact::init(settings),
        Command::Run { register, settings } => run::run(register, settings),
        Command::Status(settings) => transact::status(settings),
        Command::Set { status, settings } => transact::set(status.into(), settings),
        Command::Leave { withdraw: false, settings } => transact::leave(settings),
        Command::Leave { withdraw: true, settings } => transact::withdraw(settings),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("tunnler-relay: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

/// Why a command ends without having done its work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    #[error(transparent)]
    Listen(#[from] crate::ListenError),
    #[error(transparent)]
    Chain(#[from] tunnler_chain::ChainError),
    #[error(transparent)]
    Write(#[from] tunnler_chain::WriteError),
    #[error(transparent)]
    Account(#[from] crate::certificates::account::AccountError),
    #[error(transparent)]
    Certificates(#[from] crate::certificates::CertificateError),
    #[error(transparent)]
    Store(#[from] tunnler_edge::store::StoreError),
    #[error("{0}")]
    System(#[from] std::io::Error),
    #[error("relay {0} is not registered on this network; run `tunnler-relay init`, or `run --register`")]
    NotRegistered(tunnler_protocol::Address),
    #[error("relay {0} has left this network ({1}); register another key")]
    Left(tunnler_protocol::Address, &'static str),
}

impl Failure {
    fn code(&self) -> u8 {
        if matches!(self, Self::Config(_)) { 2 } else { 1 }
    }
}
