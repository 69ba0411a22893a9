//! `tunnler-dns run`: the chain reader and the server, until a signal.

use std::io::IsTerminal;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tunnler_chain::{Chain, ChainConfig, FollowedNames};
use tunnler_protocol::address::Address;

use super::{Failure, RunArguments, config};
use crate::Server;

/// After that long without a directory, the log says what is missing.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bounds of latency histograms in seconds.
const LATENCY_BUCKETS: [f64; 8] = [5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 1e-3, 1e-2, 1e-1];

pub(super) fn run(arguments: RunArguments) -> Result<(), Failure> {
    let run = config::resolve(arguments)?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(run))
}

async fn serve(run: config::Run) -> Result<(), Failure> {
    let mut chain = ChainConfig::new(run.network, FollowedNames::All);
    chain.state = Some(run.state.join("chain"));
    let mut server = run.server;
    server.metrics = PrometheusBuilder::new()
        .set_buckets(&LATENCY_BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .inspect_err(|error| tracing::warn!(%error, "metrics are not recorded"))
        .ok();
    let mut terminate = signal(SignalKind::terminate())?;

    // The sockets first: a port that is taken is the operator's mistake, an RPC server that is down is not.
    let address = server.key.address();
    let chain = Chain::start(chain)?;
    let handle = chain.handle();
    server.chain = Some(handle.clone());
    let server = Server::bind(server, handle.subscribe()).await?;
    for dns in server.dns_addresses() {
        tracing::info!(%dns, key = %address, "serving");
    }
    let stopped = async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    let watching = async {
        introduce(&chain, address).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = stopped => {}
        () = watching => {}
    }
    tracing::info!("stopping");
    server.shutdown().await;
    chain.shutdown().await;
    Ok(())
}

/// Says in the log what zone this is, or what keeps it from being read.
async fn introduce(chain: &Chain, key: Address) {
    let directory = match chain.wait_ready(PATIENCE).await {
        Ok(directory) => directory,
        Err(error) => {
            tracing::warn!(%error, "answering SERVFAIL until the chain is read");
            return;
        }
    };
    tracing::info!(zone = %directory.zone.zone, names = directory.names.len(), "zone loaded");
    if !directory.zone.servers.iter().any(|server| server.key == key) {
        tracing::warn!(%key, "the zone does not list this key among its servers: busy relays may refuse their feeds");
    }
}
