//! Term mode: relays end TLS with certificates of their own, got through the client's presence, and for nothing else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tunnler_tests::hostile::{self, HostileRelay};
use tunnler_tests::load;
use tunnler_tests::process::{Process, Scratch, Signal};
use tunnler_tests::visitor::Visitor;
use tunnler_tests::web::{SECRET_PHRASE, Web};
use tunnler_tests::world::programs::{http_get, tunnler, tunnler_ok};
use tunnler_tests::world::{Layout, World};

const HOST: &str = "mynode.tun.test";
const PASS: &str = "passnode.tun.test";
const PUBLIC: &str = "public.passnode.tun.test";

/// A network with `mynode`, whose TLS relays end, and `passnode`, whose client does but for its service `public`.
struct Scene {
    world: World,
    _web: Web,
    visitor: Visitor,
    key: PathBuf,
    term: Process,
    pass: Process,
}

impl Scene {
    async fn start(dir: &Path) -> Result<Self> {
        tunnler_transport::tls::install_provider();
        let mut world = World::start(dir, &Layout::default(), |step| println!("{step}")).await?;
        let web = Web::start().await?;
        let target = web.address().to_string();
        let (_, key) = world.funded_key("publisher").await?;
        world.register_name(&key, "mynode").await?;
        let (_, other) = world.funded_key("other").await?;
        world.register_name(&other, "passnode").await?;
        let arguments = ["http", &target, "--name", "mynode", "--tls", "term"];
        let term = publish(&world, &key, "term", &arguments, HOST).await?;
        let file = world.dir().join("tunnler.toml");
        let service = |name: &str, mode: &str| {
            format!("[[service]]\nname = \"{name}\"\ntarget = \"{target}\"\ntls = \"{mode}\"\n")
        };
        let services = [service("http", "pass"), service("public", "term")].concat();
        std::fs::write(&file, format!("names = [\"passnode\"]\n{services}"))?;
        let pass = publish(&world, &other, "pass", &["up", &file.to_string_lossy()], PASS).await?;
        let visitor = world.visitor().await?;
        Ok(Self { world, _web: web, visitor, key, term, pass })
    }

    /// The leaf that one relay shows for the term-mode host, after a page was fetched there.
    async fn leaf(&self, relay: usize) -> Result<Vec<u8>> {
        let ingress = self.world.relays[relay].ingress();
        let page = self.visitor.tls().get(ingress, HOST, HOST, "/").await?;
        ensure!(String::from_utf8_lossy(&page.body).contains(SECRET_PHRASE), "{page:?}");
        Ok(page.leaf.to_vec())
    }

    async fn orders(&self, relay: usize) -> Result<String> {
        let (_, metrics) = http_get(self.world.relays[relay].admin(), "/metrics").await?;
        let mut lines: Vec<&str> =
            metrics.lines().filter(|line| line.starts_with("tunnler_orders_total")).collect();
        lines.sort_unstable();
        Ok(lines.join("\n"))
    }

    async fn challenges(&self, host: &str) -> Result<Vec<String>> {
        let found = self.visitor.resolve(&format!("_acme-challenge.{host}"), RecordType::TXT).await?;
        Ok(found.records.iter().map(|record| record.data.to_string()).collect())
    }
}

/// Starts a client and waits for its URL.
async fn publish(world: &World, key: &Path, name: &str, arguments: &[&str], host: &str) -> Result<Process> {
    let mut command = tunnler(world, key)?;
    command.arg("-v").arg("--state").arg(world.dir().join(format!("{name}-state"))).args(arguments);
    let mut process = Process::spawn(name, command, world.dir())?;
    let (log, url) = (process.log().to_owned(), format!("https://{host}"));
    let says_url = || std::future::ready(std::fs::read_to_string(&log).unwrap_or_default().contains(&url));
    process.wait_until("serving", Duration::from_secs(60), says_url).await?;
    Ok(process)
}

fn directories(path: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(path)?.collect::<std::io::Result<Vec<_>>>()?;
    let directories = entries.into_iter().filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> =
        directories.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

#[tokio::test]
async fn relays_end_tls_with_certificates_of_their_own_and_for_nothing_else() -> Result<()> {
    let scratch = Scratch::new()?;
    let mut it = Scene::start(scratch.path()).await?;
    each_relay_has_its_own_certificate(&it).await?;
    everything_passes_through(&it).await?;
    one_service_of_a_client_may_differ(&it).await?;
    caa_names_the_relays_accounts_and_no_wildcard(&it).await?;
    ten_thousand_names_open_no_order(&it).await?;
    a_killed_relay_costs_no_visit(&mut it).await?;
    a_hostile_relay_gets_nothing_signed(&mut it).await?;
    certificates_outlive_the_ca(&mut it).await?;
    a_relay_without_a_certificate_hands_its_visitors_on(&mut it).await?;
    drop(it);
    scratch.done();
    Ok(())
}

async fn each_relay_has_its_own_certificate(it: &Scene) -> Result<()> {
    World::wait_for("both relays to serve", Duration::from_secs(40), || async {
        it.leaf(0).await.is_ok() && it.leaf(1).await.is_ok()
    })
    .await?;
    let (first, second) = (it.leaf(0).await?, it.leaf(1).await?);
    ensure!(first != second, "the relays share a certificate");
    ensure!(!it.world.dir().join("term-state/certs").join(HOST).exists(), "the client ordered one, too");
    for (relay, leaf) in [(1, &first), (2, &second)] {
        let state = it.world.dir().join(format!("relay{relay}/term"));
        ensure!(directories(&state)? == [HOST, PUBLIC], "{:?}", directories(&state)?);
        let key = state.join(HOST).join("key.pem");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key)?.permissions());
        ensure!(mode & 0o077 == 0, "the key file has mode {mode:o}");
        let (_, names) = x509_parser::parse_x509_certificate(leaf)?;
        let names = names.subject_alternative_name()?.context("no names")?;
        ensure!(names.value.general_names.len() == 1, "{names:?}");
    }
    let status = tunnler_ok(
        &it.world,
        &it.key,
        &["status", "--state", &it.world.dir().join("term-state").to_string_lossy()],
    )
    .await?;
    ensure!(status.contains("2 of 2 have certificates"), "{status}");
    Ok(())
}

async fn everything_passes_through(it: &Scene) -> Result<()> {
    ensure!(it.visitor.echo(HOST, "/echo", "hello").await? == "hello");
    let big = tunnler_tests::web::big_file();
    ensure!(it.visitor.get(HOST, "/file").await?.body == big, "50 MB down differ");
    let up = it.visitor.put(HOST, "/upload", big.clone()).await?;
    ensure!(up.body == tunnler_tests::web::digest(&big).as_bytes(), "50 MB up differ");
    let cookies = it.visitor.get(HOST, "/cookies").await?;
    ensure!(cookies.headers.get_all("set-cookie").iter().count() == 2, "{cookies:?}");
    let headers = it.visitor.get(HOST, "/headers").await?;
    let headers = String::from_utf8_lossy(&headers.body).into_owned();
    for line in [format!("host: {HOST}"), "x-forwarded-proto: https".into(), "x-forwarded-for: 127.".into()] {
        let found = headers.lines().filter(|found| found.starts_with(&line)).count();
        ensure!(found == 1, "no single {line:?} in {headers}");
    }
    Ok(())
}

async fn one_service_of_a_client_may_differ(it: &Scene) -> Result<()> {
    let certs = it.world.dir().join("pass-state/certs");
    ensure!(directories(&certs)? == [PASS], "{:?}", directories(&certs)?);
    let own = CertificateDer::from_pem_file(certs.join(PASS).join("chain.pem"))?;
    for relay in &it.world.relays {
        let page = it.visitor.tls().get(relay.ingress(), PASS, PASS, "/").await?;
        ensure!(page.leaf == own, "TLS of the bare name ends elsewhere");
        let page = it.visitor.tls().get(relay.ingress(), PUBLIC, PUBLIC, "/").await?;
        ensure!(page.leaf != own && String::from_utf8_lossy(&page.body).contains(SECRET_PHRASE));
    }
    // The relays' accounts are allowed for that service and for nothing else of the client.
    for (host, relays) in [(PASS, 0), (PUBLIC, 2)] {
        let issue = caa(it, host).await?.into_iter().filter(|(tag, _)| tag == "issue").count();
        ensure!(issue == relays + 1, "{issue} accounts for {host}");
    }
    Ok(())
}

/// Tags and values. Over TCP, as three accounts do not fit into 512 bytes.
async fn caa(it: &Scene, host: &str) -> Result<Vec<(String, String)>> {
    let mut query = Message::new(7, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(format!("{host}."))?, RecordType::CAA));
    let query = query.to_vec()?;
    let mut stream = TcpStream::connect(it.world.dns[0].address()).await?;
    stream.write_u16(u16::try_from(query.len())?).await?;
    stream.write_all(&query).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    let mut found = Vec::new();
    for record in Message::from_vec(&answer)?.answers {
        let RData::CAA(caa) = record.data else { continue };
        found.push((caa.tag, String::from_utf8(caa.value)?));
    }
    Ok(found)
}

async fn caa_names_the_relays_accounts_and_no_wildcard(it: &Scene) -> Result<()> {
    let found = caa(it, HOST).await?;
    let (issue, rest): (Vec<_>, Vec<_>) = found.into_iter().partition(|(tag, _)| tag == "issue");
    ensure!(rest == [("issuewild".to_owned(), ";".to_owned())], "{rest:?}");
    let mut allowed: Vec<String> = issue.into_iter().map(|(_, value)| value).collect();
    allowed.sort();
    let mut accounts = Vec::new();
    for relay in 1..=2 {
        let kept = std::fs::read(it.world.dir().join(format!("relay{relay}/acme/account.json")))?;
        let kept: serde_json::Value = serde_json::from_slice(&kept)?;
        let account = kept["account"].as_str().context("no account")?.to_owned();
        accounts.push(format!("pebble.test; accounturi={account}; validationmethods=dns-01"));
    }
    accounts.sort();
    ensure!(allowed == accounts, "{allowed:?} instead of {accounts:?}");
    // The values are taken back once they have served.
    World::wait_for("the end of the challenges", Duration::from_secs(10), || async {
        it.challenges(HOST).await.is_ok_and(|found| found.is_empty())
    })
    .await?;
    Ok(())
}

/// A ClientHello that names `host`.
fn hello(host: &str) -> Result<Vec<u8>> {
    let roots = rustls::RootCertStore::empty();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = rustls_pki_types::ServerName::try_from(host.to_owned())?;
    let mut connection = rustls::ClientConnection::new(config.into(), name)?;
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes)?;
    Ok(bytes)
}

async fn ten_thousand_names_open_no_order(it: &Scene) -> Result<()> {
    let before = it.orders(0).await?;
    ensure!(before.contains("outcome=\"issued\"} 2"), "{before}");
    let ingress = it.world.relays[0].ingress();
    // One hello, in which names of one length take turns.
    let pattern = hello("n-00000.tun.test")?;
    let at = pattern.windows(7).position(|window| window == b"n-00000").context("no name in the hello")?;
    let below = hello("n-00000.mynode.tun.test")?;
    let at_below =
        below.windows(7).position(|window| window == b"n-00000").context("no name in the hello")?;
    let mut asking = JoinSet::new();
    let (mut asked, mut refused) = (0_usize, 0_usize);
    while asked < 10_000 || !asking.is_empty() {
        while asked < 10_000 && asking.len() < 64 {
            let (mut bytes, at) =
                if asked.is_multiple_of(2) { (pattern.clone(), at) } else { (below.clone(), at_below) };
            bytes[at..at + 7].copy_from_slice(format!("n-{asked:05}").as_bytes());
            asked += 1;
            asking.spawn(async move {
                let mut stream = TcpStream::connect(ingress).await?;
                stream.write_all(&bytes).await?;
                let mut alert = [0; 7];
                stream.read_exact(&mut alert).await.map(|_| alert)
            });
        }
        if let Some(done) = asking.join_next().await {
            refused += usize::from(done?.is_ok_and(|alert| alert == [21, 3, 3, 0, 2, 2, 112]));
        }
    }
    // Some may have met a limit on newcomers; none may have opened anything.
    ensure!(refused > 9_000, "only {refused} were refused");
    ensure!(it.orders(0).await? == before);
    ensure!(directories(&it.world.dir().join("relay1/term"))? == [HOST, PUBLIC]);
    Ok(())
}

async fn a_killed_relay_costs_no_visit(it: &mut Scene) -> Result<()> {
    let visits = tokio::spawn({
        let visitor = it.visitor.clone();
        async move { load::visit(&visitor, HOST, "/", SECRET_PHRASE, 20, Duration::from_secs(6)).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    it.world.relays[0].process.kill().await?;
    let visits = visits.await?;
    ensure!(visits.made >= 100 && visits.failed == 0, "{visits:?}");
    Ok(())
}

async fn a_hostile_relay_gets_nothing_signed(it: &mut Scene) -> Result<()> {
    let (key, ingress) = (it.world.relays[0].key.clone(), it.world.relays[0].ingress());
    let names = [HOST, PASS, "victim.tun.test", "web.mynode.tun.test"];
    let names = names.iter().map(|name| name.parse()).collect::<Result<Vec<_>, _>>()?;
    let hostile = HostileRelay::start(ingress, key, names).await?;
    let refusals = |process: &Process, host: &str| {
        let text = std::fs::read_to_string(process.log()).unwrap_or_default();
        text.contains(&format!("may not get a certificate for {host}"))
    };
    World::wait_for("both clients' refusals", Duration::from_secs(60), || {
        let done =
            ["victim.tun.test", PASS, "web.mynode.tun.test"].iter().all(|host| refusals(&it.term, host))
                && [HOST, PASS, "victim.tun.test"].iter().all(|host| refusals(&it.pass, host));
        std::future::ready(done)
    })
    .await?;
    ensure!(!refusals(&it.term, HOST), "a relay may ask for what its client lets it end");
    for host in [PASS, "victim.tun.test", "web.mynode.tun.test"] {
        let shown = it.challenges(host).await?;
        ensure!(!shown.iter().any(|value| value.contains(hostile::VALUE)), "{host}: {shown:?}");
    }
    // And its account is the one that CAA allows, whatever value it got shown.
    let allowed = caa(it, PASS).await?;
    let kept = std::fs::read(it.world.dir().join("relay1/acme/account.json"))?;
    let kept: serde_json::Value = serde_json::from_slice(&kept)?;
    let account = kept["account"].as_str().context("no account")?;
    ensure!(!allowed.iter().any(|(_, value)| value.contains(account)), "{allowed:?}");
    drop(hostile);
    Ok(())
}

async fn certificates_outlive_the_ca(it: &mut Scene) -> Result<()> {
    let old = it.leaf(1).await?;
    it.world.pebble.process().signal(Signal::Kill)?;
    let mut relay = it.world.relays.remove(1);
    relay.process.kill().await?;
    let restarted = relay.restart(&it.world, "relay2").await;
    it.world.relays.insert(1, relay);
    restarted?;
    World::wait_for("the old certificate", Duration::from_secs(40), || async {
        it.leaf(1).await.is_ok_and(|leaf| leaf == old)
    })
    .await?;
    Ok(())
}

/// The CA is gone, and with it every way to a new certificate; but DNS names the relay, for the client is there.
async fn a_relay_without_a_certificate_hands_its_visitors_on(it: &mut Scene) -> Result<()> {
    std::fs::remove_dir_all(it.world.dir().join("relay1/term").join(HOST))?;
    let mut relay = it.world.relays.remove(0);
    let restarted = relay.restart(&it.world, "relay1").await;
    it.world.relays.insert(0, relay);
    restarted?;
    let other = it.leaf(1).await?;
    World::wait_for("the other relay's certificate", Duration::from_secs(90), || async {
        it.leaf(0).await.is_ok_and(|leaf| leaf == other)
    })
    .await?;
    Ok(())
}
