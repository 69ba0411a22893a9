//! `tunnler-dns run`: the chain reader and the server, until a signal.

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tunnler_chain::{Chain, ChainConfig, FollowedNames};

use super::{Failure, RunArguments, config};
use crate::Server;

/// After that long without a directory, the log says what is missing.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn run(arguments: RunArguments) -> Result<(), Failure> {
    let run = config::resolve(arguments)?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(run))
}

async fn serve(run: config::Run) -> Result<(), Failure> {
    let mut chain = ChainConfig::new(run.network, FollowedNames::All);
    chain.state = Some(run.state.join("chain"));
    let mut server = run.server;
    server.metrics = PrometheusBuilder::new().install_recorder().ok();
    let mut terminate = signal(SignalKind::terminate())?;

    // The sockets first: a port that is taken is the operator's mistake, an RPC server that is down is not.
    let address = server.key.address();
    let chain = Chain::start(chain)?;
    let handle = chain.handle();
    let server = Server::bind(server, handle.subscribe()).await?;
    for dns in server.dns_addresses() {
        tracing::info!(%dns, key = %address, "serving");
    }
    if let Err(error) = chain.wait_ready(PATIENCE).await {
        tracing::warn!(%error, "answering SERVFAIL until the chain is read");
    } else if let Some(directory) = handle.directory() {
        let listed = directory.zone.servers.iter().any(|server| server.key == address);
        if !listed {
            tracing::warn!(
                key = %address,
                "the zone does not list this key among its servers: relays may refuse their feeds when they are busy"
            );
        }
        tracing::info!(zone = %directory.zone.zone, names = directory.names.len(), "zone loaded");
    }
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
    server.shutdown().await;
    chain.shutdown().await;
    Ok(())
}
