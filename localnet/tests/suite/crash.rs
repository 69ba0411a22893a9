//! A network killed while it works: what it said stays true, and it goes on from there.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stellar_xdr as xdr;

use crate::fixture::{Account, Rpc, network_id};

/// Kills of one run. `LOCALNET_KILLS` asks for another number.
const KILLS: u32 = 5;

/// Transactions sent before each kill, at most.
const BURST: u32 = 25;

struct Process {
    child: Child,
    rpc: Rpc,
}

impl Process {
    fn start(state: &Path) -> Result<Self> {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_tunnler-localnet")), state)
    }

    fn spawn(mut command: Command, state: &Path) -> Result<Self> {
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--ledger-interval", "0.01", "--state"])
            .arg(state)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
        let described: Value = serde_json::from_str(&line).context("the line that says where it is")?;
        let url = described["rpc"][0].as_str().context("a URL")?;
        Ok(Self { rpc: Rpc::new(url), child })
    }

    fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Killed already in the good case.
        let _ = self.kill();
    }
}

#[tokio::test]
async fn what_was_answered_survives_every_kill() -> Result<()> {
    let kills = std::env::var("LOCALNET_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let state = tempfile::tempdir()?;
    let root = Account { key: ed25519_dalek::SigningKey::from_bytes(&network_id()) };
    let mut acknowledged: Vec<(String, u32)> = Vec::new();
    for round in 0..=kills {
        let mut process = Process::start(state.path())?;
        for (hash, ledger) in &acknowledged {
            let found = process.rpc.call("getTransaction", json!({ "hash": hash })).await?;
            ensure!(
                found["status"] == "SUCCESS" && found["ledger"] == *ledger,
                "lost after kill {round}: {found}"
            );
        }
        check_chain(&process.rpc, acknowledged.last().map_or(1, |(_, ledger)| *ledger)).await?;
        if round == kills {
            break;
        }
        // One sender goes on until the process is gone, at a moment that has nothing to do with it.
        let rpc = process.rpc.clone();
        let sender = tokio::spawn({
            let root = root.clone();
            async move {
                let mut done = Vec::new();
                for number in 0..BURST {
                    let to = Account::named(&format!("{round}-{number}"));
                    match create(&rpc, &root, &to).await {
                        Ok(sent) => done.push(sent),
                        Err(_) => break,
                    }
                }
                done
            }
        });
        let pause = std::time::Duration::from_millis(40 + u64::from(round * 37 % 160));
        tokio::time::sleep(pause).await;
        process.kill()?;
        acknowledged.extend(sender.await?);
    }
    ensure!(
        acknowledged.len() >= kills as usize,
        "too few transactions to say anything: {}",
        acknowledged.len()
    );
    Ok(())
}

async fn create(rpc: &Rpc, root: &Account, to: &Account) -> Result<(String, u32)> {
    let body = xdr::OperationBody::CreateAccount(xdr::CreateAccountOp {
        destination: to.id(),
        starting_balance: 10_000_000,
    });
    let transaction = rpc.transaction(root, body).await?;
    let sent = rpc.send(transaction, &[root]).await?.succeeded()?;
    Ok((sent.hash, sent.ledger))
}

/// Every ledger up to the latest follows the one before, and the latest is not before `at_least`.
async fn check_chain(rpc: &Rpc, at_least: u32) -> Result<()> {
    let latest = rpc.latest_ledger().await?;
    ensure!(latest >= at_least, "ledger {at_least} was answered, {latest} is the latest");
    let mut previous: Option<String> = None;
    let mut params = json!({ "startLedger": 1, "pagination": { "limit": 200 } });
    loop {
        let page = rpc.call("getLedgers", params).await?;
        let ledgers = page["ledgers"].as_array().context("ledgers")?;
        for ledger in ledgers {
            let header: xdr::LedgerHeaderHistoryEntry =
                crate::fixture::parse(ledger["headerXdr"].as_str().context("a header")?)?;
            if let Some(previous) = &previous {
                ensure!(*previous == header.header.previous_ledger_hash.to_string(), "a gap before {ledger}");
            }
            previous = Some(header.hash.to_string());
        }
        if page["cursor"].as_str() == Some(&latest.to_string()) || ledgers.is_empty() {
            return Ok(());
        }
        params = json!({ "pagination": { "limit": 200, "cursor": page["cursor"] } });
    }
}

#[tokio::test]
async fn a_directory_is_used_by_one_network_at_a_time_and_by_the_same_one() -> Result<()> {
    use tunnler_localnet::{Localnet, StartError, StoreError};
    let state = tempfile::tempdir()?;
    let builder = || Localnet::builder().no_ledger_interval().state_directory(state.path());
    let first = builder().start().await?;
    first.fund([3; 32]).await?;
    let ledger = first.advance(12_000).await?;
    let in_use = builder().start().await.err();
    assert!(matches!(in_use, Some(StartError::Store(StoreError::InUse { .. }))), "{in_use:?}");
    first.shutdown().await;
    let other = builder().passphrase("Other Network").start().await.err();
    assert!(matches!(other, Some(StartError::Store(StoreError::OtherNetwork { .. }))), "{other:?}");
    let again = builder().start().await?;
    assert_eq!(again.advance(1).await?, ledger + 1);
    again.shutdown().await;

    // A bit that changed on disk is noticed, not lived with.
    let log = state.path().join("ledgers-0000000001.log");
    let mut bytes = std::fs::read(&log)?;
    bytes[1_000] ^= 1;
    std::fs::write(&log, bytes)?;
    let damaged = builder().start().await.err();
    assert!(matches!(damaged, Some(StartError::Store(StoreError::Damaged { .. }))), "{damaged:?}");
    Ok(())
}

#[tokio::test]
async fn a_full_disk_stops_the_network_and_loses_nothing() -> Result<()> {
    let state = tempfile::tempdir()?;
    // A limit on file sizes stands for the full disk: writing fails, the process is told and not killed.
    let mut limited = Command::new("sh");
    limited.args([
        "-c",
        "trap '' XFSZ; ulimit -f 40; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_tunnler-localnet"),
    ]);
    let mut process = Process::spawn(limited, state.path())?;
    let root = Account { key: ed25519_dalek::SigningKey::from_bytes(&network_id()) };
    let mut last = None;
    for number in 0..1_000 {
        match create(&process.rpc, &root, &Account::named(&format!("full {number}"))).await {
            Ok(sent) => last = Some(sent),
            Err(_) => break,
        }
    }
    let status = process.child.wait()?;
    ensure!(status.code() == Some(1), "it ends by itself and says that it failed: {status}");
    let (hash, ledger) = last.context("something was written before the disk was full")?;
    let again = Process::start(state.path())?;
    let found = again.rpc.call("getTransaction", json!({ "hash": hash })).await?;
    ensure!(found["status"] == "SUCCESS" && found["ledger"] == ledger, "{found}");
    check_chain(&again.rpc, ledger).await
}
