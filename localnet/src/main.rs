//! `tunnler-localnet`: starts a local network and says where it is.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tunnler_localnet::{Closing, Localnet, STANDALONE_PASSPHRASE};

/// A local Stellar network for development and tests: one process, no consensus, keys that everybody knows.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one. Given several times: several endpoints of one ledger.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8000")]
    listen: Vec<SocketAddr>,
    /// Directory to keep the network in; without it the network is gone when the process ends.
    #[arg(long, value_name = "DIRECTORY")]
    state: Option<PathBuf>,
    /// Seconds after which a ledger closes without transactions; 0: never.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    ledger_interval: Duration,
    /// When transactions are applied: at once, or with the ledger of the interval.
    #[arg(long, value_enum, default_value_t = ClosingArgument::OnSend)]
    closing: ClosingArgument,
    /// Ledgers of history to keep.
    #[arg(long, value_name = "LEDGERS", default_value_t = 120_960, value_parser = clap::value_parser!(u32).range(1..))]
    retention: u32,
    /// Passphrase of the network.
    #[arg(long, default_value = STANDALONE_PASSPHRASE)]
    passphrase: String,
    /// File to write the started network's description to (the JSON line that also goes to standard output).
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ClosingArgument {
    OnSend,
    Interval,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tunnler-localnet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut builder = Localnet::builder()
        .listen(arguments.listen)
        .passphrase(arguments.passphrase)
        .retention(arguments.retention)
        .closing(match arguments.closing {
            ClosingArgument::OnSend => Closing::OnSend,
            ClosingArgument::Interval => Closing::Interval,
        });
    builder = match arguments.ledger_interval {
        Duration::ZERO => builder.no_ledger_interval(),
        interval => builder.ledger_interval(interval),
    };
    if let Some(directory) = &arguments.state {
        builder = builder.state_directory(directory);
    }
    let localnet = builder.start().await?;
    announce(&localnet, arguments.ready_file.as_deref())?;
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
        halted = localnet.halted() => return Err(halted.into()),
    }
    localnet.shutdown().await;
    Ok(())
}

/// Says where the network is: one JSON line for programs, a few words for people.
fn announce(localnet: &Localnet, ready_file: Option<&Path>) -> anyhow::Result<()> {
    let description = serde_json::json!({
        "rpc": localnet.urls(),
        "friendbot": localnet.friendbot_url(),
        "passphrase": localnet.passphrase(),
        "nativeContract": localnet.native_contract(),
        "rootSeed": localnet.root_seed(),
    });
    if let Some(path) = ready_file {
        // Whoever waits for the file reads all of it or nothing.
        let unfinished = path.with_extension("unfinished");
        std::fs::write(&unfinished, format!("{description}\n"))
            .and_then(|()| std::fs::rename(&unfinished, path))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if localnet.addresses().iter().any(|address| !address.ip().is_loopback()) {
        eprintln!("tunnler-localnet: others can reach this network: anybody can spend, advance and break it");
    }
    eprintln!(
        "tunnler-localnet: development network at {} (not a real one; Ctrl-C stops it)",
        localnet.url()
    );
    let mut out = std::io::stdout().lock();
    // Nobody may be reading.
    let _ = writeln!(out, "{description}").and_then(|()| out.flush());
    Ok(())
}
