//! `tunnler http` and `tunnler serve`: publish a local web server, or a directory.

use std::path::PathBuf;

use clap::Args;
use tunnler_edge::Site;
use tunnler_edge::proxy::{Backend, Files, HostHeader, Listing, Target, Upstream, UpstreamTls};
use tunnler_protocol::presence::TlsMode;

use super::guard::GuardArguments;
use super::publish::{self, Nothing, PublishArguments};
use crate::cli::Shared;
use crate::error::ClientError;
use crate::tunnel::Service;

#[derive(Debug, Args)]
pub(crate) struct HttpArguments {
    /// Where the web server listens: PORT, HOST:PORT or an http(s) URL
    #[arg(value_name = "TARGET")]
    target: Target,
    #[command(flatten)]
    tls: TlsArguments,
    #[command(flatten)]
    guard: GuardArguments,
    #[command(flatten)]
    publish: PublishArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// The directory; hidden files and what lies outside are not served
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Show what is in a directory that has no index.html
    #[arg(long)]
    listing: bool,
    #[command(flatten)]
    tls: TlsArguments,
    #[command(flatten)]
    guard: GuardArguments,
    #[command(flatten)]
    publish: PublishArguments,
}

#[derive(Debug, Args)]
struct TlsArguments {
    /// Where visitors' TLS ends: `pass`, at this machine; `term`, at the relays, which then read and can change
    /// everything
    #[arg(long, default_value = "pass", value_name = "pass|term")]
    tls: TlsMode,
}

pub(crate) async fn run(shared: &Shared, arguments: HttpArguments) -> Result<(), ClientError> {
    // A local server's certificate is not judged; a configuration file can pin it.
    let upstream = Upstream::new(arguments.target, &UpstreamTls::AnyCertificate, HostHeader::Keep);
    let site = Site::from(upstream).rules(arguments.guard.rules()?);
    publish(shared, site, &arguments.tls, arguments.publish).await
}

pub(crate) async fn run_files(shared: &Shared, arguments: ServeArguments) -> Result<(), ClientError> {
    let listing = if arguments.listing { Listing::Shown } else { Listing::Hidden };
    let files = Files::new(&directory(&arguments.directory)?).listing(listing);
    let site = Site::new(Backend::Files(files)).rules(arguments.guard.rules()?);
    publish(shared, site, &arguments.tls, arguments.publish).await
}

async fn publish(
    shared: &Shared,
    site: Site,
    tls: &TlsArguments,
    arguments: PublishArguments,
) -> Result<(), ClientError> {
    let patience = arguments.patience();
    let config = arguments.config(shared, vec![Service::site(site).ended_by(tls.tls)])?;
    publish::serve(shared, config, patience, Nothing).await
}

/// An existing directory, as an absolute path.
pub(crate) fn directory(path: &std::path::Path) -> Result<PathBuf, ClientError> {
    match path.canonicalize() {
        Ok(found) if found.is_dir() => Ok(found),
        Ok(_) => Err(ClientError::Usage(format!("{} is not a directory", path.display()))),
        Err(error) => Err(ClientError::Usage(format!("{}: {error}", path.display()))),
    }
}
