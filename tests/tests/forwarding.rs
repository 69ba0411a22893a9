//! A visitor with a stale answer of DNS, whose client has moved on without a word: the relay asks the zone's servers.

use std::time::Duration;

use anyhow::{Result, ensure};
use tunnler_tests::process::{Scratch, Signal};
use tunnler_tests::web::Web;
use tunnler_tests::world::programs::http_get;
use tunnler_tests::world::{Layout, World};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_relay_that_knows_only_dead_relays_of_a_client_finds_it_by_dns() -> Result<()> {
    tunnler_transport::tls::install_provider();
    let dir = Scratch::new()?;
    let layout = Layout { relays: 3, ..Layout::default() };
    let mut world = World::start(dir.path(), &layout, |step| println!("{step}")).await?;
    let web = Web::start().await?;
    let (_, key) = world.funded_key("publisher").await?;
    world.register_name(&key, "mynode").await?;
    let relays: Vec<String> = world.relays.iter().map(|relay| relay.relay().to_string()).collect();
    let target = web.address().to_string();

    // At the first two relays; the first serves a visitor, and remembers both.
    let arguments = [&target, "--only", &relays[0], "--only", &relays[1]];
    let mut client = world.publish_with("client", &key, "mynode", "http", &arguments).await?;
    let (host, visitor) = (client.host().to_owned(), world.visitor().await?);
    let stale = world.relays[0].ingress();
    let served = || async { visitor.tls().get(stale, &host, &host, "/").await.is_ok() };
    World::wait_for("served by the first relay", PATIENCE, served).await?;

    // Client and second relay die; the client comes back at the third.
    client.process.signal(Signal::Kill)?;
    client.process.wait(PATIENCE).await?;
    world.relays[1].process.signal(Signal::Kill)?;
    let arguments = [&target, "--only", &relays[2]];
    let client = world.publish_with("again", &key, "mynode", "http", &arguments).await?;
    let third = world.relays[2].ingress().ip();
    let named = || async { visitor.addresses(&host).await.is_ok_and(|found| found == [third]) };
    World::wait_for("DNS names the third relay alone", PATIENCE, named).await?;

    let answer = visitor.tls().get(stale, &host, &host, "/").await?;
    ensure!(answer.status.is_success(), "{answer:?}");
    let (_, metrics) = http_get(world.relays[0].admin(), "/metrics").await?;
    ensure!(metrics.contains(r#"tunnler_forwarded_total{by="dns"} 1"#), "{metrics}");
    drop(client);
    drop(world);
    dir.done();
    Ok(())
}
