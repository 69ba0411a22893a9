//! What the publishing commands share: their arguments, and serving until told to stop.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast;

use crate::cli::{RelayWishes, Shared, label};
use crate::error::ClientError;
use crate::named;
use crate::state::StateDir;
use crate::tunnel::{Service, Tunnel, TunnelConfig, TunnelEvent};

#[derive(Debug, Args)]
pub(crate) struct PublishArguments {
    /// Name to serve; without one the account's own host (may be repeated)
    #[arg(long = "name", value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Relays to hold sessions with
    #[arg(long, default_value_t = tunnler_protocol::agent::SESSIONS, value_name = "N")]
    sessions: usize,
    /// Give up when no relay took a session within this time; 0 waits for ever
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    connect_timeout: u64,
    #[command(flatten)]
    wishes: RelayWishes,
}

/// What happens beside serving.
pub(crate) trait Beside {
    /// An event of the tunnel; what is returned is done while serving goes on.
    fn event(&mut self, _event: &TunnelEvent) -> Option<LocalBoxFuture<'static, ()>> {
        None
    }
    /// A second has passed.
    fn look(&mut self, _tunnel: &Tunnel) {}
}

/// Nothing happens beside serving.
pub(crate) struct Nothing;

impl Beside for Nothing {}

impl PublishArguments {
    /// The configuration that these arguments mean, with the state directory locked.
    pub(crate) fn config(self, shared: &Shared, services: Vec<Service>) -> Result<TunnelConfig, ClientError> {
        let labels = self.names.iter().map(|name| label(name)).collect::<Result<_, _>>()?;
        let (network, key) = (shared.network()?, shared.secret()?);
        let state = Arc::new(StateDir::open(&shared.state_path(&network))?);
        let authority = shared.authority(&network)?;
        let mut config = TunnelConfig::new(network, key, state);
        config.authority = authority;
        config.labels = labels;
        config.services = services;
        config.sessions = self.sessions;
        config.pinned = self.wishes.pinned;
        config.allowed = self.wishes.allowed.into_iter().collect();
        config.denied = self.wishes.denied.into_iter().collect();
        config.region = self.wishes.region;
        config.named = self.wishes.named.iter().map(|text| named::read(text)).collect::<Result<_, _>>()?;
        Ok(config)
    }

    /// How long to wait for the first relay.
    pub(crate) fn patience(&self) -> Option<Duration> {
        (self.connect_timeout > 0).then(|| Duration::from_secs(self.connect_timeout))
    }
}

/// Serves until interrupted or told to terminate.
pub(crate) async fn serve(
    shared: &Shared,
    config: TunnelConfig,
    patience: Option<Duration>,
    mut beside: impl Beside,
) -> Result<(), ClientError> {
    let mut teller = Teller::new(shared);
    teller.progress("reading the chain");
    let tunnel = Tunnel::start(config).await?;
    let mut events = tunnel.subscribe();
    teller.progress("looking for relays");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut errands = FuturesUnordered::new();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let connected = tunnel.wait_connected(patience);
    tokio::pin!(connected);
    let mut waiting = true;
    loop {
        tokio::select! {
            done = &mut connected, if waiting => {
                done?;
                waiting = false;
            }
            event = events.recv() => match event {
                Ok(event) => {
                    teller.tell(&event);
                    errands.extend(beside.event(&event));
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => {
                    return Err(ClientError::Stopped("its task ended".into()));
                }
            },
            Some(()) = errands.next() => {}
            _ = second.tick() => beside.look(&tunnel),
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    teller.progress("leaving: visitors have 10 s to finish; again to leave at once");
    tokio::select! {
        () = tunnel.shutdown() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn no_signals(error: std::io::Error) -> ClientError {
    ClientError::Stopped(format!("no signals: {error}"))
}

/// Tells the user what happens: a spinner at a terminal, JSON lines for machines, and nothing but the URL and what goes
/// wrong afterwards for logs.
struct Teller {
    json: bool,
    verbose: bool,
    serving: bool,
    spinner: Option<ProgressBar>,
}

impl Teller {
    fn new(shared: &Shared) -> Self {
        let spinner = (!shared.json && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}").expect("a valid template");
            let spinner = ProgressBar::new_spinner().with_style(style);
            spinner.enable_steady_tick(Duration::from_millis(120));
            spinner
        });
        Self { json: shared.json, verbose: shared.is_verbose(), serving: false, spinner }
    }

    fn progress(&self, text: &str) {
        match &self.spinner {
            Some(spinner) => spinner.set_message(text.to_owned()),
            None if self.verbose => eprintln!("{text}"),
            None => {}
        }
    }

    fn tell(&mut self, event: &TunnelEvent) {
        if self.json {
            println!("{}", serde_json::to_string(event).expect("plain JSON"));
            return;
        }
        let text = match event {
            TunnelEvent::Serving { urls } => {
                self.serving = true;
                if let Some(spinner) = self.spinner.take() {
                    spinner.finish_and_clear();
                }
                urls.iter().for_each(|url| println!("{url}"));
                return;
            }
            TunnelEvent::State { state } => format!("{state:?}").to_lowercase(),
            TunnelEvent::RelayConnected { relay } => format!("relay {relay} serves"),
            TunnelEvent::RelayFailed { problem, .. } => problem.clone(),
            TunnelEvent::RelayLost { relay, problem } => format!("relay {relay} is lost: {problem}"),
            TunnelEvent::Certificate { host, what } => format!("certificate for {host}: {what}"),
            TunnelEvent::Warning { text } => text.clone(),
        };
        if self.serving { eprintln!("{text}") } else { self.progress(&text) }
    }
}
