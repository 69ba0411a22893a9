//! Arguments of `tunnler http` and `tunnler serve` that say who may visit, and how often. More can be said in a
//! configuration file (`tunnler up`).

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tunnler_edge::proxy::{Access, Proof, Rate, Rates, Rules};

use crate::config::{RawSecret, credentials, networks};
use crate::error::ClientError;

#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
pub(crate) struct GuardArguments {
    /// Let in only this network or address, as the relay tells it (may be repeated)
    #[arg(long, value_name = "NETWORK")]
    allow: Vec<String>,
    /// Keep out this network or address (may be repeated)
    #[arg(long, value_name = "NETWORK")]
    deny: Vec<String>,
    /// Ask for a name and password; the file (mode 0600) has a line NAME:PASSWORD for each
    #[arg(long, value_name = "FILE")]
    basic: Option<PathBuf>,
    /// Ask for a bearer token; the file (mode 0600) has a token a line
    #[arg(long, value_name = "FILE")]
    bearer: Option<PathBuf>,
    /// Take no more requests a second from one visitor
    #[arg(long, value_name = "REQUESTS")]
    rate: Option<NonZeroU32>,
}

impl GuardArguments {
    pub(crate) fn rules(self) -> Result<Rules, ClientError> {
        let secret = |path: Option<PathBuf>| path.map(RawSecret::File);
        let access = Access::default().networks(usage(networks(&self.allow))?, usage(networks(&self.deny))?);
        let (basic, bearer) = (secret(self.basic), secret(self.bearer));
        let credentials = usage(credentials(Path::new(""), basic.as_ref(), bearer.as_ref()))?;
        let rate = self.rate.map(|rate| Rate { per_second: rate, burst: rate });
        Ok(Rules {
            access: access.proof(credentials.map_or(Proof::Nothing, Proof::Credentials)),
            rates: rate.map(|rate| Arc::new(Rates::new(Some(rate), None))),
            ..Rules::default()
        })
    }
}

fn usage<T>(checked: Result<T, String>) -> Result<T, ClientError> {
    checked.map_err(ClientError::Usage)
}
