//! Commands that only talk to the chain (and the CA): `init`, `status`, `set`, `leave`.

use std::future::Future;

use tunnler_chain::{Receipt, Writer, read};
use tunnler_edge::Store;
use tunnler_protocol::directory::RelayStatus;

use super::config::{self, Run};
use super::{Failure, Settings, record, run};
use crate::clock;

pub(super) fn init(settings: Settings) -> Result<(), Failure> {
    command(settings, async |run: Run| {
        let store = Store::open(&run.state)?.inner("acme")?;
        let directory = read::read_relays(&run.network).await?;
        record::ensure(&run, &directory, &store).await?;
        println!("{}", run.key.address());
        Ok(())
    })
}

pub(super) fn status(settings: Settings) -> Result<(), Failure> {
    command(settings, async |run: Run| {
        let directory = read::read_relays(&run.network).await?;
        let address = run.key.address();
        let relay = directory.relays.get(&address).ok_or(Failure::NotRegistered(address))?;
        if run.json {
            println!("{}", serde_json::to_string(relay).expect("plain JSON"));
            return Ok(());
        }
        let active = relay.is_active(clock::seconds(), directory.heartbeat_ttl);
        println!("relay     {address}");
        println!("host      {}", relay.own_host(&directory.zone.zone));
        println!("status    {:?}{}", relay.status, if active { "" } else { " (no heartbeat: inactive)" });
        for ip in relay.addresses(run.network.address_policy()) {
            println!("address   {ip} port {}", relay.ingress_port);
        }
        println!("region    {}", relay.region);
        println!("capacity  {}", relay.capacity);
        if let Some(beat) = relay.heartbeat {
            let age = clock::seconds().since(beat.at).as_secs();
            println!("heartbeat {age} s ago, {} sessions", beat.load);
        }
        Ok(())
    })
}

pub(super) fn set(status: RelayStatus, settings: Settings) -> Result<(), Failure> {
    command(settings, async |run: Run| told(record::writer(&run)?.set_status(status).send().await?))
}

pub(super) fn leave(settings: Settings) -> Result<(), Failure> {
    command(settings, async |run: Run| told(operator(&run)?.deregister(&run.key.address()).send().await?))
}

pub(super) fn withdraw(settings: Settings) -> Result<(), Failure> {
    command(settings, async |run: Run| told(operator(&run)?.withdraw(&run.key.address()).send().await?))
}

fn operator(run: &Run) -> Result<Writer, Failure> {
    Ok(Writer::new(run.network.clone(), run.operator.clone())?)
}

fn told(receipt: Receipt) -> Result<(), Failure> {
    println!("done in transaction {}", receipt.hash);
    Ok(())
}

fn command<F: Future<Output = Result<(), Failure>>>(
    settings: Settings,
    work: impl FnOnce(Run) -> F,
) -> Result<(), Failure> {
    let run = config::resolve(settings)?;
    run::log(&run);
    run::runtime()?.block_on(work(run))
}
