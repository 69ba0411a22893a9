//! Publishes a local web server from a program of one's own:
//! `cargo run -p tunnler --example publish -- NETWORK KEY STATE TARGET NAME`

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tunnler::{Service, StateDir, Tunnel, TunnelConfig, TunnelEvent};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A process has one TLS provider, and its main function chooses it.
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(|_| "a provider is installed")?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [network, key, state, target, name] = arguments.as_slice() else {
        return Err("usage: publish NETWORK KEY STATE TARGET NAME".into());
    };

    let state = Arc::new(StateDir::open(state.as_ref())?);
    let (network, key) =
        (tunnler_chain::descriptor::load(network)?, tunnler_chain::key::load(Some(key.as_ref()))?);
    let mut config = TunnelConfig::new(network, key, state);
    config.labels = vec![name.parse()?];
    config.services = vec![Service::http(target.parse()?)];

    let tunnel = Tunnel::start(config).await?;
    let mut events = tunnel.subscribe();
    tunnel.wait_connected(Some(Duration::from_secs(60))).await?;
    for url in tunnel.wait_serving().await? {
        println!("{url}");
    }

    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            event = events.recv() => match event? {
                TunnelEvent::RelayLost { relay, problem } => eprintln!("{relay}: {problem}"),
                TunnelEvent::RelayConnected { relay } => eprintln!("{relay} serves"),
                _ => {}
            },
            _ = terminate.recv() => break,
        }
    }
    // Relays and DNS hear of it, and visitors have a moment to finish.
    tunnel.shutdown().await;
    Ok(())
}
