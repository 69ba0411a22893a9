//! Finishes the wasm of a contract, and writes down what it offers.
//!
//! `pack` leaves out of the interface what the contract does not use: the SDK writes the description of every type and
//! event in sight into the wasm and marks those in use; the stellar CLI drops the rest when it builds, and this does the
//! same for builds without it. `document` prints the interface for `docs/contracts.md`. Neither touches code.
#![forbid(unsafe_code)]

mod document;
mod interface;
mod metadata;
mod sections;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["pack", built, finished, notes @ ..] => pack(built, finished, notes),
        ["document", contracts @ ..] => document(contracts).map(|page| print!("{page}")),
        _ => bail!(
            "usage: tunnel-artifact pack BUILT.wasm FINISHED.wasm [KEY=VALUE…] | document CRATE=BUILT.wasm…"
        ),
    }
}

fn pack(built: &str, finished: &str, notes: &[&str]) -> Result<()> {
    let wasm = read(built)?;
    let packed = interface::shake(&wasm).and_then(|wasm| metadata::append(&wasm, notes));
    let packed = packed.with_context(|| format!("{built} is not a contract"))?;
    fs::write(finished, packed).with_context(|| format!("cannot write {finished}"))
}

fn document(contracts: &[&str]) -> Result<String> {
    let mut page = document::PREFACE.to_owned();
    for contract in contracts {
        let (directory, built) = contract.split_once('=').context("CRATE=BUILT.wasm was expected")?;
        let costs =
            fs::read_to_string(Path::new(directory).join("costs.tsv")).context("cannot read costs.tsv")?;
        let title = Path::new(directory).file_name().and_then(|name| name.to_str()).unwrap_or(directory);
        let localnet = fs::read_to_string(Path::new(directory).join("localnet-costs.tsv"))
            .context("cannot read localnet-costs.tsv")?;
        page.push_str(&document::contract(title, &interface::used(&read(built)?)?, &costs));
        page.push_str(&document::localnet(&localnet));
    }
    Ok(page)
}

fn read(path: &str) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {path}"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_page_on_the_contracts_is_up_to_date() {
        let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let target = std::env::var_os("CARGO_TARGET_DIR");
        let target = target.map_or_else(|| workspace.join("target"), PathBuf::from);
        let built = workspace.join(target).join("contracts/build/wasm32v1-none/contract");
        let contracts = ["tunnel_registry", "tunnel_namespace"].map(|name| {
            let directory = workspace.join("contracts").join(name.replace('_', "-"));
            let built = built.join(name).with_extension("wasm");
            format!("{}={}", directory.display(), built.display())
        });
        let contracts: Vec<&str> = contracts.iter().map(String::as_str).collect();
        let page = document(&contracts).expect("scripts/build-contracts has been run");
        let written = fs::read_to_string(workspace.join("docs/contracts.md")).unwrap_or_default();
        assert!(page == written, "docs/contracts.md is out of date: run scripts/document-contracts");
    }
}
