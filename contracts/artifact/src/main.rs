//! Finishes the wasm of a contract: leaves out of its interface what the contract does not use.
//!
//! The SDK writes the description of every type and event in sight into the wasm and marks those in use; the stellar
//! CLI drops the rest when it builds. This does the same for builds without the CLI, and touches nothing else.
#![forbid(unsafe_code)]

mod interface;
mod sections;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [built, finished] = args.as_slice() else {
        bail!("usage: tunnel-artifact BUILT.wasm FINISHED.wasm");
    };
    let wasm = std::fs::read(built).with_context(|| format!("cannot read {built}"))?;
    let shaken = interface::shake(&wasm).with_context(|| format!("{built} is not a contract"))?;
    std::fs::write(finished, shaken).with_context(|| format!("cannot write {finished}"))
}
