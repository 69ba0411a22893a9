//! `tunnler tcp`: publish a local TCP server.

use clap::Args;
use tunnler_protocol::ServiceName;

use super::publish::{self, Nothing, PublishArguments};
use crate::cli::Shared;
use crate::error::ClientError;
use crate::tunnel::{Announce, Service, TcpUpstream};

#[derive(Debug, Args)]
pub(crate) struct TcpArguments {
    /// Where the server listens: PORT or HOST:PORT
    #[arg(value_name = "TARGET")]
    target: TcpUpstream,
    /// The service's name, as in the SRV record _SERVICE._tcp.NAME
    #[arg(long, default_value = "tcp", value_name = "SERVICE")]
    service: ServiceName,
    /// Send the server a PROXY protocol v2 header with the visitor's address first
    #[arg(long)]
    proxy_protocol: bool,
    #[command(flatten)]
    publish: PublishArguments,
}

pub(crate) async fn run(shared: &Shared, arguments: TcpArguments) -> Result<(), ClientError> {
    let patience = arguments.publish.patience();
    let announce = if arguments.proxy_protocol { Announce::ProxyV2 } else { Announce::Nothing };
    let service = Service::tcp(arguments.service, arguments.target.announcing(announce));
    let config = arguments.publish.config(shared, vec![service])?;
    publish::serve(shared, config, patience, Nothing).await
}
