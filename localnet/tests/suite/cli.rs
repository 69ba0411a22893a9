//! The unmodified `stellar` command line, each command checked by what it says and by what the ledger shows.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stellar_xdr::ContractDataDurability as Durability;
use tokio::process::Command;
use tunnler_localnet::Localnet;

use crate::fixture::{Net, probe_key, probe_wasm};

/// No command may take longer.
const DEADLINE: Duration = Duration::from_secs(40);

struct Cli<'a> {
    directory: &'a Path,
    url: String,
    passphrase: String,
}

impl Cli<'_> {
    async fn execute(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new("stellar");
        command
            .env("STELLAR_NO_UPDATE_CHECK", "1")
            .env("XDG_DATA_HOME", self.directory)
            .env("STELLAR_RPC_URL", &self.url)
            .env("STELLAR_NETWORK_PASSPHRASE", &self.passphrase)
            .args(["--config-dir", &self.directory.to_string_lossy()])
            .args(arguments)
            .current_dir(self.directory)
            .kill_on_drop(true);
        let output = tokio::time::timeout(DEADLINE, command.output()).await.context("the command hangs")?;
        output.context("`stellar` 28.1.0 must be on the PATH: scripts/prepare test installs it")
    }

    /// Standard output of a command that must succeed.
    async fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.execute(arguments).await?;
        let text = String::from_utf8(output.stdout)?.trim_end().to_owned();
        if !output.status.success() {
            bail!("stellar {arguments:?}: {}\n{text}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(text)
    }

    async fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.run(arguments).await?;
        serde_json::from_str(&text).with_context(|| format!("stellar {arguments:?} says {text}"))
    }

    async fn invoke(&self, source: &str, contract: &str, call: &[&str]) -> Result<String> {
        let mut arguments = vec!["contract", "invoke", "--source-account", source, "--id", contract, "--"];
        arguments.extend(call);
        self.run(&arguments).await
    }
}

struct Bench {
    net: Net,
    directory: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Result<Self> {
        let net = Net::start_with(Localnet::builder().no_ledger_interval()).await?;
        Ok(Self { net, directory: tempfile::tempdir()? })
    }

    fn cli(&self) -> Cli<'_> {
        Cli {
            directory: self.directory.path(),
            url: format!("{}/rpc", self.net.localnet.url()),
            passphrase: self.net.localnet.passphrase().to_owned(),
        }
    }
}

/// A funded key of the command line.
async fn funded(cli: &Cli<'_>, name: &str) -> Result<String> {
    cli.run(&["keys", "generate", name, "--fund"]).await?;
    cli.run(&["keys", "address", name]).await
}

/// The probe, deployed by `alice` with 42; its address.
async fn deployed(cli: &Cli<'_>) -> Result<String> {
    std::fs::write(cli.directory.join("probe.wasm"), probe_wasm()?)?;
    let deploy =
        ["contract", "deploy", "--source-account", "alice", "--wasm", "probe.wasm", "--", "--value", "42"];
    cli.run(&deploy).await
}

#[tokio::test]
async fn accounts_network_and_classic_transactions() -> Result<()> {
    let bench = Bench::new().await?;
    let cli = bench.cli();
    let rpc = &bench.net.rpc;
    let alice = funded(&cli, "alice").await?;
    let again = cli.execute(&["keys", "fund", "alice"]).await?;
    ensure!(again.status.success(), "funding twice is no error");
    let balance = async |address: &str| {
        let entry = cli.json(&["ledger", "entry", "fetch", "account", "--account", address]).await?;
        let balance = entry["entries"][0]["val"]["account"]["balance"].as_str().context("a balance")?;
        anyhow::Ok(balance.parse::<i64>()?)
    };
    assert_eq!(balance(&alice).await?, 100_000_000_000);

    assert_eq!(cli.json(&["network", "health", "--output", "json"]).await?["status"], "healthy");
    let info = cli.json(&["network", "info", "--output", "json"]).await?;
    assert_eq!(
        (&info["protocol_version"], &info["passphrase"]),
        (&json!(28), &json!(bench.net.localnet.passphrase()))
    );
    let settings = cli.json(&["network", "settings"]).await?;
    let settings = settings["updated_entry"].as_array().context("settings")?;
    ensure!(settings.iter().any(|one| one["contract_compute_v0"]["tx_max_instructions"] == "100000000"));
    ensure!(settings.iter().any(|one| one["state_archival"]["min_persistent_ttl"] == 120_960));

    let bob = {
        cli.run(&["keys", "generate", "bob"]).await?;
        cli.run(&["keys", "address", "bob"]).await?
    };
    let source = ["--source-account", "alice"];
    let new = |rest: &[&'static str]| [&["tx", "new"], rest, &source].concat();
    let create =
        [new(&["create-account"]), vec!["--destination", &bob, "--starting-balance", "50000000"]].concat();
    cli.run(&create).await?;
    let pay = [new(&["payment"]), vec!["--destination", &bob, "--amount", "7"]].concat();
    cli.run(&pay).await?;
    assert_eq!(balance(&bob).await?, 50_000_007);
    cli.run(&[new(&["set-options"]), vec!["--home-domain", "mynode.tunnel.example"]].concat()).await?;
    let entry = cli.json(&["ledger", "entry", "fetch", "account", "--account", &alice]).await?;
    assert_eq!(entry["entries"][0]["val"]["account"]["home_domain"], "mynode.tunnel.example");
    cli.run(&[new(&["manage-data"]), vec!["--data-name", "colour", "--data-value", "00ff"]].concat()).await?;
    let entry =
        cli.json(&["ledger", "entry", "fetch", "data", "--account", &alice, "--data-name", "colour"]).await?;
    assert_eq!(entry["entries"][0]["val"]["data"]["data_value"], "00ff");

    // Built, hashed, signed, sent and fetched in separate steps.
    let unsigned = cli.run(&[pay, vec!["--build-only"]].concat()).await?;
    let hash = cli.run(&["tx", "hash", &unsigned]).await?;
    let signed = cli.run(&["tx", "sign", "--sign-with-key", "alice", &unsigned]).await?;
    let sent = cli.json(&["tx", "send", &signed]).await?;
    assert_eq!((&sent["status"], &sent["tx_hash"]), (&json!("SUCCESS"), &json!(hash)));
    let result = cli.json(&["tx", "fetch", "result", "--hash", &hash]).await?;
    assert_eq!(result["result"]["tx_success"][0]["op_inner"]["payment"], "success");
    let fee = cli.json(&["tx", "fetch", "fee", "--hash", &hash, "--output", "json"]).await?;
    assert_eq!(fee["charged"]["fee"], 100);
    bench.net.localnet.advance(1).await?;
    let refused = cli.execute(&["tx", "send", &signed]).await?;
    ensure!(!refused.status.success(), "the same sequence number twice");
    assert_eq!(balance(&bob).await?, 50_000_014);

    let stats = cli.json(&["fees", "stats", "--output", "json"]).await?;
    assert_eq!(stats["inclusionFee"]["max"], "100");
    let latest = cli.json(&["ledger", "latest", "--output", "json"]).await?;
    assert_eq!(latest["sequence"], rpc.latest_ledger().await?);
    let ledgers = cli.json(&["ledger", "fetch", "2", "--limit", "2", "--output", "json"]).await?;
    assert_eq!(ledgers["ledgers"][1]["sequence"], 3);
    Ok(())
}

#[tokio::test]
async fn contracts_are_uploaded_deployed_called_and_described() -> Result<()> {
    let bench = Bench::new().await?;
    let cli = bench.cli();
    let rpc = &bench.net.rpc;
    funded(&cli, "alice").await?;
    let bob = funded(&cli, "bob").await?;
    let wasm = probe_wasm()?;
    std::fs::write(cli.directory.join("probe.wasm"), &wasm)?;
    let upload = ["contract", "upload", "--source-account", "alice", "--wasm", "probe.wasm"];
    let expected: String = Sha256::digest(&wasm).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(cli.run(&upload).await?, expected);
    let latest = rpc.latest_ledger().await?;
    assert_eq!(cli.run(&upload).await?, expected);
    assert_eq!(rpc.latest_ledger().await?, latest, "a second upload does nothing");

    let contract = deployed(&cli).await?;
    assert_eq!(
        cli.invoke("alice", &contract, &["get", "--key", "1000000"]).await?,
        "42",
        "the constructor ran"
    );
    let read_only = rpc.latest_ledger().await?;
    cli.invoke("alice", &contract, &["get", "--key", "1000000"]).await?;
    assert_eq!(rpc.latest_ledger().await?, read_only, "reading sends nothing");
    cli.invoke("alice", &contract, &["put", "--key", "1", "--value", "7"]).await?;
    assert_eq!(cli.invoke("alice", &contract, &["get", "--key", "1"]).await?, "7");
    // Bob authorises, Alice pays.
    cli.invoke("alice", &contract, &["put_for", "--who", &bob, "--key", "2", "--value", "8"]).await?;
    assert_eq!(cli.invoke("alice", &contract, &["get", "--key", "2"]).await?, "8");
    let trap = cli
        .execute(&["contract", "invoke", "--source-account", "alice", "--id", &contract, "--", "trap"])
        .await?;
    ensure!(!trap.status.success());
    ensure!(String::from_utf8_lossy(&trap.stderr).contains("simulation failed"), "{trap:?}");

    let fetched = cli.directory.join("fetched.wasm");
    cli.run(&["contract", "fetch", "--id", &contract, "--out-file", "fetched.wasm"]).await?;
    ensure!(std::fs::read(fetched)? == wasm, "the code comes back as it was");
    let interface = cli.run(&["contract", "info", "interface", "--id", &contract]).await?;
    ensure!(
        interface.contains("fn put_for(") && interface.contains("who: soroban_sdk::Address"),
        "{interface}"
    );
    let meta = cli.run(&["contract", "info", "meta", "--id", &contract]).await?;
    ensure!(meta.contains("a contract for tests of the ledger"), "{meta}");
    let bindings = cli.run(&["contract", "bindings", "rust", "--wasm", "probe.wasm"]).await?;
    ensure!(bindings.contains("fn take_slot"), "{bindings}");
    let read = cli.run(&["contract", "read", "--id", &contract, "--output", "json"]).await?;
    ensure!(read.contains(&expected), "the instance names its code: {read}");

    let native = cli.run(&["contract", "id", "asset", "--asset", "native"]).await?;
    assert_eq!(native, bench.net.localnet.native_contract());
    assert_eq!(cli.invoke("alice", &native, &["balance", "--id", &bob]).await?, "\"100000000000\"");
    let alice = cli.run(&["keys", "address", "alice"]).await?;
    cli.invoke("alice", &native, &["transfer", "--from", &alice, "--to", &bob, "--amount", "5"]).await?;
    assert_eq!(cli.invoke("alice", &native, &["balance", "--id", &bob]).await?, "\"100000000005\"");

    // Simulated by one command, signed and sent by others.
    let build = ["contract", "invoke", "--source-account", "alice", "--id", &contract, "--build-only", "--"];
    let unsigned = cli.run(&[&build[..], &["put", "--key", "3", "--value", "9"]].concat()).await?;
    let prepared = cli.run(&["tx", "simulate", "--source-account", "alice", &unsigned]).await?;
    let signed = cli.run(&["tx", "sign", "--sign-with-key", "alice", &prepared]).await?;
    assert_eq!(cli.json(&["tx", "send", &signed]).await?["status"], "SUCCESS");
    assert_eq!(cli.invoke("alice", &contract, &["get", "--key", "3"]).await?, "9");
    Ok(())
}

#[tokio::test]
async fn lives_are_extended_and_archived_entries_restored() -> Result<()> {
    let bench = Bench::new().await?;
    let cli = bench.cli();
    let rpc = &bench.net.rpc;
    funded(&cli, "alice").await?;
    let contract = deployed(&cli).await?;
    cli.invoke("alice", &contract, &["put", "--key", "1", "--value", "7"]).await?;
    let id = stellar_xdr::ContractId(stellar_xdr::Hash(stellar_strkey::Contract::from_string(&contract)?.0));
    let key = probe_key(&id, 1, Durability::Persistent);
    let life = async || anyhow::Ok(rpc.entry(&key).await?.context("there")?.1.context("a life")?);
    let xdr = crate::fixture::base64(&stellar_xdr::ScVal::U32(1));
    let of_entry = |command: &'static str| {
        vec!["contract", command, "--source-account", "alice", "--id", &contract, "--key-xdr", &xdr]
    };

    let extend =
        [of_entry("extend"), vec!["--durability", "persistent", "--ledgers-to-extend", "150000"]].concat();
    let printed = cli.run(&extend).await?;
    let until = u64::from(rpc.latest_ledger().await?) + 150_000;
    ensure!(printed.ends_with(&until.to_string()), "{printed}");
    assert_eq!(life().await?, until);

    bench.net.localnet.advance(150_001).await?;
    assert_eq!(life().await?, 0, "archived");
    let printed = cli.run(&[of_entry("restore"), vec!["--durability", "persistent"]].concat()).await?;
    let until = u64::from(rpc.latest_ledger().await?) + 120_960 - 1;
    ensure!(printed.ends_with(&until.to_string()), "{printed}");
    assert_eq!(life().await?, until);
    // Code and instance are archived still; the call that needs them brings them back.
    assert_eq!(cli.invoke("alice", &contract, &["get", "--key", "1"]).await?, "7");
    Ok(())
}

#[tokio::test]
async fn events_are_filtered_and_paged() -> Result<()> {
    let bench = Bench::new().await?;
    let cli = bench.cli();
    funded(&cli, "alice").await?;
    let contract = deployed(&cli).await?;
    for (key, value) in [("1", "10"), ("2", "20"), ("1", "30")] {
        cli.invoke("alice", &contract, &["put", "--key", key, "--value", value]).await?;
    }
    let topic = crate::fixture::base64(&stellar_xdr::ScVal::U32(1));
    let events = async |rest: &[&str]| {
        let arguments =
            [&["events", "--output", "raw", "--type", "contract", "--id", &contract], rest].concat();
        cli.run(&arguments).await
    };
    let count = |text: &str| text.matches(&contract).count();
    let all = events(&["--start-ledger", "1"]).await?;
    assert_eq!(count(&all), 3, "{all}");
    let some = events(&["--start-ledger", "1", "--topic", &topic]).await?;
    assert_eq!(count(&some), 2, "{some}");
    let first = events(&["--start-ledger", "1", "--count", "1"]).await?;
    assert_eq!(count(&first), 1, "{first}");
    let page = bench
        .net
        .rpc
        .call(
            "getEvents",
            json!({ "startLedger": 1, "filters": [{ "contractIds": [contract] }], "pagination": { "limit": 1 } }),
        )
        .await?;
    let cursor = page["cursor"].as_str().context("a cursor")?;
    let rest = events(&["--cursor", cursor]).await?;
    assert_eq!(count(&rest), 2, "{rest}");
    Ok(())
}
