//! The main job: a service of this machine under a public HTTPS name through relays found on chain, and the same name
//! after its relay is killed, or freezes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hickory_proto::rr::{RData, RecordType};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::process::Command;
use tunnler_tests::load;
use tunnler_tests::process::{Scratch, Signal, run_ok};
use tunnler_tests::visitor::Visitor;
use tunnler_tests::web::{self, SECRET_PHRASE, Web};
use tunnler_tests::world::programs::{Client, tunnler_ok, tunnler_run};
use tunnler_tests::world::{Layout, World, ZONE};

/// A running network with one published name.
struct Published {
    world: World,
    // Keeps the published service up.
    _web: Web,
    client: Client,
    key: std::path::PathBuf,
    address: String,
    visitor: Visitor,
}

impl Published {
    async fn start(dir: &std::path::Path) -> Result<Self> {
        tunnler_transport::tls::install_provider();
        let mut world = World::start(dir, &Layout::default(), |step| println!("{step}")).await?;
        let web = Web::start().await?;
        let (secret, key) = world.funded_key("publisher").await?;
        world.register_name(&key, "mynode").await?;
        let client = world.publish("client", &key, &web.address().to_string(), "mynode").await?;
        let visitor = world.visitor().await?;
        World::wait_for("both relays in DNS", Duration::from_secs(20), || async {
            visitor.addresses(client.host()).await.is_ok_and(|found| found.len() == 2)
        })
        .await?;
        Ok(Self { world, _web: web, client, key, address: secret.address().to_string(), visitor })
    }

    fn host(&self) -> &str {
        self.client.host()
    }

    /// Takes the relay in use away during steady visits; returns its index and how long DNS kept naming it.
    async fn take_away(&self, signal: Signal) -> Result<(usize, Duration)> {
        let used = self.visitor.get(self.host(), "/").await?.via;
        let index = self.world.relays.iter().position(|relay| relay.ingress() == used);
        let index = index.context("an unknown relay answered")?;
        let visits = tokio::spawn({
            let (visitor, host) = (self.visitor.clone(), self.host().to_owned());
            async move { load::visit(&visitor, &host, "/", SECRET_PHRASE, 20, Duration::from_secs(12)).await }
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.world.relays[index].process.signal(signal)?;
        let withdrawn = World::wait_for("withdrawal from DNS", Duration::from_secs(15), || async {
            let found = self.visitor.addresses(self.host()).await.unwrap_or_default();
            !found.is_empty() && !found.contains(&used.ip())
        })
        .await?;
        let visits = visits.await?;
        ensure!(visits.made >= 200, "only {} visits", visits.made);
        ensure!(
            visits.failed == 0,
            "{} of {} visits failed: {:?}",
            visits.failed,
            visits.made,
            visits.failures
        );
        println!("{signal:?}: withdrawn after {withdrawn:?}; {visits:?}");
        Ok((index, withdrawn))
    }
}

#[tokio::test]
async fn a_name_is_served_and_outlives_its_relays() -> Result<()> {
    let dir = Scratch::new()?;
    let mut it = Published::start(dir.path()).await?;

    the_visitor_reaches_the_client_itself(&it).await?;
    bodies_cookies_and_websockets_arrive_whole(&it).await?;
    the_chain_and_the_zone_say_so(&it).await?;

    let (dead, withdrawn) = it.take_away(Signal::Kill).await?;
    ensure!(withdrawn <= Duration::from_secs(2), "a killed relay was named for {withdrawn:?}");

    let mut relay = it.world.relays.remove(dead);
    let restarted = relay.restart(&it.world, &format!("relay{}", dead + 1)).await;
    it.world.relays.insert(dead, relay);
    restarted?;
    World::wait_for("both relays in DNS again", Duration::from_secs(60), || async {
        it.visitor.addresses(it.host()).await.is_ok_and(|found| found.len() == 2)
    })
    .await?;
    let (_, withdrawn) = it.take_away(Signal::Stop).await?;
    ensure!(withdrawn <= Duration::from_secs(6), "a silent relay was named for {withdrawn:?}");
    a_name_that_points_elsewhere_is_served_no_longer(&it).await?;
    drop(it);
    dir.done();
    Ok(())
}

async fn a_name_that_points_elsewhere_is_served_no_longer(it: &Published) -> Result<()> {
    let relay = it.visitor.get(it.host(), "/").await?.via;
    tunnler_ok(&it.world, &it.key, &["name", "set-target", "mynode"]).await?;
    // Asked at the relay itself, whose session with the client stays open.
    let lost = World::wait_for("the relay to refuse the name", Duration::from_secs(15), || async {
        it.visitor.tls().connect(relay, it.host()).await.is_err()
    });
    println!("a name that points elsewhere is refused after {:?}", lost.await?);
    Ok(())
}

async fn the_visitor_reaches_the_client_itself(it: &Published) -> Result<()> {
    let page = it.visitor.get(it.host(), "/").await?;
    ensure!(page.status == 200 && String::from_utf8_lossy(&page.body).contains(SECRET_PHRASE));
    // The key in the client's state directory is the one of the certificate that the visitor verified.
    let certs = it.client.state().join("certs").join(it.host());
    let key = rcgen::KeyPair::from_pem(&std::fs::read_to_string(certs.join("key.pem"))?)?;
    let (_, leaf) = x509_parser::parse_x509_certificate(&page.leaf)?;
    ensure!(leaf.public_key().subject_public_key.data.as_ref() == key.public_key_raw(), "another key");
    // No relay holds it.
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(certs.join("key.pem"))?.permissions());
    ensure!(mode & 0o077 == 0, "the key file has mode {mode:o}");
    for relay in 0..it.world.relays.len() {
        let state = it.world.dir().join(format!("relay{}", relay + 1));
        let private = key.serialize_pem();
        for file in walk(&state)? {
            let text = std::fs::read(&file)?;
            ensure!(
                !String::from_utf8_lossy(&text).contains(private.lines().nth(1).unwrap_or("-")),
                "{file:?}"
            );
        }
    }
    // A relay's own host has a certificate of the CA too, for its own name.
    let relay = it.world.relays[0].relay();
    let own = format!("{}.relay.{ZONE}", relay.label());
    let health = it.visitor.get(&own, "/health").await?;
    ensure!(health.status == 200, "{}", health.status);
    ensure!(CertificateDer::from_pem_file(certs.join("chain.pem"))? == page.leaf);
    Ok(())
}

fn walk(dir: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(walk(&path)?)
        } else if path.is_file() {
            files.push(path)
        }
    }
    Ok(files)
}

async fn bodies_cookies_and_websockets_arrive_whole(it: &Published) -> Result<()> {
    let big = web::big_file();
    ensure!(it.visitor.get(it.host(), "/file").await?.body == big, "50 MB down differ");
    let up = it.visitor.put(it.host(), "/upload", big.clone()).await?;
    ensure!(up.body == web::digest(&big).as_bytes(), "50 MB up differ");
    let cookies = it.visitor.get(it.host(), "/cookies").await?;
    let cookies: Vec<_> = cookies.headers.get_all("set-cookie").iter().collect();
    ensure!(cookies == ["a=1; Path=/", "b=2; Path=/"], "{cookies:?}");
    ensure!(it.visitor.echo(it.host(), "/echo", "hello").await? == "hello");
    let headers = it.visitor.get(it.host(), "/headers").await?;
    let headers = String::from_utf8_lossy(&headers.body).into_owned();
    for line in
        [format!("host: {}", it.host()), "x-forwarded-proto: https".into(), "x-forwarded-for: 127.".into()]
    {
        ensure!(headers.contains(&line), "no {line:?} in {headers}");
    }
    Ok(())
}

async fn the_chain_and_the_zone_say_so(it: &Published) -> Result<()> {
    let network = it.world.network();
    let mut stellar = Command::new("stellar");
    stellar.env("STELLAR_NO_UPDATE_CHECK", "1").current_dir(it.world.dir());
    stellar.args(["contract", "invoke", "--id", &network.namespace, "--source-account", &it.address]);
    stellar.args(["--rpc-url", &it.world.localnet.url(), "--network-passphrase", &network.passphrase]);
    stellar.args(["--config-dir"]).arg(it.world.dir().join("stellar"));
    let resolved = run_ok(stellar.args(["--", "resolve", "--name", "mynode"])).await?;
    ensure!(resolved == format!("\"{}\"", it.address), "resolve says {resolved}");

    tunnler_ok(&it.world, &it.key, &["home-domain", "set", it.host()]).await?;
    let account = tunnler_chain::read_account(network, &it.address.parse()?).await?.context("no account")?;
    ensure!(account.home_domain.as_deref() == Some(it.host()), "{account:?}");
    let long = format!("{}.{ZONE}", "x".repeat(30));
    let refused = tunnler_run(&it.world, &it.key, &["home-domain", "set", &long]).await?;
    ensure!(refused.code != 0 && refused.stderr.contains("32"), "{refused:?}");

    let caa = it.visitor.resolve(it.host(), RecordType::CAA).await?;
    ensure!(
        caa.records
            .iter()
            .any(|r| matches!(&r.data, RData::CAA(caa) if format!("{caa}").contains("accounturi")))
    );
    let apex = it.visitor.resolve(ZONE, RecordType::CAA).await?;
    ensure!(apex.records.len() == 2, "the apex denies issue and issuewild: {apex:?}");
    for (host, kind) in [(ZONE, RecordType::SOA), (ZONE, RecordType::NS), ("ns1.tun.test", RecordType::A)] {
        ensure!(!it.visitor.resolve(host, kind).await?.records.is_empty(), "{host} {kind}");
    }
    let unknown = it.visitor.resolve("nobody-has-this.tun.test", RecordType::A).await?;
    ensure!(unknown.code == hickory_proto::op::ResponseCode::NXDomain, "{unknown:?}");
    Ok(())
}
