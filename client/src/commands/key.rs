//! `tunnler key`: make a key file, show its address.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use tunnler_chain::key;
use tunnler_protocol::SecretKey;

use super::print;
use crate::cli::Shared;
use crate::error::ClientError;

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a new key and write it to a new file with mode 0600
    New {
        /// The file; it must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Show the address of the key in use
    Show,
}

pub(crate) fn run(shared: &Shared, command: &KeyCommand) -> Result<(), ClientError> {
    let key = match command {
        KeyCommand::New { file } => {
            let key = SecretKey::from_seed(&rand::random());
            key::create(file, &key)?;
            key
        }
        KeyCommand::Show => shared.secret()?,
    };
    let address = key.address();
    print(shared.json, &json!({ "address": address }), || address.to_string());
    Ok(())
}
