//! Who answers the requests of a service or of a route of it: one web server, several equal ones, or a directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use tunnler_edge::proxy::{
    Backend, Checks, Files, HostHeader, Listing, Pool, Target, Timeouts, Upstream, UpstreamTls,
};

/// The keys of a service or route that say who answers.
#[derive(Debug, Default, PartialEq)]
pub(super) struct RawBackend {
    pub(super) target: Option<String>,
    pub(super) targets: Vec<String>,
    pub(super) dir: Option<PathBuf>,
    pub(super) listing: bool,
    pub(super) host: Option<String>,
    pub(super) pin: Option<String>,
    pub(super) ca: Option<PathBuf>,
    pub(super) health: Option<RawHealth>,
    pub(super) timeouts: Option<RawTimeouts>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHealth {
    path: String,
    /// Seconds.
    every: Option<u64>,
}

/// Seconds; `answer_silence = 0` means no limit.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTimeouts {
    connect: Option<u64>,
    answer: Option<u64>,
    upload_silence: Option<u64>,
    answer_silence: Option<u64>,
    idle: Option<u64>,
}

impl RawBackend {
    pub(super) fn check(self, base: &Path) -> Result<Backend, String> {
        match (&self.target, &self.targets[..], &self.dir) {
            (None, [], Some(dir)) => self.files(&base.join(dir)),
            (Some(_), [], None) | (None, [_, ..], None) => self.upstreams(base),
            _ => Err("needs either target, targets or dir".into()),
        }
    }

    fn files(&self, path: &Path) -> Result<Backend, String> {
        if !path.is_dir() {
            return Err(format!("dir {} is not a directory", path.display()));
        }
        let of_targets = [self.host.is_some(), self.pin.is_some(), self.ca.is_some()];
        if of_targets.contains(&true) || self.health.is_some() || self.timeouts.is_some() {
            return Err("host, pin, ca, health and timeouts belong to a target, not to a dir".into());
        }
        let listing = if self.listing { Listing::Shown } else { Listing::Hidden };
        Ok(Backend::Files(Files::new(path).listing(listing)))
    }

    fn upstreams(self, base: &Path) -> Result<Backend, String> {
        if self.listing {
            return Err("listing belongs to a dir, not to a target".into());
        }
        let tls = match (&self.pin, &self.ca) {
            (None, None) => UpstreamTls::AnyCertificate,
            (Some(pin), None) => UpstreamTls::Pinned(fingerprint(pin)?),
            (None, Some(ca)) => UpstreamTls::Roots(roots(&base.join(ca))?),
            (Some(_), Some(_)) => return Err("needs either pin or ca".into()),
        };
        let host = match &self.host {
            None => HostHeader::Keep,
            Some(host) => HostHeader::Set(host.parse().map_err(|_| format!("host {host:?} is not a host"))?),
        };
        let timeouts = self.timeouts.unwrap_or_default().check()?;
        let upstream = |text: &String| {
            let target: Target = text.parse().map_err(|error| format!("target {text:?}: {error}"))?;
            Ok::<_, String>(Upstream::with_timeouts(target, &tls, host.clone(), timeouts.clone()))
        };
        let upstreams =
            self.target.iter().chain(&self.targets).map(upstream).collect::<Result<Vec<_>, _>>()?;
        let checks = self.health.map(RawHealth::check).transpose()?;
        match <[Upstream; 1]>::try_from(upstreams) {
            Ok([one]) if checks.is_none() => Ok(Backend::Upstream(one)),
            Ok(_) => Err("health needs several targets".into()),
            Err(several) => Ok(Backend::Pool(Pool::new(several, checks))),
        }
    }
}

impl RawHealth {
    fn check(self) -> Result<Checks, String> {
        let path = self.path.starts_with('/').then(|| self.path.parse().ok()).flatten();
        let path = path.ok_or_else(|| format!("health path {:?} is not a path", self.path))?;
        Ok(Checks { path, every: seconds("every", self.every.unwrap_or(10))? })
    }
}

impl RawTimeouts {
    fn check(self) -> Result<Timeouts, String> {
        let usual = Timeouts::default();
        let or = |name, value: Option<u64>, usual| value.map_or(Ok(usual), |value| seconds(name, value));
        Ok(Timeouts {
            connect: or("connect", self.connect, usual.connect)?,
            answer: or("answer", self.answer, usual.answer)?,
            upload_silence: or("upload_silence", self.upload_silence, usual.upload_silence)?,
            answer_silence: match self.answer_silence {
                None | Some(0) => None,
                Some(value) => Some(seconds("answer_silence", value)?),
            },
            idle: or("idle", self.idle, usual.idle)?,
        })
    }
}

fn seconds(name: &str, value: u64) -> Result<Duration, String> {
    const MOST: u64 = 24 * 3600;
    let fits = (1..=MOST).contains(&value).then(|| Duration::from_secs(value));
    fits.ok_or_else(|| format!("{name} = {value} is not between 1 and {MOST} seconds"))
}

/// Certificates of authorities, in PEM.
pub(crate) fn roots(path: &Path) -> Result<Arc<RootCertStore>, String> {
    let wrong = |problem: String| format!("ca {}: {problem}", path.display());
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("no certificate in it".into())) } else { Ok(Arc::new(roots)) }
}

/// SHA-256 of a certificate in hexadecimal, with or without colons.
pub(crate) fn fingerprint(text: &str) -> Result<[u8; 32], String> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let wrong = || "pin is not a SHA-256 fingerprint (64 hexadecimal digits)".to_owned();
    if digits.len() != 64 {
        return Err(wrong());
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(digits.chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(digest)
}
