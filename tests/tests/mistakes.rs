//! What a user sees when something is wrong: one clear line on standard error and a non-zero exit status.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tunnler_tests::process::{self, Scratch, Signal, program};
use tunnler_tests::world::programs::tunnler;
use tunnler_tests::world::{Layout, World};

/// Runs `command`; it must fail with `code` and say each of `words` in at most three lines, without a panic.
async fn refuses(mut command: Command, code: i32, words: &[&str]) -> Result<()> {
    let output = process::run(&mut command).await?;
    let said = output.stderr.trim();
    ensure!(
        output.code == code,
        "{command:?} ended with {}, not {code}:\n{said}\n{}",
        output.code,
        output.stdout
    );
    ensure!(!said.contains("panicked"), "{said}");
    for word in words {
        ensure!(said.contains(word), "{command:?} does not say {word:?}:\n{said}");
    }
    // clap shows usage below its line; everything else is one line.
    ensure!(code == 2 || said.lines().count() == 1, "{command:?} says more than a line:\n{said}");
    Ok(())
}

#[tokio::test]
async fn mistakes_are_told_in_one_line() -> Result<()> {
    tunnler_transport::tls::install_provider();
    let dir = Scratch::new()?;
    let layout = Layout { relays: 1, ..Layout::default() };
    let mut world = World::start(dir.path(), &layout, |step| println!("{step}")).await?;
    let (_, mine) = world.funded_key("mine").await?;
    let (_, other) = world.funded_key("other").await?;
    world.register_name(&other, "taken").await?;
    let client = |key: &PathBuf, arguments: &[&str]| -> Result<Command> {
        let mut command = tunnler(&world, key)?;
        command.env("XDG_STATE_HOME", world.dir().join("xdg")).args(arguments);
        Ok(command)
    };

    // Keys.
    let exposed = world.dir().join("exposed.key");
    std::fs::copy(&mine, &exposed)?;
    std::fs::set_permissions(&exposed, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    refuses(client(&exposed, &["http", "8080"])?, 2, &["chmod 600"]).await?;
    let nonsense = world.dir().join("nonsense.key");
    std::fs::write(&nonsense, "nonsense")?;
    std::fs::set_permissions(&nonsense, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    refuses(client(&nonsense, &["http", "8080"])?, 2, &["nonsense.key", "secret key"]).await?;
    refuses(client(&world.dir().join("missing.key"), &["http", "8080"])?, 2, &["missing.key"]).await?;

    // Who may visit.
    let path = exposed.to_str().context("a path")?;
    refuses(client(&mine, &["http", "8080", "--basic", path])?, 2, &["basic", "chmod 600"]).await?;
    refuses(client(&mine, &["serve", ".", "--bearer", "/nonexistent"])?, 2, &["bearer", "/nonexistent"])
        .await?;
    refuses(client(&mine, &["http", "8080", "--allow", "everybody"])?, 2, &["everybody", "192.0.2.0/24"])
        .await?;

    // Names.
    refuses(client(&mine, &["http", "8080", "--name", "nobody-has-it"])?, 1, &["nobody-has-it", "register"])
        .await?;
    refuses(client(&mine, &["http", "8080", "--name", "taken"])?, 1, &["taken"]).await?;
    refuses(client(&mine, &["name", "register", "taken", "--yes"])?, 1, &["taken"]).await?;
    refuses(client(&mine, &["name", "resolve", "nobody-has-it"])?, 1, &["nobody-has-it"]).await?;
    refuses(client(&mine, &["name", "register", "Bad_Name", "--yes"])?, 2, &["a–z"]).await?;

    // Ports and configuration of the servers.
    let relay = &world.relays[0];
    let mut busy = Command::new(program("tunnler-relay")?);
    busy.arg("run").arg("--network").arg(world.network_file()).arg("--key").arg(&mine);
    busy.arg("--state").arg(world.dir().join("busy")).args(["--listen", &relay.ingress().to_string()]);
    refuses(busy, 1, &[&relay.ingress().to_string(), "in use"]).await?;
    let unknown = world.dir().join("unknown.toml");
    std::fs::write(&unknown, "colour = \"red\"\n")?;
    for name in ["tunnler-relay", "tunnler-dns"] {
        let mut command = Command::new(program(name)?);
        command.arg("run").arg("--network").arg(world.network_file()).arg("--key").arg(&mine);
        refuses_config(command.arg("--config").arg(&unknown), &["colour"]).await?;
    }

    // Wrong words.
    refuses(client(&mine, &["htpp", "8080"])?, 2, &["htpp"]).await?;
    let mut nowhere = Command::new(program("tunnler")?);
    nowhere.args(["--network", "/nonexistent.toml", "relays"]);
    refuses(nowhere, 2, &["/nonexistent.toml"]).await?;

    // No relay reachable.
    world.relays[0].process.signal(Signal::Kill)?;
    world.register_name(&mine, "mine").await?;
    let mut stuck = client(&mine, &["http", "8080", "--name", "mine"])?;
    stuck.args(["--connect-timeout", "8"]);
    refuses(stuck, 1, &["relay"]).await?;

    // No ledger.
    world.localnet.process.signal(Signal::Kill)?;
    refuses(client(&mine, &["name", "resolve", "taken"])?, 1, &[&world.localnet.address().to_string()])
        .await?;
    drop(world);
    dir.done();
    Ok(())
}

async fn refuses_config(command: &mut Command, words: &[&str]) -> Result<()> {
    let output = process::run(command).await?;
    ensure!(output.code == 2, "{command:?} ended with {}:\n{}", output.code, output.stderr);
    let missing = words.iter().find(|word| !output.stderr.contains(**word));
    missing.map_or(Ok(()), |word| {
        Err(anyhow::anyhow!("no {word:?} in {}", output.stderr)).context("configuration")
    })
}
