//! Ten thousand invocations: memory must not grow with them, only with the ledgers kept. Speed is printed, not judged.
//!
//! Run by `scripts/soak localnet`, in release profile.

use std::time::{Duration, Instant};

use crate::fixture::{Account, Net, call, host_function};
use anyhow::{Context, Result, ensure};
use stellar_xdr::{self as xdr, ScVal};
use tunnler_localnet::{Builder, Localnet};

const INVOCATIONS: u32 = 10_000;
const SENDERS: u32 = 8;
const RETAINED: u32 = 500;

fn network(state: &std::path::Path) -> Builder {
    Localnet::builder().no_ledger_interval().retention(RETAINED).state_directory(state)
}

/// Resident memory of this process, in KiB.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
}

/// Sends `count` calls of `put` under the sender's own key, each in a ledger of its own.
async fn invoke(net: &Net, probe: &xdr::ContractId, sender: &Account, key: u32, count: u32) -> Result<()> {
    let body = host_function(call(probe, "put", vec![ScVal::U32(key), ScVal::U32(key)]));
    net.rpc.send(net.rpc.prepared(sender, body.clone()).await?, &[sender]).await?.succeeded()?;
    let mut transaction = net.rpc.prepared(sender, body).await?;
    for _ in 1..count {
        net.rpc.send(transaction.clone(), &[sender]).await?.succeeded()?;
        transaction.seq_num.0 += 1;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_steady_and_a_large_state_opens_fast() -> Result<()> {
    let state = tempfile::tempdir()?;
    let net = std::sync::Arc::new(Net::start_with(network(state.path())).await?);
    let owner = net.account("owner").await?;
    let probe = net.probe(&owner).await?;
    let mut senders = Vec::new();
    for number in 0..SENDERS {
        senders.push(net.account(&format!("sender {number}")).await?);
    }
    // The history fills in the first part; what comes after it must cost nothing that stays.
    let mut measured = Vec::new();
    let started = Instant::now();
    for part in 0..4 {
        let mut running = tokio::task::JoinSet::new();
        for (number, sender) in (0..).zip(senders.clone()) {
            let (net, probe) = (net.clone(), probe.clone());
            let count = INVOCATIONS / SENDERS / 4;
            running.spawn(async move { invoke(&net, &probe, &sender, part * SENDERS + number, count).await });
        }
        while let Some(done) = running.join_next().await {
            done??;
        }
        measured.push(resident()?);
    }
    let elapsed = started.elapsed();
    println!(
        "{{\"invocations\": {INVOCATIONS}, \"seconds\": {:.1}, \"per_second\": {:.0}, \"resident_kib\": {measured:?}}}",
        elapsed.as_secs_f64(),
        f64::from(INVOCATIONS) / elapsed.as_secs_f64()
    );
    let (settled, last) = (measured[1], measured[3]);
    ensure!(last < settled + settled / 10 + 4_096, "memory grows with invocations: {measured:?} KiB");

    // Some fifty megabytes of entries: accounts, as many as it takes.
    grow(&net, &owner, 50_000_000).await?;
    let net = std::sync::Arc::into_inner(net).context("all senders are done")?;
    net.localnet.shutdown().await;
    let bytes: u64 = std::fs::read_dir(state.path())?
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|of| of.len())
        .sum();
    let opened = Instant::now();
    let again = network(state.path()).start().await?;
    println!("{{\"state_bytes\": {bytes}, \"open_seconds\": {:.2}}}", opened.elapsed().as_secs_f64());
    ensure!(opened.elapsed() < Duration::from_secs(60), "a state of {bytes} bytes opens too slowly");
    again.shutdown().await;
    Ok(())
}

/// Creates accounts, a hundred a transaction, until the state has about this many bytes.
async fn grow(net: &Net, owner: &Account, bytes: usize) -> Result<()> {
    const ACCOUNT_BYTES: usize = 100;
    let root = Account { key: ed25519_dalek::SigningKey::from_bytes(&crate::fixture::network_id()) };
    let create = |to: &Account| xdr::Operation {
        source_account: None,
        body: xdr::OperationBody::CreateAccount(xdr::CreateAccountOp {
            destination: to.id(),
            starting_balance: 10_000_000,
        }),
    };
    let template = net.rpc.transaction(&root, create(owner).body).await?;
    let batches = bytes / ACCOUNT_BYTES / 100;
    for (sequence, batch) in (template.seq_num.0..).zip(0..batches) {
        let operations: Vec<_> =
            (0..100).map(|number| create(&Account::named(&format!("{batch} {number}")))).collect();
        let transaction = xdr::Transaction {
            fee: 100_000,
            seq_num: xdr::SequenceNumber(sequence),
            operations: operations.try_into()?,
            ..template.clone()
        };
        net.rpc.send(transaction, &[&root]).await?.succeeded()?;
    }
    Ok(())
}
