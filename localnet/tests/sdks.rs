//! The official Python and JavaScript SDKs against the network. Run by `scripts/conformance`, which installs them.

#[path = "suite/fixture/probe.rs"]
mod probe;

use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tunnler_localnet::Localnet;

/// A round trip takes seconds; a hang is a failure.
const DEADLINE: Duration = Duration::from_secs(55);

async fn round_trip(interpreter_variable: &str, script: &str) -> Result<()> {
    let interpreter = std::env::var_os(interpreter_variable)
        .with_context(|| format!("{interpreter_variable} is not set: run scripts/conformance"))?;
    let localnet = Localnet::builder().start().await?;
    let directory = tempfile::tempdir()?;
    let wasm = directory.path().join("probe.wasm");
    std::fs::write(&wasm, probe::wasm()?)?;
    let mut command = Command::new(interpreter);
    command
        .arg(script)
        .args([localnet.url(), localnet.passphrase().to_owned(), localnet.friendbot_url()])
        .arg(&wasm)
        .kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE, command.output()).await.context("the script hangs")??;
    let Output { status, stdout, stderr } = output;
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    ensure!(status.success() && stdout.trim_end().ends_with("ok"), "{stdout}\n{stderr}");
    localnet.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn the_python_sdk_deploys_calls_and_reads_back() -> Result<()> {
    round_trip("TUNNLER_PYTHON", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdks/roundtrip.py")).await
}

#[tokio::test]
async fn the_javascript_sdk_deploys_calls_and_reads_back() -> Result<()> {
    // Modules are looked up from the script's place, so the script is where they are installed.
    let script = std::env::var("TUNNLER_JAVASCRIPT_ROUNDTRIP")
        .context("TUNNLER_JAVASCRIPT_ROUNDTRIP is not set: run scripts/conformance")?;
    round_trip("TUNNLER_NODE", &script).await
}
