//! How soon DNS stops naming a relay that is killed, freezes or drains: real programs, several times over.
//!
//! `TUNNLER_ROUNDS` says how often each; the distributions are printed as JSON.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tunnler_tests::process::{Scratch, Signal};
use tunnler_tests::visitor::Visitor;
use tunnler_tests::web::Web;
use tunnler_tests::world::{Layout, World};

/// One relay more than a client attaches to, so that the next round need not wait for the one that was killed.
const RELAYS: u8 = 3;
const PATIENCE: Duration = Duration::from_secs(60);

fn rounds() -> usize {
    std::env::var("TUNNLER_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

struct Round<'a> {
    world: &'a mut World,
    visitor: &'a Visitor,
    host: &'a str,
}

impl Round<'_> {
    async fn two_relays_named(&self) -> Result<()> {
        let named = || async { self.visitor.addresses(self.host).await.is_ok_and(|found| found.len() == 2) };
        World::wait_for("two relays in DNS", PATIENCE, named).await.map(drop)
    }

    /// The relay that DNS names first.
    async fn named(&self) -> Result<usize> {
        let found = self.visitor.addresses(self.host).await?;
        let first = found.first().context("no address")?;
        let index = self.world.relays.iter().position(|relay| relay.ingress().ip() == *first);
        index.context("an unknown relay is named")
    }

    async fn is_named(&self, index: usize) -> Result<bool> {
        let ip = self.world.relays[index].ingress().ip();
        let found = self.visitor.addresses(self.host).await?;
        ensure!(!found.is_empty(), "the name was emptied");
        Ok(found.contains(&ip))
    }

    /// Sends `signal` to a relay in use; returns which one and how long it was still named.
    async fn take_away(&mut self, signal: Signal) -> Result<(usize, Duration)> {
        self.two_relays_named().await?;
        let index = self.named().await?;
        self.world.relays[index].process.signal(signal)?;
        let start = Instant::now();
        while self.is_named(index).await? {
            ensure!(start.elapsed() < PATIENCE, "{signal:?}: still named");
            if signal == Signal::Terminate {
                ensure!(self.world.relays[index].process.runs(), "closed while still named");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok((index, start.elapsed()))
    }

    async fn restart(&mut self, index: usize) -> Result<()> {
        let mut relay = self.world.relays.remove(index);
        let ended = relay.process.wait(PATIENCE).await;
        let restarted = relay.restart(self.world, &format!("relay{}", index + 1)).await;
        self.world.relays.insert(index, relay);
        ended.and(restarted)
    }
}

fn report(what: &str, mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share).round() as usize].as_millis();
    println!(
        "{{\"part\":\"dns-withdrawal\",\"signal\":\"{what}\",\"rounds\":{},\"p50_ms\":{},\"p99_ms\":{},\"max_ms\":{}}}",
        took.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    took[took.len() - 1]
}

#[tokio::test]
async fn killed_frozen_and_draining_relays_are_withdrawn_in_time() -> Result<()> {
    tunnler_transport::tls::install_provider();
    let dir = Scratch::new()?;
    let layout = Layout { relays: RELAYS, ..Layout::default() };
    let mut world = World::start(dir.path(), &layout, |step| println!("{step}")).await?;
    let web = Web::start().await?;
    let (_, key) = world.funded_key("publisher").await?;
    world.register_name(&key, "mynode").await?;
    let client = world.publish("client", &key, &web.address().to_string(), "mynode").await?;
    let visitor = world.visitor().await?;
    let mut round = Round { world: &mut world, visitor: &visitor, host: client.host() };

    let (mut frozen, mut killed) = (Vec::new(), Vec::new());
    for _ in 0..rounds() {
        let (index, took) = round.take_away(Signal::Stop).await?;
        round.world.relays[index].process.signal(Signal::Continue)?;
        frozen.push(took);
    }
    for _ in 0..rounds() {
        let (index, took) = round.take_away(Signal::Kill).await?;
        round.restart(index).await?;
        killed.push(took);
    }
    let (_, drained) = round.take_away(Signal::Terminate).await?;
    report("TERM", vec![drained]);
    let (frozen, killed) = (report("STOP", frozen), report("KILL", killed));
    ensure!(killed <= Duration::from_secs(2), "a killed relay was named for {killed:?}");
    ensure!(frozen <= Duration::from_secs(6), "a silent relay was named for {frozen:?}");
    drop(client);
    drop(world);
    dir.done();
    Ok(())
}
