//! One service of a configuration file: what it is, where it goes, and what holds for its visitors.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use tunnler_edge::Site;
use tunnler_edge::proxy::PathRule;
use tunnler_protocol::ServiceName;
use tunnler_protocol::presence::TlsMode;

use super::access::{RawAccess, RawRate};
use super::backend::{RawBackend, RawHealth, RawTimeouts};
use super::rules::{RawEdits, RawRules};
use crate::tunnel::{Announce, Service, ServiceBackend, TcpUpstream};

const TCP_TAKES: &str = "a service of kind tcp has a target, and at most proxy_protocol beside it";

// What services and routes share is spelt out in both: with serde's `flatten` a mistake would be told without its line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawService {
    name: ServiceName,
    #[serde(default)]
    kind: RawKind,
    #[serde(default)]
    proxy_protocol: bool,
    tls: Option<TlsMode>,
    #[serde(default)]
    route: Vec<RawRoute>,
    target: Option<String>,
    #[serde(default)]
    targets: Vec<String>,
    dir: Option<PathBuf>,
    #[serde(default)]
    listing: bool,
    host: Option<String>,
    pin: Option<String>,
    ca: Option<PathBuf>,
    health: Option<RawHealth>,
    timeouts: Option<RawTimeouts>,
    #[serde(default)]
    access: RawAccess,
    rate: Option<RawRate>,
    max_body_mib: Option<u64>,
    #[serde(default)]
    request_headers: RawEdits,
    #[serde(default)]
    response_headers: RawEdits,
    hsts_days: Option<u64>,
    #[serde(default)]
    full_url: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawKind {
    #[default]
    Http,
    Tcp,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    path: String,
    #[serde(default)]
    exact: bool,
    target: Option<String>,
    #[serde(default)]
    targets: Vec<String>,
    dir: Option<PathBuf>,
    #[serde(default)]
    listing: bool,
    host: Option<String>,
    pin: Option<String>,
    ca: Option<PathBuf>,
    health: Option<RawHealth>,
    timeouts: Option<RawTimeouts>,
    access: Option<RawAccess>,
}

impl RawService {
    pub(super) fn check(self, base: &Path) -> Result<Service, String> {
        let Self {
            name,
            kind,
            proxy_protocol,
            tls,
            route,
            target,
            targets,
            dir,
            listing,
            host,
            pin,
            ca,
            health,
            timeouts,
            access,
            rate,
            max_body_mib,
            request_headers,
            response_headers,
            hsts_days,
            full_url,
        } = self;
        let backend = RawBackend { target, targets, dir, listing, host, pin, ca, health, timeouts };
        let rules =
            RawRules { access, rate, max_body_mib, request_headers, response_headers, hsts_days, full_url };
        let web_only = rules != RawRules::default() || !route.is_empty() || tls.is_some();
        let checked = match (kind, proxy_protocol) {
            (RawKind::Tcp, _) if web_only => Err(TCP_TAKES.into()),
            (RawKind::Tcp, announced) => {
                let announce = if announced { Announce::ProxyV2 } else { Announce::Nothing };
                tcp(backend).map(|upstream| Service::tcp(name.clone(), upstream.announcing(announce)))
            }
            (RawKind::Http, true) => Err("proxy_protocol belongs to a service of kind tcp".into()),
            (RawKind::Http, false) => http(backend, rules, route, base).map(|site| Service {
                name: name.clone(),
                backend: ServiceBackend::Http(Arc::new(site)),
                tls: tls.unwrap_or_default(),
            }),
        };
        checked.map_err(|problem| format!("service {name}: {problem}"))
    }
}

fn http(backend: RawBackend, rules: RawRules, routes: Vec<RawRoute>, base: &Path) -> Result<Site, String> {
    let site = Site::new(backend.check(base)?).rules(rules.check(base)?);
    routes.into_iter().try_fold(site, |site, route| {
        let path = route.path.clone();
        route.add_to(site, base).map_err(|problem| format!("route {path}: {problem}"))
    })
}

fn tcp(mut backend: RawBackend) -> Result<TcpUpstream, String> {
    let target = backend.target.take().filter(|_| backend == RawBackend::default()).ok_or(TCP_TAKES)?;
    target.parse().map_err(|error| format!("target {target:?}: {error}"))
}

impl RawRoute {
    fn add_to(self, site: Site, base: &Path) -> Result<Site, String> {
        if !self.path.starts_with('/') {
            return Err("it does not begin with /".into());
        }
        let Self { path, exact, access, target, targets, dir, listing, host, pin, ca, health, timeouts } =
            self;
        let backend = RawBackend { target, targets, dir, listing, host, pin, ca, health, timeouts };
        let backend = backend.check(base)?;
        let rule = if exact { PathRule::Exact(path) } else { PathRule::Under(path) };
        Ok(match access {
            Some(access) => site.guarded(rule, access.check(base)?, backend),
            None => site.route(rule, backend),
        })
    }
}
