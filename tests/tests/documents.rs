//! The documents name paths and scripts that exist, and link to each other without dead ends.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tunnler_tests::process::source_root;

fn documents() -> Result<Vec<PathBuf>> {
    let root = source_root();
    let mut documents = vec![root.join("README.md")];
    for entry in std::fs::read_dir(root.join("docs"))? {
        documents.push(entry?.path());
    }
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    ensure!(documents.len() > 3, "only {documents:?}");
    Ok(documents)
}

#[test]
fn every_link_leads_somewhere() -> Result<()> {
    for document in documents()? {
        let text = std::fs::read_to_string(&document)?;
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let target = document.parent().context("a directory")?.join(path);
            ensure!(target.exists(), "{}: {link} leads nowhere", document.display());
        }
    }
    Ok(())
}

#[test]
fn every_path_named_exists() -> Result<()> {
    let first =
        ["contracts/", "protocol/", "chain/", "transport/", "edge/", "relay-node/", "client/", "dns/"];
    let more = ["localnet/", "tests/", "scripts/", "docs/", ".ci/"];
    let mut named = 0;
    for document in documents()? {
        let text = std::fs::read_to_string(&document)?;
        for code in text.split('`').skip(1).step_by(2) {
            let word = code.split_whitespace().next().unwrap_or_default();
            if !first.iter().chain(&more).any(|start| word.starts_with(start))
                || word.contains(['{', '*', '<', '…'])
            {
                continue;
            }
            let path = word.split("::").next().unwrap_or(word);
            ensure!(
                Path::new(source_root()).join(path).exists(),
                "{}: {path} does not exist",
                document.display()
            );
            named += 1;
        }
    }
    ensure!(named > 20, "only {named} paths are named");
    Ok(())
}
