//! Long runs of a whole network, for `scripts/soak`: what a test has no time for.

pub mod failover;
pub mod hour;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::visitor::Visitor;
use crate::web::Web;
use crate::world::programs::Client;
use crate::world::{Layout, World};

/// A network with one published name.
struct Published {
    world: World,
    client: Client,
    visitor: Visitor,
    // Keeps the published server up.
    _web: Web,
}

impl Published {
    async fn start(dir: &Path, relays: u8) -> Result<Self> {
        let layout = Layout { relays, ..Layout::default() };
        let mut world = World::start(dir, &layout, |step| eprintln!("{step}")).await?;
        let web = Web::start().await?;
        let (_, key) = world.funded_key("publisher").await?;
        world.register_name(&key, "mynode").await?;
        let client = world.publish("client", &key, &web.address().to_string(), "mynode").await?;
        let visitor = world.visitor().await?;
        let published = Self { world, client, visitor, _web: web };
        published.two_named().await?;
        Ok(published)
    }

    /// Waits until DNS names two relays.
    async fn two_named(&self) -> Result<Duration> {
        World::wait_for("two relays in DNS", Duration::from_secs(90), || async {
            self.visitor.addresses(self.client.host()).await.is_ok_and(|found| found.len() >= 2)
        })
        .await
    }

    /// The index of the relay that a visitor reaches first.
    async fn relay_in_use(&self) -> Result<usize> {
        let via = self.visitor.get(self.client.host(), "/").await?.via;
        let relays = self.world.relays.iter();
        relays.map(|relay| relay.ingress()).position(|ingress| ingress == via).context("an unknown relay")
    }

    /// Starts a dead relay again.
    async fn restart(&mut self, index: usize) -> Result<()> {
        let mut relay = self.world.relays.remove(index);
        let restarted = relay.restart(&self.world, &format!("relay{}", index + 1)).await;
        self.world.relays.insert(index, relay);
        restarted
    }
}

/// The value below which the share `q` of `sorted` lies.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = (sorted.len() as f64 * q).ceil() as usize;
    sorted.get(place.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}
