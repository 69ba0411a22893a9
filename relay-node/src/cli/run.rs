//! `tunnler-relay run`: chain, relay, certificate, heartbeats and admin listener, until a signal.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing_subscriber::EnvFilter;
use tunnler_chain::{Chain, ChainConfig, ChainHandle, FollowedNames, RelayRegistration};
use tunnler_edge::Store;
use tunnler_protocol::directory::{Directory, Relay as Record};
use tunnler_protocol::name::Host;
use tunnler_transport::Workers;

use super::config::{self, Run};
use super::{Failure, Settings, record};
use crate::admin::{self, Desk};
use crate::certificates::account;
use crate::certificates::keeper::Keeper;
use crate::certificates::visible::Expected;
use crate::names::ListedNames;
use crate::relay::{self, Observer, Relay, RelayConfig};
use crate::term::issuer::{Authority, Issuer};

/// How long the chain may take to be read at the start.
const CHAIN_PATIENCE: Duration = Duration::from_secs(30);
/// How long an own transaction may take to show in the directory.
const RECORD_PATIENCE: Duration = Duration::from_secs(30);
/// Pause after a heartbeat that failed.
const HEARTBEAT_RETRY: Duration = Duration::from_secs(60);

pub(super) fn run(register: bool, settings: Settings) -> Result<(), Failure> {
    let run = config::resolve(settings)?;
    log(&run);
    runtime()?.block_on(serve(run, register))
}

pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

pub(super) fn log(run: &Run) {
    // rustls-acme and yamux log every expected mishap as an error of their own.
    let quiet = "info,rustls_acme=warn,yamux=off";
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(quiet));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if run.json {
        builder.json().flatten_event(true).init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).init();
    }
}

async fn serve(mut run: Run, register: bool) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    // The sockets first: a port that is taken is the operator's mistake.
    let listener = relay::listen(run.listen).await?;
    let admin = relay::listen(run.admin).await?;
    let redirect = match run.redirect {
        Some(address) => Some(relay::listen(address).await?),
        None => None,
    };
    let store = Store::open(&run.state)?;
    let acme = store.inner("acme")?;
    let metrics = PrometheusBuilder::new().install_recorder().ok();
    count_panics();

    let mut chain_config = ChainConfig::new(run.network.clone(), FollowedNames::Chosen);
    chain_config.state = Some(run.state.join("chain"));
    let chain = Chain::start(chain_config)?;
    let handle = chain.handle();
    let directory = chain.wait_ready(CHAIN_PATIENCE).await?;
    let registered = if register {
        let record = record::ensure(&run, &directory, &acme).await?;
        handle.refresh();
        Some(record)
    } else {
        None
    };
    let (directory, own) = own_record(&run, &handle, registered.as_ref()).await?;
    record::reject_left(&own)?;

    let own_host = own.own_host(&directory.zone.zone);
    let keeper = Keeper::new(&own_host, &run.network.acme, acme.clone())?;
    let term_certificates = Arc::<tunnler_edge::Certificates>::default();
    run.supplied.install(&term_certificates);
    let relay = Relay::start(RelayConfig {
        key: run.key.clone(),
        own_host,
        listener,
        limits: run.limits,
        certificates: keeper.certificates(),
        term_certificates: term_certificates.clone(),
        directory: handle.subscribe(),
        address_policy: run.network.address_policy(),
        dns_port: run.network.dns_port,
        state: Some(store.inner("memory")?),
        chain: Some(handle.clone()),
        workers: Workers::for_sessions(run.limits.sessions)?,
        tap: None,
    })?;
    let ready = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    let desk = Desk { relay: relay.observer(), ready: ready.clone(), metrics };
    tasks.spawn(async move {
        if let Err(error) = admin::serve(admin, desk).await {
            tracing::error!(%error, "the admin listener failed");
        }
    });
    if let Some(redirect) = redirect {
        tasks.spawn(crate::redirect::serve(redirect, own.ingress_port));
    }
    tasks.spawn(follow_names(relay.listed_names(), handle.clone()));
    let authority = authority(&run, &acme, &own)?;
    let issuer = Issuer {
        clients: relay.term_clients(),
        authority: authority.clone(),
        store: store.inner("term")?,
        certificates: term_certificates,
        supplied: std::mem::take(&mut run.supplied),
    };
    tasks.spawn(async move { match issuer.run().await {} });
    if authority.is_some() {
        tasks.spawn(keeper.run(to_be_seen(&run, &directory, &own)));
    } else {
        tracing::warn!(
            "no certificates: the record on chain does not name this relay's ACME account; run init"
        );
    }
    tasks.spawn(heartbeats(record::writer(&run)?, run.heartbeat, relay.observer()));
    ready.store(true, Ordering::Relaxed);

    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    ready.store(false, Ordering::Relaxed);
    tokio::select! {
        () = relay.shutdown(run.drain) => {}
        // A second signal means it.
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    tasks.shutdown().await;
    chain.shutdown().await;
    Ok(())
}

/// A panic ends its task only; the operator should hear of it all the same.
fn count_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        metrics::counter!("tunnler_panics_total").increment(1);
        usual(panic);
    }));
}

/// The relay's own record: as it is, or once it says what was just registered.
async fn own_record(
    run: &Run,
    handle: &ChainHandle,
    registered: Option<&RelayRegistration>,
) -> Result<(Arc<Directory>, Arc<Record>), Failure> {
    let address = run.key.address();
    let mut directories = handle.subscribe();
    let patience = if registered.is_some() { RECORD_PATIENCE } else { Duration::ZERO };
    let deadline = Instant::now() + patience;
    loop {
        let directory = directories.borrow_and_update().clone();
        let own = directory.as_ref().and_then(|directory| directory.relays.get(&address).cloned());
        if let (Some(directory), Some(own)) = (directory, own)
            && registered.is_none_or(|record| record::says(&own, record))
        {
            return Ok((directory, own));
        }
        match tokio::time::timeout_at(deadline, directories.changed()).await {
            Ok(Ok(())) => {}
            _ => return Err(Failure::NotRegistered(address)),
        }
    }
}

/// What certificates are ordered with: only the account that is on chain, since CAA names that one.
fn authority(run: &Run, acme: &Store, own: &Record) -> Result<Option<Authority>, Failure> {
    let network = &run.network.acme;
    let (kept, key) = (account::kept(acme, network)?, account::key(acme)?);
    let on_chain = kept.filter(|kept| own.acme.as_ref() == Some(kept));
    Ok(on_chain.zip(key).map(|(account, key)| Authority { ca: account::authority(network), key, account }))
}

/// What the zone's servers must show before the CA is asked; nothing for a domain that is not the zone's.
fn to_be_seen(run: &Run, directory: &Directory, own: &Record) -> Option<(Vec<SocketAddr>, Expected)> {
    let zone = &directory.zone;
    let host = own.own_host(&zone.zone);
    if zone.zone.classify(&host) == Host::Foreign {
        return None;
    }
    let policy = run.network.address_policy();
    let servers = zone.server_addresses(policy).map(|ip| SocketAddr::new(ip, run.network.dns_port));
    let expected = Expected { host, addresses: own.addresses(policy).collect(), account: own.acme.clone()? };
    Some((servers.collect(), expected))
}

/// Tells the chain reader which names matter.
async fn follow_names(mut listed: watch::Receiver<ListedNames>, handle: ChainHandle) {
    let mut followed = std::collections::HashSet::new();
    loop {
        let now: std::collections::HashSet<_> = listed.borrow_and_update().keys().cloned().collect();
        handle.follow(now.difference(&followed).cloned().collect::<Vec<_>>()).await;
        handle.unfollow(followed.difference(&now).cloned().collect::<Vec<_>>()).await;
        followed = now;
        if listed.changed().await.is_err() {
            return;
        }
    }
}

async fn heartbeats(writer: tunnler_chain::Writer, every: Duration, relay: Observer) {
    loop {
        match record::heartbeat(&writer, relay.session_count()).await {
            Ok(()) => sleep(every).await,
            Err(error) => {
                tracing::warn!(%error, "no heartbeat on chain; trying again in a minute");
                sleep(HEARTBEAT_RETRY).await;
            }
        }
    }
}
