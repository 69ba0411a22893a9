//! Pebble, the test certificate authority of the ACME working group's implementers, with an API certificate made here
//! and validation through our own DNS server.

pub mod front;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;
use tokio::process::Command;

use crate::ports;
use crate::process::Process;
use crate::visitor;
use front::{ApiFiles, Front};

/// The issuer domain this CA goes by in CAA records.
pub const ISSUER: &str = "pebble.test";

/// How others reach the CA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// As it is.
    #[default]
    Direct,
    /// Through a [`Front`] that can misbehave.
    Fronted,
}

/// A running pebble.
#[derive(Debug)]
pub struct Pebble {
    process: Process,
    front: Option<Front>,
    directory: String,
    management: SocketAddr,
    api_root: PathBuf,
}

impl Pebble {
    /// Starts pebble. It validates TLS-ALPN-01 at `tls_port` and asks the DNS server at `dns` for everything.
    pub async fn start(dir: &Path, tls_port: u16, dns: SocketAddr, reach: Reach) -> Result<Self> {
        let (api, management) = (ports::local()?, ports::local()?);
        let api_root = dir.join("acme-root.pem");
        write_api_certificate(dir, &api_root)?;
        let (chain, key) = (dir.join("acme-api.pem"), dir.join("acme-api.key"));
        let config = dir.join("pebble.json");
        let settings = json!({ "pebble": {
            "listenAddress": api.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": chain,
            "privateKey": key,
            "httpPort": 1,
            "tlsPort": tls_port,
        }});
        std::fs::write(&config, settings.to_string())?;
        let mut command = Command::new("pebble");
        command.args(["-strict", "-dnsserver", &dns.to_string(), "-config"]).arg(&config);
        // No artificial delays. No rejected nonces either: after one, a relay's own host waits a minute for its next
        // order, as it should; how certificates survive a hostile CA is tested where they are made.
        command.envs([
            ("PEBBLE_VA_NOSLEEP", "1"),
            ("PEBBLE_WFE_NONCEREJECT", "0"),
            ("PEBBLE_AUTHZREUSE", "0"),
        ]);
        let mut process = Process::spawn("pebble", command, dir)?;
        process
            .wait_until("listening", Duration::from_secs(20), || async {
                tokio::net::TcpStream::connect(api).await.is_ok()
                    && tokio::net::TcpStream::connect(management).await.is_ok()
            })
            .await?;
        let (front, reached) = match reach {
            Reach::Direct => (None, api),
            Reach::Fronted => {
                let reached = ports::local()?;
                let listener = tokio::net::TcpListener::bind(reached).await?;
                let files = ApiFiles { chain, key, root: api_root.clone() };
                (Some(Front::start(listener, &files, api)), reached)
            }
        };
        Ok(Self { process, front, directory: format!("https://{reached}/dir"), management, api_root })
    }

    /// The ACME directory URL.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// PEM file of the root of the directory's own certificate.
    pub fn api_root(&self) -> &Path {
        &self.api_root
    }

    /// What stands before it.
    pub fn front(&self) -> Option<&Front> {
        self.front.as_ref()
    }

    /// The running process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The root that issued certificates end at, as PEM. A new one at each start of pebble.
    pub async fn issuing_root(&self) -> Result<String> {
        let mut api = RootCertStore::empty();
        api.add(CertificateDer::from_pem_file(&self.api_root)?)?;
        let path = "/roots/0";
        let response = visitor::Tls::new(api).get(self.management, "localhost", "localhost", path).await?;
        String::from_utf8(response.body.to_vec()).context("pebble's root is not PEM")
    }
}

fn write_api_certificate(dir: &Path, root: &Path) -> Result<()> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "tunnler test ACME API root");
    let ca_key = KeyPair::generate()?;
    let ca_certificate = ca.self_signed(&ca_key)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()])?;
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?;
    std::fs::write(root, ca_certificate.pem())?;
    std::fs::write(dir.join("acme-api.pem"), leaf.pem())?;
    std::fs::write(dir.join("acme-api.key"), key.serialize_pem())?;
    Ok(())
}
