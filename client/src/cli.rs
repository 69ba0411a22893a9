//! The command line: arguments, exit codes, one line per error.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tunnler_chain::{descriptor, key};
use tunnler_edge::acme::CertificateAuthority;
use tunnler_protocol::network::Network;
use tunnler_protocol::{Address, Label, SecretKey};

use crate::authority;
use crate::commands;
use crate::config::Configuration;
use crate::error::ClientError;

/// Publish a local service under a public HTTPS name, through relays that anyone can run and nobody has to trust.
#[derive(Debug, Parser)]
#[command(name = "tunnler", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) shared: Shared,
    #[command(subcommand)]
    command: Command,
}

/// What all commands understand.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Shared {
    /// Network descriptor: a file, `local` or `testnet`
    #[arg(long, global = true, env = "TUNNLER_NETWORK", value_name = "FILE|local|testnet")]
    network: Option<String>,
    /// Secret key file (mode 0600, one line S…); else the variable TUNNLER_SECRET_KEY is used
    #[arg(long, global = true, value_name = "FILE")]
    key: Option<PathBuf>,
    /// State directory [default: tunnler/NETWORK in the user's state directory]
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Certificate authority other than the network's: a file, see the publisher's guide
    #[arg(long, global = true, value_name = "FILE")]
    acme: Option<PathBuf>,
    /// Print JSON for machines
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say more on standard error
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Publish a local web server
    Http(commands::http::HttpArguments),
    /// Publish a directory of files
    Serve(commands::http::ServeArguments),
    /// Publish a local TCP server, at one port on all relays
    Tcp(commands::tcp::TcpArguments),
    /// Publish what a configuration file says
    Up(commands::up::UpArguments),
    /// Publish a Pintheon node and its stellar.toml, and set the account's home_domain
    Pintheon(commands::pintheon::PintheonArguments),
    /// Names on chain
    #[command(subcommand)]
    Name(commands::name::NameCommand),
    /// Relays on chain, ranked, with reasons
    Relays(RelayWishes),
    /// The home_domain of the account on the ledger
    #[command(subcommand)]
    HomeDomain(commands::home_domain::HomeDomainCommand),
    /// Keys
    #[command(subcommand)]
    Key(commands::key::KeyCommand),
    /// What the ledger says, and how well it can be seen
    #[command(subcommand)]
    Chain(commands::chain::ChainCommand),
    /// What the tunnel that runs with this state directory is doing
    Status,
}

/// Wishes about relays.
#[derive(Debug, Args)]
#[command(next_help_heading = "Relays")]
pub(crate) struct RelayWishes {
    /// Prefer this relay above all others (may be repeated)
    #[arg(long = "pin", value_name = "ADDRESS")]
    pub(crate) pinned: Vec<Address>,
    /// Use no relay but these (may be repeated)
    #[arg(long = "only", value_name = "ADDRESS")]
    pub(crate) allowed: Vec<Address>,
    /// Never use this relay (may be repeated)
    #[arg(long = "avoid", value_name = "ADDRESS")]
    pub(crate) denied: Vec<Address>,
    /// Use this relay before all others, whether or not the chain knows it (may be repeated)
    #[arg(long = "relay", value_name = "wss://HOST:PORT#ADDRESS")]
    pub(crate) named: Vec<String>,
    /// Prefer relays of this region
    #[arg(long, value_name = "CODE")]
    pub(crate) region: Option<String>,
}

impl Shared {
    pub(crate) fn network(&self) -> Result<Network, ClientError> {
        let missing = "no network: pass --network FILE|local|testnet or set TUNNLER_NETWORK";
        let network = self.network.as_deref().ok_or_else(|| ClientError::Usage(missing.into()))?;
        Ok(descriptor::load(network)?)
    }

    pub(crate) fn secret(&self) -> Result<SecretKey, ClientError> {
        Ok(key::load(self.key.as_deref())?)
    }

    pub(crate) fn authority(&self, network: &Network) -> Result<CertificateAuthority, ClientError> {
        match &self.acme {
            None => Ok(authority::of_network(network)),
            Some(file) => authority::read(file, network),
        }
    }

    pub(crate) fn state_path(&self, network: &Network) -> PathBuf {
        self.state.clone().unwrap_or_else(|| descriptor::state_home().join(&network.name))
    }

    /// These arguments, with what a configuration file says where they say nothing.
    pub(crate) fn or(&self, configuration: &Configuration) -> Self {
        let mut shared = self.clone();
        shared.network = shared.network.or_else(|| configuration.network.clone());
        shared.key = shared.key.or_else(|| configuration.key.clone());
        shared.state = shared.state.or_else(|| configuration.state.clone());
        shared
    }

    /// Whether events are told although nobody sits at a terminal.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose > 0
    }
}

/// Reads a label; a bad one is a usage error.
pub(crate) fn label(text: &str) -> Result<Label, ClientError> {
    text.parse().map_err(|source| ClientError::Name { text: text.to_owned(), source })
}

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    // clap itself ends the process with 2 on usage errors.
    let arguments = Arguments::parse();
    let level =
        ["error", "tunnler=info,tunnler_edge=info,warn", "tunnler=debug,tunnler_edge=debug,info", "debug"];
    let level = level[usize::from(arguments.shared.verbose).min(3)];
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(run(arguments));
    // Tasks that still resolve names or write files must not hold the program up.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.to_string().replace('\n', " "));
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), ClientError> {
    let shared = arguments.shared;
    match arguments.command {
        Command::Http(http) => commands::http::run(&shared, http).await,
        Command::Serve(files) => commands::http::run_files(&shared, files).await,
        Command::Tcp(tcp) => commands::tcp::run(&shared, tcp).await,
        Command::Up(up) => commands::up::run(&shared, up).await,
        Command::Pintheon(pintheon) => commands::pintheon::run(&shared, pintheon).await,
        Command::Name(command) => commands::name::run(&shared, command).await,
        Command::Relays(wishes) => commands::relays::run(&shared, &wishes).await,
        Command::HomeDomain(command) => commands::home_domain::run(&shared, command).await,
        Command::Key(command) => commands::key::run(&shared, &command),
        Command::Chain(command) => commands::chain::run(&shared, command).await,
        Command::Status => commands::status::run(&shared),
    }
}
