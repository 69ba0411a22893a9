//! The contracts as `scripts/build-contracts` built them.

use std::path::PathBuf;

/// Which build of a contract a test runs on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Build {
    /// Compiled into the test: quick, and with backtraces.
    Native,
    /// What is deployed.
    Wasm,
}

/// A built contract, by its file name in `target/contracts`.
///
/// # Panics
/// When it has not been built.
pub fn wasm(file: &str) -> Vec<u8> {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let path = workspace.join(target).join("contracts").join(file);
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; run scripts/build-contracts first", path.display()))
}

/// Runs each of the named functions on both builds, as tests of their own.
#[macro_export]
macro_rules! on_both_builds {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            #[test]
            fn native() {
                super::$name($crate::Build::Native.into());
            }
            #[test]
            fn wasm() {
                super::$name($crate::Build::Wasm.into());
            }
        })*
    };
}
