//! `tunnler home-domain`: the account's `home_domain` on the ledger, at most 32 bytes.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use tunnler_chain::{Writer, read};
use tunnler_protocol::name::HOME_DOMAIN_MAX;
use tunnler_protocol::network::Network;
use tunnler_protocol::{Address, HostName};

use super::{budget, print, sep1, zone_budget};
use crate::cli::{Shared, label};
use crate::error::ClientError;

#[derive(Debug, Subcommand)]
pub(crate) enum HomeDomainCommand {
    /// Publish a name, or any host, as this account's home_domain
    Set {
        /// A name of the zone, or a host
        #[arg(value_name = "NAME|HOST")]
        host: String,
    },
    /// Show an account's home_domain
    Show {
        /// The account [default: the one of the key in use]
        #[arg(value_name = "ADDRESS")]
        address: Option<Address>,
    },
    /// Fetch stellar.toml the way a wallet does: ledger, DNS, HTTPS, and check that it lists the account
    Verify {
        /// The account [default: the one of the key in use]
        #[arg(value_name = "ADDRESS")]
        address: Option<Address>,
        /// PEM file with the roots to trust [default: those of the public web]
        #[arg(long, value_name = "FILE")]
        root: Option<PathBuf>,
    },
    /// Remove this account's home_domain
    Clear,
}

pub(crate) async fn run(shared: &Shared, command: HomeDomainCommand) -> Result<(), ClientError> {
    let network = shared.network()?;
    match command {
        HomeDomainCommand::Set { host } => {
            let host = resolve(&network, &host).await?;
            set(shared, network, Some(&host)).await?;
            eprintln!("{}", budget(&host));
            print(shared.json, &json!({ "home_domain": host }), || host.to_string());
        }
        HomeDomainCommand::Show { address } => {
            let address = match address {
                Some(address) => address,
                None => shared.secret()?.address(),
            };
            let account = read::read_account(&network, &address).await?;
            let account = account.ok_or_else(|| {
                ClientError::Failed(format!("account {address} does not exist on {}", network.name))
            })?;
            print(shared.json, &json!({ "home_domain": account.home_domain }), || {
                account.home_domain.clone().unwrap_or_else(|| "(none)".into())
            });
        }
        HomeDomainCommand::Verify { address, root } => {
            let address = match address {
                Some(address) => address,
                None => shared.secret()?.address(),
            };
            let found = sep1::verify(&network, address, root.as_deref()).await?;
            print(shared.json, &found, || {
                format!(
                    "{} leads to stellar.toml through {} and lists {address}",
                    found.home_domain, found.answered
                )
            });
        }
        HomeDomainCommand::Clear => {
            set(shared, network, None).await?;
            print(shared.json, &json!({ "home_domain": null }), || "(none)".into());
        }
    }
    Ok(())
}

async fn resolve(network: &Network, text: &str) -> Result<HostName, ClientError> {
    let host = if text.contains('.') {
        text.parse().map_err(|source| ClientError::Name { text: text.to_owned(), source })?
    } else {
        let label = label(text)?;
        read::read_relays(network).await?.zone.zone.host(&label)
    };
    if host.as_str().len() > HOME_DOMAIN_MAX {
        let zone = &read::read_relays(network).await?.zone.zone;
        return Err(ClientError::HomeDomainTooLong { host: host.to_string(), budget: zone_budget(zone) });
    }
    Ok(host)
}

async fn set(shared: &Shared, network: Network, host: Option<&HostName>) -> Result<(), ClientError> {
    let key = shared.secret()?;
    let account = read::read_account(&network, &key.address()).await?;
    let current = account.and_then(|account| account.home_domain);
    if current.as_deref() == host.map(HostName::as_str) {
        eprintln!("nothing to change");
        return Ok(());
    }
    let receipt = Writer::new(network, key)?.set_home_domain(host).send().await?;
    eprintln!("done in ledger {}, transaction {}", receipt.ledger, receipt.hash);
    Ok(())
}
