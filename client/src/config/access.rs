//! Who may use a service or a route of it, and how often.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;
use tunnler_edge::proxy::{Access, Credentials, Preflight, Proof, Provider, Rate, Rates, Webhook};

use super::secret::RawSecret;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAccess {
    allow: Vec<String>,
    deny: Vec<String>,
    /// Lines NAME:PASSWORD.
    basic: Option<RawSecret>,
    /// One token a line.
    bearer: Option<RawSecret>,
    webhook: Option<RawWebhook>,
    pass_preflight: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWebhook {
    provider: RawProvider,
    secret: RawSecret,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawProvider {
    Github,
    Gitlab,
    Slack,
    Stripe,
    Standard,
}

/// Requests a second.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRate {
    per_visitor: Option<NonZeroU32>,
    total: Option<NonZeroU32>,
    burst: Option<NonZeroU32>,
}

impl RawAccess {
    pub(super) fn check(self, base: &Path) -> Result<Access, String> {
        let access = Access::default().networks(networks(&self.allow)?, networks(&self.deny)?);
        let preflight = if self.pass_preflight { Preflight::Passed } else { Preflight::Guarded };
        let credentials = credentials(base, self.basic.as_ref(), self.bearer.as_ref())?;
        let webhook = self.webhook.map(|webhook| webhook.check(base)).transpose()?;
        let proof = match (credentials, webhook) {
            (None, None) if self.pass_preflight => {
                return Err("pass_preflight needs basic or bearer".into());
            }
            (None, None) => Proof::Nothing,
            (Some(credentials), None) => Proof::Credentials(credentials),
            (None, Some(webhook)) => Proof::Webhook(webhook),
            (Some(_), Some(_)) => {
                return Err("a webhook has no basic or bearer: give it a route of its own".into());
            }
        };
        Ok(access.proof(proof).preflight(preflight))
    }
}

impl RawWebhook {
    fn check(self, base: &Path) -> Result<Webhook, String> {
        let provider = match self.provider {
            RawProvider::Github => Provider::GitHub,
            RawProvider::Gitlab => Provider::GitLab,
            RawProvider::Slack => Provider::Slack,
            RawProvider::Stripe => Provider::Stripe,
            RawProvider::Standard => Provider::Standard,
        };
        let secret = self.secret.read(base).map_err(|problem| format!("webhook: {problem}"))?;
        Webhook::new(provider, &secret).map_err(|error| format!("webhook: {error}"))
    }
}

impl RawRate {
    pub(super) fn check(self) -> Result<Arc<Rates>, String> {
        if self.per_visitor.is_none() && self.total.is_none() {
            return Err("rate needs per_visitor or total".into());
        }
        let rate = |per_second: NonZeroU32| Rate { per_second, burst: self.burst.unwrap_or(per_second) };
        Ok(Arc::new(Rates::new(self.per_visitor.map(rate), self.total.map(rate))))
    }
}

pub(crate) fn credentials(
    base: &Path,
    basic: Option<&RawSecret>,
    bearer: Option<&RawSecret>,
) -> Result<Option<Credentials>, String> {
    if basic.is_none() && bearer.is_none() {
        return Ok(None);
    }
    let mut credentials = Credentials::default();
    if let Some(basic) = basic {
        let text = basic.read(base).map_err(|problem| format!("basic: {problem}"))?;
        credentials = credentials.logins(&text).map_err(|error| format!("basic: {error}"))?;
    }
    if let Some(bearer) = bearer {
        let text = bearer.read(base).map_err(|problem| format!("bearer: {problem}"))?;
        credentials = credentials.tokens(&text).map_err(|error| format!("bearer: {error}"))?;
    }
    Ok(Some(credentials))
}

/// Networks, or single addresses.
pub(crate) fn networks(texts: &[String]) -> Result<Vec<IpNet>, String> {
    texts.iter().map(|text| network(text)).collect()
}

fn network(text: &str) -> Result<IpNet, String> {
    let parsed = text.parse().or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()));
    parsed.map_err(|_| format!("{text:?} is not a network like 192.0.2.0/24 or an address"))
}
