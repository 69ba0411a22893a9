//! `tunnler up`: serve what a configuration file says, and follow its changes without dropping a visitor.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use tunnler_protocol::ServiceName;
use tunnler_protocol::presence::TlsMode;

use super::publish::{self, Beside};
use crate::cli::Shared;
use crate::config::Configuration;
use crate::error::ClientError;
use crate::tunnel::Tunnel;

#[derive(Debug, Args)]
pub(crate) struct UpArguments {
    /// The configuration file
    #[arg(default_value = "tunnler.toml", value_name = "FILE")]
    file: PathBuf,
}

pub(crate) async fn run(shared: &Shared, arguments: UpArguments) -> Result<(), ClientError> {
    let configuration = Configuration::read(&arguments.file)?;
    let shared = shared.or(&configuration);
    let declared = declared(&configuration);
    let patience = configuration.patience;
    let config = configuration.tunnel(&shared)?;
    let modified = modified(&arguments.file);
    publish::serve(&shared, config, patience, Reload { file: arguments.file, modified, declared }).await
}

/// Puts changed routes to use when the file changes.
struct Reload {
    file: PathBuf,
    modified: Option<SystemTime>,
    declared: Vec<(ServiceName, TlsMode)>,
}

impl Beside for Reload {
    fn look(&mut self, tunnel: &Tunnel) {
        let modified = modified(&self.file);
        if modified.is_none() || modified == self.modified {
            return;
        }
        self.modified = modified;
        match Configuration::read(&self.file) {
            Ok(new) if declared(&new) == self.declared => {
                for service in new.services {
                    tunnel.replace(service);
                }
                eprintln!("{}: new routes are in use", self.file.display());
            }
            Ok(_) => eprintln!("{}: other services take effect after a restart", self.file.display()),
            Err(error) => eprintln!("{error}; the old configuration stays in use"),
        }
    }
}

/// What of the services the presence says: it is signed at the start.
fn declared(configuration: &Configuration) -> Vec<(ServiceName, TlsMode)> {
    configuration.services.iter().map(|service| (service.name.clone(), service.tls)).collect()
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
