//! The ledger alone, through the eyes of the unmodified `stellar` command line: both contracts deployed, a relay and a
//! name registered, read back by the CLI and by our own reader.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tunnler_protocol::SecretKey;
use tunnler_protocol::network::{AcmeConfig, Network};
use tunnler_tests::process::{self, run_ok};
use tunnler_tests::world::contract_path;
use tunnler_tests::world::programs::Localnet;

/// The CLI with a configuration directory of its own, talking to `localnet`.
struct Cli<'a> {
    localnet: &'a Localnet,
    dir: &'a Path,
}

impl Cli<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("stellar");
        command.env("STELLAR_NO_UPDATE_CHECK", "1").env("XDG_DATA_HOME", self.dir).current_dir(self.dir);
        command.args(arguments).arg("--config-dir").arg(self.dir);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Result<String> {
        run_ok(&mut self.command(arguments)).await
    }

    /// Runs a command that talks to the network.
    async fn online(&self, arguments: &[&str], after: &[&str]) -> Result<String> {
        let mut command = self.command(arguments);
        command.args(["--rpc-url", &self.localnet.url()]);
        command.args(["--network-passphrase", self.localnet.passphrase()]).args(after);
        run_ok(&mut command).await
    }

    async fn deploy(&self, wasm: &str, constructor: &[&str]) -> Result<String> {
        let wasm = contract_path(wasm);
        let wasm = wasm.to_str().context("a path in UTF-8")?;
        let mut after = vec!["--"];
        after.extend(constructor);
        self.online(&["contract", "deploy", "--source-account", "admin", "--wasm", wasm], &after).await
    }

    async fn invoke(&self, source: &str, id: &str, call: &[&str]) -> Result<String> {
        let mut after = vec!["--"];
        after.extend(call);
        self.online(&["contract", "invoke", "--source-account", source, "--id", id], &after).await
    }
}

#[tokio::test]
async fn the_stellar_cli_deploys_registers_and_resolves() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let localnet = Localnet::start(dir.path()).await?;
    let cli = Cli { localnet: &localnet, dir: dir.path() };
    for name in ["admin", "relay", "owner"] {
        cli.run(&["keys", "generate", name]).await?;
        cli.online(&["keys", "fund", name], &[]).await?;
    }
    let address = |name: &'static str| cli.run_owned(vec!["keys", "address", name]);
    let (admin, relay, owner) = (address("admin").await?, address("relay").await?, address("owner").await?);
    let token = cli.online(&["contract", "id", "asset", "--asset", "native"], &[]).await?;

    let registry_config = format!(
        r#"{{"token":"{token}","min_stake":"1000000000","unbonding":604800,"heartbeat_ttl":86400,"per_operator":10}}"#
    );
    let registry = cli.deploy("tunnel_registry", &["--admin", &admin, "--config", &registry_config]).await?;
    let key = SecretKey::from_seed(&[5; 32]).address();
    let server = format!(
        r#"{{"host":"ns1.tun.test","ipv4":"7f000101","ipv6":null,"key":"{}"}}"#,
        key.as_bytes().iter().map(|b| format!("{b:02x}")).collect::<String>()
    );
    let namespace_config = format!(
        r#"{{"token":"{token}","fees":{{"three":"1000","four":"100","longer":"10"}},"grace":2592000,"commit_reveal":false,"per_owner":10,"address_hosts":"Owners","acme_issuers":["pebble.test"],"servers":[{server}]}}"#
    );
    let namespace = cli
        .deploy("tunnel_namespace", &["--admin", &admin, "--zone", "tun.test", "--config", &namespace_config])
        .await?;

    let record = r#"{"host":null,"control_port":443,"ingress_port":443,"ipv4":"7f000201","ipv6":null,"region":"local","capacity":100,"acme":[],"terms":null}"#;
    cli.invoke(
        "relay",
        &registry,
        &["register", "--operator", &relay, "--relay", &relay, "--record", record, "--stake", "1000000000"],
    )
    .await?;
    ensure!(cli.invoke("relay", &registry, &["count"]).await? == "1");

    cli.invoke(
        "owner",
        &namespace,
        &["register", "--owner", &owner, "--name", "mynode", "--target", &owner, "--years", "1"],
    )
    .await?;
    let resolved = cli.invoke("admin", &namespace, &["resolve", "--name", "mynode"]).await?;
    ensure!(resolved == format!("\"{owner}\""), "resolve says {resolved}");

    // A name that is taken is refused in the contract's own words.
    let taken = process::run(
        cli.command(&["contract", "invoke", "--source-account", "admin", "--id", &namespace])
            .args(["--rpc-url", &localnet.url(), "--network-passphrase", localnet.passphrase(), "--"])
            .args(["register", "--owner", &admin, "--name", "mynode", "--target", &admin, "--years", "1"]),
    )
    .await?;
    ensure!(taken.code != 0 && taken.stderr.contains("Error(Contract, #"), "{}", taken.stderr);

    // Our own reader sees the same.
    let network = Network {
        name: "local".into(),
        passphrase: localnet.passphrase().into(),
        rpc: vec![localnet.url()],
        quorum: 1,
        friendbot: None,
        registry,
        namespace,
        ingress_port: 443,
        dns_port: 53,
        allow_private_addresses: true,
        acme: AcmeConfig {
            directory: "https://127.0.0.1/dir".into(),
            issuer: "pebble.test".into(),
            root: None,
        },
    };
    let directory = tunnler_chain::read_directory(&network).await?;
    ensure!(directory.relays.len() == 1 && directory.zone.zone.as_str() == "tun.test");
    ensure!(directory.relays.keys().next().map(ToString::to_string) == Some(relay));
    let target = directory.target(&"mynode".parse()?, directory.ledger.closed_at);
    ensure!(target.map(|target| target.to_string()) == Some(owner), "{target:?}");
    Ok(())
}

impl Cli<'_> {
    async fn run_owned(&self, arguments: Vec<&'static str>) -> Result<String> {
        self.run(&arguments).await
    }
}
