//! `tunnler chain`: what the ledger says, seen through the client program; and two such programs with one key.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tunnler_chain::read_account;
use tunnler_protocol::Address;
use tunnler_tests::ports;
use tunnler_tests::process::{self, Output, Process, Scratch, program};
use tunnler_tests::world::programs::{http_get, tunnler, tunnler_ok, tunnler_run};
use tunnler_tests::world::{Layout, World, ZONE};

#[tokio::test]
async fn the_chain_is_shown_followed_and_remembered() -> Result<()> {
    tunnler_transport::tls::install_provider();
    let dir = Scratch::new()?;
    let layout = Layout { relays: 1, ..Layout::default() };
    let mut world = World::start(dir.path(), &layout, |step| println!("{step}")).await?;
    let (secret, key) = world.funded_key("publisher").await?;
    let (publisher, relay) = (secret.address().to_string(), world.relays[0].relay().to_string());

    let mut follower = follow(&world, &key)?;
    let log = follower.log().to_owned();
    let heard = || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().find(|line| line.contains("name_renewed")).map(ToOwned::to_owned)
    };
    world.register_name(&key, "mynode").await?;
    // It tells of what happens after it began, which is at no known moment.
    for _ in 0..4 {
        tunnler_ok(&world, &key, &["name", "renew", "mynode", "--yes"]).await?;
        let told =
            follower.wait_until("told", Duration::from_secs(8), || std::future::ready(heard().is_some()));
        if told.await.is_ok() {
            break;
        }
    }
    let event = heard().with_context(|| format!("nothing followed:\n{}", follower.tail()))?;
    let event: Value = serde_json::from_str(&event)?;
    ensure!(event["subjects"][0] == "mynode", "{event}");

    shows_status(&world, &key).await?;
    shows_directory(&world, &key, &publisher, &relay).await?;
    shows_events(&world, &key, &publisher, &relay).await?;
    tells_of_endpoints_that_are_away(&world).await?;
    one_key_in_two_programs(&world, &key, &secret.address()).await?;
    health_tells_what_is_wrong(&world).await?;
    drop(follower);
    drop(world);
    dir.done();
    Ok(())
}

fn follow(world: &World, key: &Path) -> Result<Process> {
    let mut command = tunnler(world, key)?;
    command.args(["chain", "events", "--follow", "--json"]);
    Process::spawn("follower", command, world.dir())
}

async fn shows_status(world: &World, key: &Path) -> Result<()> {
    let text = tunnler_ok(world, key, &["chain", "status"]).await?;
    let words =
        ["1 of 1 endpoints usable, 1 must agree", "it is trusted alone", &world.localnet.url(), "; usable"];
    says(&text, &words)?;
    ensure!(!text.contains("alarm"), "{text}");
    let status = tunnler_json(world, key, &["chain", "status"]).await?;
    ensure!(status["alarms"] == json!([]) && status["age_seconds"].is_u64(), "{status}");
    let endpoint = &status["endpoints"][0];
    ensure!(endpoint["usable"] == true && endpoint["ledger"]["sequence"].is_u64(), "{status}");
    Ok(())
}

async fn shows_directory(world: &World, key: &Path, publisher: &str, relay: &str) -> Result<()> {
    let ingress = world.relays[0].ingress();
    let text = tunnler_ok(world, key, &["chain", "relays"]).await?;
    says(&text, &[relay, "active", &ingress.ip().to_string(), &ingress.port().to_string(), "local"])?;
    let relays = tunnler_json(world, key, &["chain", "relays"]).await?;
    ensure!(relays.as_array().is_some_and(|relays| relays.len() == 1), "{relays}");
    ensure!(relays[0]["address"] == relay && relays[0]["active"] == true, "{relays}");

    let text = tunnler_ok(world, key, &["chain", "names"]).await?;
    says(&text, &[&format!("mynode.{ZONE}"), publisher, "days left"])?;
    let names = tunnler_json(world, key, &["chain", "names"]).await?;
    ensure!(names[0]["label"] == "mynode" && names[0]["target"] == publisher, "{names}");
    ensure!(names[0]["live"] == true && names[1].is_null(), "{names}");
    Ok(())
}

async fn shows_events(world: &World, key: &Path, publisher: &str, relay: &str) -> Result<()> {
    let text = tunnler_ok(world, key, &["chain", "history", "mynode"]).await?;
    let first = text.lines().next().context("a line")?;
    says(first, &["name_registered", "mynode", publisher])?;
    ensure!(text.lines().skip(1).all(|line| line.contains("name_renewed")), "{text}");
    let history = tunnler_json(world, key, &["chain", "history", relay]).await?;
    let events: Vec<&Value> = history.as_array().context("an array")?.iter().collect();
    ensure!(events.iter().any(|event| event["event"] == "relay_registered"), "{history}");
    let nobody = tunnler_run(world, key, &["chain", "history", "nobody-has-it"]).await?;
    ensure!(nobody.code == 0 && nobody.stdout.is_empty(), "{nobody:?}");
    says(&nobody.stderr, &["nothing happened to nobody-has-it"])?;
    let nonsense = tunnler_run(world, key, &["chain", "history", "Bad_Name"]).await?;
    ensure!(nonsense.code == 2, "{nonsense:?}");

    // From the beginning, in order, one JSON object a line; and nothing when it begins now.
    let lines = tunnler_ok(world, key, &["chain", "events", "--json"]).await?;
    let events: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let ids: Vec<&str> = events.iter().filter_map(|event| event["id"].as_str()).collect();
    ensure!(ids.len() == events.len() && ids.is_sorted(), "{lines}");
    for wanted in ["relay_registered", "name_registered", "name_renewed"] {
        ensure!(events.iter().any(|event| event["event"] == wanted), "no {wanted} in {lines}");
    }
    ensure!(tunnler_ok(world, key, &["chain", "events", "--since", "now"]).await?.is_empty());
    Ok(())
}

/// Descriptors with endpoints where nobody listens: one of two, then the only one.
async fn tells_of_endpoints_that_are_away(world: &World) -> Result<()> {
    let nobody = format!("http://{}", ports::local()?);
    let file = world.dir().join("away.toml");
    let mut network = world.network().clone();
    network.rpc.push(nobody.clone());
    for quorum in [1, 2] {
        network.quorum = quorum;
        std::fs::write(&file, network.to_toml())?;
        let output = status_with(&file).await?;
        says(&output.stdout, &[&format!("1 of 2 endpoints usable, {quorum} must agree"), &nobody])?;
        ensure!((output.code == 0) == (quorum == 1), "{output:?}");
        ensure!(output.stdout.contains("alarm") == (quorum == 2), "{output:?}");
    }
    network.rpc = vec![nobody.clone()];
    network.quorum = 1;
    std::fs::write(&file, network.to_toml())?;
    let output = status_with(&file).await?;
    ensure!(output.code == 1, "{output:?}");
    says(&output.stdout, &["0 of 1 endpoints usable", "alarm", "nothing has been read yet"])?;
    says(&output.stderr, &["the chain could not be read", &nobody])?;
    Ok(())
}

async fn status_with(descriptor: &Path) -> Result<Output> {
    let mut command = Command::new(program("tunnler")?);
    process::run(command.arg("--network").arg(descriptor).args(["chain", "status"])).await
}

/// Two processes write with one key at the same time, again and again: all succeed, in some order.
async fn one_key_in_two_programs(world: &World, key: &Path, account: &Address) -> Result<()> {
    const EACH: i64 = 8;
    let sequence = async || -> Result<i64> {
        Ok(read_account(world.network(), account).await?.context("no account")?.sequence)
    };
    let (before, started) = (sequence().await?, Instant::now());
    let program = async |which: &str| -> Result<()> {
        for turn in 0..EACH {
            tunnler_ok(world, key, &["home-domain", "set", &format!("{which}{turn}.test")]).await?;
        }
        Ok(())
    };
    tokio::try_join!(program("one"), program("two"))?;
    ensure!(sequence().await? - before == 2 * EACH, "not each transaction was included once");

    // And on one record of a contract.
    let target = account.to_string();
    let program = async || -> Result<()> {
        for _ in 0..EACH / 2 {
            tunnler_ok(world, key, &["name", "set-target", "mynode", &target]).await?;
        }
        Ok(())
    };
    tokio::try_join!(program(), program())?;
    println!("{} commands of two programs in {:?}", 3 * EACH, started.elapsed());
    Ok(())
}

/// While the only endpoint is down, relay and zone server go on and say in `/health` what they miss.
async fn health_tells_what_is_wrong(world: &World) -> Result<()> {
    let visitor = world.visitor().await?;
    let own = format!("{}.relay.{ZONE}", world.relays[0].relay().label());
    let healths = async || -> Result<[Value; 2]> {
        let relay = serde_json::from_slice(&visitor.get(&own, "/health").await?.body)?;
        let dns = http_get(world.dns[0].admin(), "/health").await?.1;
        Ok([relay, serde_json::from_str(&dns)?])
    };
    let alarms = async || -> Result<[Value; 2]> {
        Ok(healths().await?.map(|health| health["chain"]["alarms"].clone()))
    };
    for health in healths().await? {
        ensure!(health["chain"]["trusts_one_endpoint"] == true, "{health}");
        ensure!(health["chain"]["alarms"] == json!([]), "{health}");
    }
    set_faults(world.localnet.address(), r#"{"down":true}"#).await?;
    let missed = json!([{ "alarm": "no_quorum", "usable": 0 }]);
    let told = async || alarms().await.is_ok_and(|alarms| alarms.iter().all(|told| *told == missed));
    World::wait_for("the alarm in both healths", Duration::from_secs(30), told).await?;
    for admin in [world.relays[0].admin(), world.dns[0].admin()] {
        let metrics = http_get(admin, "/metrics").await?.1;
        ensure!(metrics.contains(r#"chain_alarms{alarm="stale"} 0"#), "{metrics}");
    }
    set_faults(world.localnet.address(), "{}").await?;
    let over = async || alarms().await.is_ok_and(|alarms| alarms.iter().all(|told| *told == json!([])));
    World::wait_for("the end of the alarm", Duration::from_secs(30), over).await?;
    Ok(())
}

async fn set_faults(localnet: SocketAddr, switches: &str) -> Result<()> {
    let mut stream = tokio::net::TcpStream::connect(localnet).await?;
    let length = switches.len();
    let request = format!(
        "POST /control/faults HTTP/1.1\r\nhost: localnet\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{switches}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

/// Runs a command with `--json`, which must print one value.
async fn tunnler_json(world: &World, key: &Path, arguments: &[&str]) -> Result<Value> {
    let text = tunnler_ok(world, key, &[arguments, &["--json"]].concat()).await?;
    serde_json::from_str(&text).with_context(|| format!("{arguments:?} printed {text}"))
}

fn says(text: &str, words: &[&str]) -> Result<()> {
    words.iter().try_for_each(|word| {
        ensure!(text.contains(word), "no {word:?} in:\n{text}");
        Ok(())
    })
}
