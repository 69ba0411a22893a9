//! The client among misfortunes: killed, alone without a ledger, doubled, its relay draining; and the Pintheon preset.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hickory_proto::rr::{RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tunnler_tests::load;
use tunnler_tests::process::{Process, Scratch, Signal, program, run};
use tunnler_tests::visitor::Visitor;
use tunnler_tests::web::{SECRET_PHRASE, Web};
use tunnler_tests::world::programs::{tunnler, tunnler_ok, tunnler_run};
use tunnler_tests::world::{Layout, World};

const HOST: &str = "mynode.tun.test";

/// Starts a client of its own log and state and waits for its URL.
async fn publish(world: &World, key: &Path, name: &str, state: &str, arguments: &[&str]) -> Result<Process> {
    let mut command = tunnler(world, key)?;
    command.arg("--state").arg(world.dir().join(state)).args(arguments);
    let mut process = Process::spawn(name, command, world.dir())?;
    let log = process.log().to_owned();
    let says_url = || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        std::future::ready(text.contains("https://mynode"))
    };
    process.wait_until("serving", Duration::from_secs(30), says_url).await?;
    Ok(process)
}

async fn arrives(visitor: &Visitor) -> bool {
    visitor.get(HOST, "/").await.is_ok_and(|page| String::from_utf8_lossy(&page.body).contains(SECRET_PHRASE))
}

#[tokio::test]
async fn the_client_comes_back_from_everything_with_its_certificate() -> Result<()> {
    tunnler_transport::tls::install_provider();
    let scratch = Scratch::new()?;
    let mut world = World::start(scratch.path(), &Layout::default(), |step| println!("{step}")).await?;
    let web = Web::start().await?;
    let target = web.address().to_string();
    let (_, key) = world.funded_key("publisher").await?;
    world.register_name(&key, "mynode").await?;
    let http = ["http", &target, "--name", "mynode"];
    let mut first = publish(&world, &key, "first", "state", &http).await?;
    let visitor = world.visitor().await?;
    World::wait_for("the page", Duration::from_secs(15), || arrives(&visitor)).await?;
    let chain = world.dir().join("state/certs").join(HOST).join("chain.pem");
    let issued = std::fs::read(&chain)?;

    a_tcp_service_has_one_port_on_every_relay(&mut world, &visitor).await?;

    // One process at a time.
    let mut second = tunnler(&world, &key)?;
    second.arg("--state").arg(world.dir().join("state")).args(http);
    let refused = run(&mut second).await?;
    ensure!(refused.code == 1 && refused.stderr.contains("another tunnler uses"), "{refused:?}");

    // Killed: back within ten seconds, without another order.
    first.kill().await?;
    let begun = Instant::now();
    let again = publish(&world, &key, "again", "state", &http).await?;
    World::wait_for("the page again", Duration::from_secs(10), || arrives(&visitor)).await?;
    println!("back after SIGKILL in {:?}", begun.elapsed());
    ensure!(std::fs::read(&chain)? == issued, "another certificate was ordered");

    a_drained_relay_costs_no_visit(&mut world, &visitor).await?;
    two_instances_share_the_name(&world, &key, &visitor, &http, again).await?;

    // Without a ledger it starts from what it knows.
    let kept = world.dir().join("state/chain/chain.projection");
    let mut settled = publish(&world, &key, "settled", "state", &http).await?;
    World::wait_for("the chain on disk", Duration::from_secs(40), || std::future::ready(kept.exists()))
        .await?;
    settled.kill().await?;
    world.localnet.process.kill().await?;
    let _alone = publish(&world, &key, "alone", "state", &http).await?;
    World::wait_for("the page without a ledger", Duration::from_secs(15), || arrives(&visitor)).await?;
    ensure!(std::fs::read(&chain)? == issued, "another certificate was ordered");
    scratch.done();
    Ok(())
}

/// A server that tells each visitor the address it was announced with, then echoes what it hears.
async fn announced_echo() -> Result<std::net::SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut header = [0; 28];
                stream.read_exact(&mut header).await?;
                // PROXY protocol v2 over TCP and IPv4, 12 bytes of addresses and nothing else.
                let known = header.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
                let port = u16::from_be_bytes([header[24], header[25]]);
                stream.write_all(format!("{known} {port}\n").as_bytes()).await?;
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await?;
                to.shutdown().await
            });
        }
    });
    Ok(address)
}

async fn a_tcp_service_has_one_port_on_every_relay(world: &mut World, visitor: &Visitor) -> Result<()> {
    let (_, key) = world.funded_key("shell").await?;
    world.register_name(&key, "shell").await?;
    let target = announced_echo().await?.to_string();
    let mut command = tunnler(world, &key)?;
    command.arg("--state").arg(world.dir().join("tcp-state"));
    command.args(["tcp", &target, "--service", "ssh", "--proxy-protocol", "--name", "shell"]);
    let mut process = Process::spawn("tcp", command, world.dir())?;
    let log = process.log().to_owned();
    let url = || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("tcp://shell.tun.test:").map(str::to_owned))
    };
    process.wait_until("serving", Duration::from_secs(30), || std::future::ready(url().is_some())).await?;
    let port: u16 = url().context("the URL")?.parse()?;
    let services = || async { visitor.resolve("_ssh._tcp.shell.tun.test", RecordType::SRV).await };
    World::wait_for("both relays and the port in DNS", Duration::from_secs(20), || async {
        let both = visitor.addresses("shell.tun.test").await.is_ok_and(|found| found.len() == 2);
        let srv = services().await.is_ok_and(|found| {
            found.records.iter().any(|record| matches!(&record.data, RData::SRV(srv) if srv.port == port))
        });
        both && srv
    })
    .await?;
    for relay in visitor.addresses("shell.tun.test").await? {
        let mut stream = TcpStream::connect((relay, port)).await?;
        let own = stream.local_addr()?.port();
        stream.write_all(b"bytes of any kind \0\xff").await?;
        stream.shutdown().await?;
        let mut heard = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut heard)).await??;
        let expected = [format!("true {own}\n").as_bytes(), b"bytes of any kind \0\xff"].concat();
        ensure!(heard == expected, "relay {relay} passed on {heard:?}");
    }
    // No certificate was ordered for what never speaks TLS here.
    ensure!(!world.dir().join("tcp-state/certs").exists());
    // The port outlives the process: visitors wrote it down.
    process.kill().await?;
    let kept: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.dir().join("tcp-state/ports.json"))?)?;
    ensure!(kept["ssh"] == port, "{kept}");
    Ok(())
}

async fn a_drained_relay_costs_no_visit(world: &mut World, visitor: &Visitor) -> Result<()> {
    World::wait_for("two relays", Duration::from_secs(20), || async {
        visitor.addresses(HOST).await.is_ok_and(|found| found.len() == 2)
    })
    .await?;
    let visits = tokio::spawn({
        let visitor = visitor.clone();
        async move { load::visit(&visitor, HOST, "/", SECRET_PHRASE, 20, Duration::from_secs(8)).await }
    });
    world.relays[0].process.signal(Signal::Terminate)?;
    let visits = visits.await?;
    ensure!(visits.failed == 0, "{} of {} visits failed: {:?}", visits.failed, visits.made, visits.failures);
    Ok(())
}

async fn two_instances_share_the_name(
    world: &World,
    key: &Path,
    visitor: &Visitor,
    http: &[&str],
    one: Process,
) -> Result<()> {
    // The other one is a program of somebody's own that uses the library.
    let mut command = Command::new(program("examples/publish")?);
    command.arg(world.network_file()).arg(key).arg(world.dir().join("state-of-another-machine"));
    command.args([http[1], "mynode"]);
    let mut other = Process::spawn("other", command, world.dir())?;
    let log = other.log().to_owned();
    let says_url = || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        std::future::ready(text.contains("https://mynode"))
    };
    other.wait_until("serving", Duration::from_secs(30), says_url).await?;
    ensure!(arrives(visitor).await);
    one.signal(Signal::Kill)?;
    World::wait_for("the page from the other instance", Duration::from_secs(15), || arrives(visitor)).await?;
    let visits = load::visit(visitor, HOST, "/", SECRET_PHRASE, 20, Duration::from_secs(3)).await;
    ensure!(visits.failed == 0, "{} of {} visits failed: {:?}", visits.failed, visits.made, visits.failures);
    other.signal(Signal::Terminate)?;
    World::wait_for("the farewell in DNS", Duration::from_secs(15), || async {
        visitor.addresses(HOST).await.is_ok_and(|found| found.is_empty())
    })
    .await?;
    Ok(())
}

/// What a Pintheon node does on its two ports, as far as a tunnel can see it.
async fn pintheon(private: bool, account: &str) -> Result<std::net::SocketAddr> {
    use http_body_util::Full;
    use hyper::service::service_fn;
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key.into())?;
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let toml = format!("VERSION = \"0.0.1\"\nACCOUNTS = [\"{account}\"]\n");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, toml) = (acceptor.clone(), toml.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let toml = toml.clone();
                    async move {
                        let host =
                            request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or("");
                        let body = match (private, request.uri().path()) {
                            (true, "/.well-known/stellar.toml") => toml,
                            (true, path) => format!("ADMIN {path}"),
                            (false, "/") => format!("home of {host}"),
                            (false, path) => format!("public {path}"),
                        };
                        Ok::<_, std::convert::Infallible>(hyper::Response::new(Full::new(
                            bytes::Bytes::from(body),
                        )))
                    }
                });
                let io = hyper_util::rt::TokioIo::new(stream);
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            });
        }
    });
    Ok(address)
}

#[tokio::test]
async fn a_pintheon_node_is_published_without_its_private_side() -> Result<()> {
    tunnler_transport::tls::install_provider();
    let scratch = Scratch::new()?;
    let layout = Layout { relays: 1, ..Layout::default() };
    let mut world = World::start(scratch.path(), &layout, |step| println!("{step}")).await?;
    let (secret, key) = world.funded_key("node").await?;
    let account = secret.address().to_string();
    let public = pintheon(false, &account).await?.port().to_string();
    let private = pintheon(true, &account).await?.port().to_string();
    world.register_name(&key, "mynode").await?;
    let preset = ["pintheon", "--name", "mynode", "--port", &public, "--private-port", &private];
    let _client = publish(&world, &key, "client", "state", &preset).await?;
    let visitor = world.visitor().await?;
    let get = |path: &'static str| {
        let visitor = &visitor;
        async move {
            visitor
                .get(HOST, path)
                .await
                .map(|page| (page.headers, String::from_utf8_lossy(&page.body).into_owned()))
        }
    };
    World::wait_for("the node", Duration::from_secs(15), || async { get("/").await.is_ok() }).await?;
    ensure!(get("/").await?.1.starts_with("home of mynode.tun.test"), "the public Host is kept");
    let (headers, toml) = get("/.well-known/stellar.toml").await?;
    ensure!(toml.starts_with("VERSION"), "{toml}");
    ensure!(headers.get("access-control-allow-origin").is_some_and(|value| value == "*"), "{headers:?}");
    // No spelling leads to the private side.
    for path in [
        "/admin",
        "/.well-known/stellar.toml/",
        "/.well-known/stellar.toml/../../admin",
        "/.well-known/../admin",
        "//.well-known/stellar.toml",
        "/.well-known/stellar%2etoml",
        "/.well-known%2fstellar.toml",
        "/.well-known/stellar.toml%00",
        "/.well-known/stellar.toml;/admin",
        "/update_gateway",
    ] {
        // A path that may be taken for the document's is refused, any other is the public side's.
        let (_, body) = get(path).await?;
        ensure!(body.starts_with("public ") || body.contains("may be taken for another"), "{path}: {body}");
    }
    let (_, body) = get("/.well-known/stellar.toml?path=/admin").await?;
    ensure!(body.starts_with("VERSION"), "{body}");
    World::wait_for("the home_domain on the ledger", Duration::from_secs(20), || async {
        let account = tunnler_chain::read_account(world.network(), &secret.address()).await;
        account.is_ok_and(|account| account.is_some_and(|a| a.home_domain.as_deref() == Some(HOST)))
    })
    .await?;
    let shown = tunnler_ok(&world, &key, &["home-domain", "show"]).await?;
    ensure!(shown.trim() == HOST, "{shown}");
    let root = world.dir().join("root.pem");
    std::fs::write(&root, world.pebble.issuing_root().await?)?;
    let root = root.to_str().context("a path")?;
    let verified = tunnler_ok(&world, &key, &["home-domain", "verify", "--root", root]).await?;
    ensure!(verified.contains(&account), "{verified}");
    let untrusted = tunnler_run(&world, &key, &["home-domain", "verify"]).await?;
    ensure!(untrusted.code == 1 && untrusted.stderr.contains("certificate"), "{untrusted:?}");

    // A configuration file with a mistake, and one without.
    let file = world.dir().join("tunnler.toml");
    std::fs::write(&file, "colour = 1\nservice = []\n")?;
    let path = file.to_str().context("a path")?;
    let refused = tunnler_run(&world, &key, &["up", path]).await?;
    ensure!(refused.code == 2 && refused.stderr.contains("colour"), "{refused:?}");
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn a_configuration_file_is_followed() -> Result<()> {
    tunnler_transport::tls::install_provider();
    let scratch = Scratch::new()?;
    let layout = Layout { relays: 1, ..Layout::default() };
    let mut world = World::start(scratch.path(), &layout, |step| println!("{step}")).await?;
    let (_, key) = world.funded_key("publisher").await?;
    world.register_name(&key, "mynode").await?;
    for (dir, text) in [("one", "first"), ("two", "second"), ("docs", "documents")] {
        let dir = world.dir().join(dir);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("index.html"), text)?;
        std::fs::write(dir.join(".secret"), "hidden")?;
    }
    let file = world.dir().join("tunnler.toml");
    let configuration = |dir: &str| {
        format!(
            "names = [\"mynode\"]\n[[service]]\nname = \"http\"\ndir = \"{dir}\"\n[[service]]\nname = \"docs\"\ndir = \"docs\"\n"
        )
    };
    std::fs::write(&file, configuration("one"))?;
    let path = file.to_str().context("a path")?.to_owned();
    let _client = publish(&world, &key, "client", "state", &["up", &path]).await?;
    let visitor = world.visitor().await?;
    let says = |host: &'static str, text: &'static str| {
        let visitor = visitor.clone();
        move || {
            let visitor = visitor.clone();
            async move { visitor.get(host, "/").await.is_ok_and(|page| page.body == text.as_bytes()) }
        }
    };
    World::wait_for("the first page", Duration::from_secs(15), says(HOST, "first")).await?;
    World::wait_for(
        "the service's own host",
        Duration::from_secs(15),
        says("docs.mynode.tun.test", "documents"),
    )
    .await?;
    ensure!(visitor.get(HOST, "/.secret").await?.status == 404);
    ensure!(visitor.get("nothere.mynode.tun.test", "/").await.is_err());
    std::fs::write(&file, configuration("two"))?;
    World::wait_for("the changed page", Duration::from_secs(10), says(HOST, "second")).await?;

    // Changes cost no visit, and a file with a mistake changes nothing.
    std::fs::write(world.dir().join("one/both.txt"), "the same in both")?;
    std::fs::write(world.dir().join("two/both.txt"), "the same in both")?;
    let visits = tokio::spawn({
        let visitor = visitor.clone();
        async move {
            load::visit(&visitor, HOST, "/both.txt", "the same in both", 20, Duration::from_secs(8)).await
        }
    });
    for dir in ["one", "nowhere", "two", "one"] {
        std::fs::write(&file, configuration(dir))?;
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
    let visits = visits.await?;
    ensure!(visits.failed == 0, "{} of {} visits failed: {:?}", visits.failed, visits.made, visits.failures);
    World::wait_for("the last change", Duration::from_secs(10), says(HOST, "first")).await?;
    scratch.done();
    Ok(())
}
