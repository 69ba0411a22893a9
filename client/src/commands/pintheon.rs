//! `tunnler pintheon`: the preset for a Pintheon node. Its public site, its stellar.toml and nothing else of its
//! private port, under a name that becomes the account's `home_domain`.

use std::time::Duration;

use clap::Args;
use futures::future::LocalBoxFuture;
use http::HeaderValue;
use http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use http::uri::PathAndQuery;
use tokio::net::TcpStream;
use tunnler_chain::{Writer, read};
use tunnler_edge::Site;
use tunnler_edge::proxy::{Backend, Document, Fixed, HostHeader, PathRule, Target, Upstream, UpstreamTls};
use tunnler_protocol::name::{HOME_DOMAIN_MAX, Zone};
use tunnler_protocol::network::Network;
use tunnler_protocol::{Address, HostName, SecretKey};

use super::publish::{self, Beside, PublishArguments};
use super::zone_budget;
use crate::cli::{Shared, label};
use crate::error::ClientError;
use crate::tunnel::{Service, TunnelEvent};

/// Path of the SEP-1 document.
const STELLAR_TOML: &str = "/.well-known/stellar.toml";

#[derive(Debug, Args)]
pub(crate) struct PintheonArguments {
    /// The node's public HTTPS port on this machine
    #[arg(long, default_value_t = 9998, value_name = "PORT")]
    port: u16,
    /// The node's private HTTPS port, of which only stellar.toml is published
    #[arg(long, default_value_t = 9999, value_name = "PORT")]
    private_port: u16,
    /// Make a stellar.toml of the account and the network, instead of publishing the node's own
    #[arg(long)]
    generate_toml: bool,
    /// Leave the account's home_domain as it is
    #[arg(long)]
    keep_home_domain: bool,
    #[command(flatten)]
    publish: PublishArguments,
}

pub(crate) async fn run(shared: &Shared, arguments: PintheonArguments) -> Result<(), ClientError> {
    let (network, key) = (shared.network()?, shared.secret()?);
    let [name] = arguments.publish.names.as_slice() else {
        return Err(ClientError::Usage("a Pintheon node needs exactly one --name".into()));
    };
    let zone = read::read_relays(&network).await?.zone.zone.clone();
    let host = fitting_host(&zone, name)?;
    let document = if arguments.generate_toml {
        Backend::Fixed(generated(&network, key.address()))
    } else {
        Backend::Document(of_node(arguments.private_port))
    };
    let site = Site::from(node(arguments.port)).route(PathRule::Exact(STELLAR_TOML.into()), document);
    let patience = arguments.publish.patience();
    let config = arguments.publish.config(shared, vec![Service::site(site)])?;
    let home_domain = (!arguments.keep_home_domain).then_some(HomeDomain { network, key, host });
    wait_for_node(arguments.port).await;
    publish::serve(shared, config, patience, Announce(home_domain)).await
}

fn fitting_host(zone: &Zone, name: &str) -> Result<HostName, ClientError> {
    let host = zone.host(&label(name)?);
    if host.as_str().len() > HOME_DOMAIN_MAX {
        return Err(ClientError::HomeDomainTooLong { host: host.to_string(), budget: zone_budget(zone) });
    }
    Ok(host)
}

/// A port of the node. Its certificate is self-signed; its guard looks at Host, so the public one is kept.
fn node(port: u16) -> Upstream {
    let target: Target = format!("https://127.0.0.1:{port}").parse().expect("a URL");
    Upstream::new(target, &UpstreamTls::AnyCertificate, HostHeader::Keep)
}

/// The document of the private port, of which nothing else is reachable.
fn of_node(private_port: u16) -> Document {
    Document::new(node(private_port), PathAndQuery::from_static(STELLAR_TOML))
        .header(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))
}

fn generated(network: &Network, account: Address) -> Fixed {
    Fixed::new(
        HeaderValue::from_static("text/plain; charset=utf-8"),
        stellar_toml(&network.passphrase, account),
    )
    .header(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))
}

/// The least that SEP-1 asks for: which network, which account.
fn stellar_toml(passphrase: &str, account: Address) -> String {
    let passphrase = toml::Value::from(passphrase);
    format!("VERSION = \"2.0.0\"\nNETWORK_PASSPHRASE = {passphrase}\nACCOUNTS = [\"{account}\"]\n")
}

async fn wait_for_node(port: u16) {
    let mut told = false;
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        if !told {
            eprintln!("waiting for the node at https://127.0.0.1:{port}");
            told = true;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

struct HomeDomain {
    network: Network,
    key: SecretKey,
    host: HostName,
}

/// Publishes the name as `home_domain` once it serves.
struct Announce(Option<HomeDomain>);

impl Beside for Announce {
    fn event(&mut self, event: &TunnelEvent) -> Option<LocalBoxFuture<'static, ()>> {
        if !matches!(event, TunnelEvent::Serving { .. }) {
            return None;
        }
        let home_domain = self.0.take()?;
        Some(Box::pin(async move {
            match home_domain.publish().await {
                Ok(()) => eprintln!("home_domain is {}", home_domain.host),
                Err(error) => eprintln!("home_domain not published: {error}"),
            }
        }))
    }
}

impl HomeDomain {
    async fn publish(&self) -> Result<(), ClientError> {
        let account = read::read_account(&self.network, &self.key.address()).await?;
        if account.and_then(|account| account.home_domain).as_deref() != Some(self.host.as_str()) {
            Writer::new(self.network.clone(), self.key.clone())?
                .set_home_domain(Some(&self.host))
                .send()
                .await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_document_says_network_and_account() {
        let account: Address = "GD6ROJBYLKQMOW3E7N4M2YBPUHMZD7PL65VRHRMO24BOVSBV5H3BQRSL".parse().unwrap();
        let passphrase = "Quote \" and backslash \\ ; 2026";
        let read: toml::Table = stellar_toml(passphrase, account).parse().unwrap();
        assert_eq!(read["NETWORK_PASSPHRASE"].as_str(), Some(passphrase));
        assert_eq!(read["ACCOUNTS"][0].as_str(), Some(account.to_string().as_str()));
    }
}
