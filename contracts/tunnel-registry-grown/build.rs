//! Adds an optional field to the registry's record, as a later version would.

use std::path::Path;
use std::{env, fs};

const TYPES: &str = "../tunnel-registry/src/types.rs";
const LAST_FIELD: &str = "    pub terms: Option<String>,\n";
const NEW_FIELD: &str = "    /// Where to complain.\n    pub contact: Option<String>,\n";

fn main() {
    println!("cargo::rerun-if-changed={TYPES}");
    let types = fs::read_to_string(TYPES).expect("the registry's types are beside this crate");
    let (before, after) = types.split_once(LAST_FIELD).expect("the record ends with its terms");
    // Inner documentation cannot stand in an included file.
    let before: String =
        before.lines().filter(|line| !line.starts_with("//!")).flat_map(|line| [line, "\n"]).collect();
    let grown = format!("{before}{LAST_FIELD}{NEW_FIELD}{after}");
    let out = env::var("OUT_DIR").expect("cargo says where to write");
    fs::write(Path::new(&out).join("types.rs"), grown).expect("cargo's directory can be written");
}
