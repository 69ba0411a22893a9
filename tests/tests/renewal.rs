//! A relay that ends TLS, and a certificate authority at its worst: refusing, gone, and forgetful of its nonces. The old
//! certificate serves until there is a new one.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_util::sync::CancellationToken;
use tunnler_tests::pebble::Reach;
use tunnler_tests::process::Scratch;
use tunnler_tests::visitor::Tls;
use tunnler_tests::web::Web;
use tunnler_tests::world::{Layout, World};

const HOST: &str = "mynode.tun.test";

/// The certificate that lies in the relay's state, and its root.
struct Old {
    root: CertificateDer<'static>,
    leaf: Vec<u8>,
}

impl Old {
    /// Puts a certificate there that was to be renewed long ago and is good for years.
    fn plant(dir: &Path) -> Result<Self> {
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate()?;
        let root = ca.self_signed(&ca_key)?.der().clone();
        let key = KeyPair::generate()?;
        let mut leaf = CertificateParams::new([HOST.to_owned()])?;
        // Two thirds of it were over in 2018.
        (leaf.not_before, leaf.not_after) = (date_time_ymd(1975, 1, 1), date_time_ymd(2040, 1, 1));
        let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?;
        std::fs::write(dir.join("chain.pem"), leaf.pem())?;
        std::fs::write(dir.join("key.pem"), key.serialize_pem())?;
        Ok(Self { root, leaf: leaf.der().to_vec() })
    }
}

/// What visitors met.
#[derive(Debug, Default)]
struct Visits {
    made: usize,
    failed: Vec<String>,
    /// The last leaf shown.
    leaf: Vec<u8>,
}

/// Visits ten times a second until told to stop; a new visitor each time, because one that comes again is shown no
/// certificate.
async fn visit(
    roots: RootCertStore,
    ingress: SocketAddr,
    visits: Arc<Mutex<Visits>>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let page = Tls::new(roots.clone()).get(ingress, HOST, HOST, "/").await;
        {
            let mut visits = visits.lock().unwrap();
            visits.made += 1;
            match page {
                Ok(page) => visits.leaf = page.leaf.to_vec(),
                Err(error) => visits.failed.push(format!("{error:#}")),
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn the_old_certificate_serves_while_the_ca_limits_falls_and_forgets_nonces() -> Result<()> {
    tunnler_transport::tls::install_provider();
    let scratch = Scratch::new()?;
    let layout = Layout { relays: 1, ca: Reach::Fronted, ..Layout::default() };
    let mut world = World::start(scratch.path(), &layout, |step| println!("{step}")).await?;
    let web = Web::start().await?;
    let (_, key) = world.funded_key("publisher").await?;
    world.register_name(&key, "mynode").await?;
    let target = web.address().to_string();
    let _client = world.publish_with("client", &key, "mynode", "http", &[&target, "--tls", "term"]).await?;
    let ingress = world.relays[0].ingress();
    let issued = world.visitor().await?;
    World::wait_for("the first certificate", Duration::from_secs(40), || async {
        issued.tls().get(ingress, HOST, HOST, "/").await.is_ok()
    })
    .await?;

    let front = world.pebble.front().context("no front")?.clone();
    let mut relay = world.relays.remove(0);
    relay.process.kill().await?;
    let old = Old::plant(&world.dir().join("relay1/term").join(HOST))?;
    let mut roots = RootCertStore::empty();
    roots.add(old.root.clone())?;
    roots.add(CertificateDer::from_pem_slice(world.pebble.issuing_root().await?.as_bytes())?)?;
    front.conduct().limit = Some(4);
    relay.restart(&world, "relay1").await?;
    world.relays.push(relay);
    World::wait_for("the old certificate to serve", Duration::from_secs(40), || async {
        let page = Tls::new(roots.clone()).get(ingress, HOST, HOST, "/").await;
        page.is_ok_and(|page| page.leaf.as_ref() == old.leaf)
    })
    .await?;

    let (visits, stop) = (Arc::<Mutex<Visits>>::default(), CancellationToken::new());
    let visiting = tokio::spawn(visit(roots, ingress, visits.clone(), stop.clone()));
    it_limits(&front).await?;
    it_is_down(&front).await?;
    ensure!(visits.lock().unwrap().leaf == old.leaf, "renewed although the CA was away");
    it_forgets_nonces(&front, &visits, &old).await?;
    stop.cancel();
    visiting.await?;
    let visits = visits.lock().unwrap();
    println!("{} visits", visits.made);
    ensure!(visits.made > 100 && visits.failed.is_empty(), "{visits:?}");
    drop(world);
    scratch.done();
    Ok(())
}

type Front = tunnler_tests::pebble::front::Front;

/// 429 with `Retry-After: 4`, for three times as long.
async fn it_limits(front: &Front) -> Result<()> {
    let begun = front.conduct().orders.len();
    World::wait_for("three orders", Duration::from_secs(60), || async {
        front.conduct().orders.len() >= begun + 3
    })
    .await
    .map(|took| {
        println!("three orders against a limit in {took:?}");
        // The first may have come before this began.
        ensure!(took > Duration::from_secs(7), "{took:?}: asked again before it may");
        Ok(())
    })?
}

/// Connections are closed at once; the relay waits 15 s, then 30 s.
async fn it_is_down(front: &Front) -> Result<()> {
    let before = {
        let mut conduct = front.conduct();
        (conduct.down, conduct.limit) = (true, None);
        conduct.connections
    };
    World::wait_for("an attempt", Duration::from_secs(20), || async { front.conduct().connections > before })
        .await?;
    // A tight loop would show within seconds.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let tried = front.conduct().connections - before;
    println!("{tried} connections in the first ten seconds of an outage");
    ensure!(tried <= 8, "{tried} connections within ten seconds");
    Ok(())
}

/// Half of all nonces are refused: it takes longer and comes about.
async fn it_forgets_nonces(front: &Front, visits: &Mutex<Visits>, old: &Old) -> Result<()> {
    let (orders, connections) = {
        let mut conduct = front.conduct();
        (conduct.down, conduct.rejects_nonces) = (false, true);
        (conduct.orders.len(), conduct.connections)
    };
    let renewed = World::wait_for("the new certificate", Duration::from_secs(90), || async {
        visits.lock().unwrap().leaf != old.leaf
    });
    let took = renewed.await.with_context(|| format!("{:?}", visits.lock().unwrap().failed.last()))?;
    let conduct = front.conduct();
    let (orders, connections) = (conduct.orders.len() - orders, conduct.connections - connections);
    println!("renewed {took:?} after the outage: {orders} orders, {connections} connections");
    ensure!(conduct.signed >= 6, "only {} signed requests met a CA without a memory", conduct.signed);
    ensure!(orders <= 2, "{orders} orders");
    ensure!(connections < 150, "{connections} connections");
    Ok(())
}
