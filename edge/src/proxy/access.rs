//! Who may use a service: networks, names with passwords, tokens, signed messages. Secrets are kept as digests or keys
//! and never printed.

mod credentials;
mod webhook;

use std::net::IpAddr;

use http::Method;
use http::header;
use ipnet::IpNet;

use super::Visitor;
use super::refusal::Refusal;
use super::request::Checked;

pub use credentials::{Credentials, CredentialsError};
pub use webhook::{Provider, Webhook, WebhookError};

/// Rules of access. The default lets everybody in.
#[derive(Clone, Debug, Default)]
pub struct Access {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
    proof: Proof,
    preflight: Preflight,
}

/// What a visitor has to show.
#[derive(Clone, Debug, Default)]
pub enum Proof {
    /// Nothing.
    #[default]
    Nothing,
    /// A name and password, or a token.
    Credentials(Credentials),
    /// The signature of a provider of webhooks over the message.
    Webhook(Webhook),
}

/// What happens to CORS preflight requests, which browsers send without credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preflight {
    /// They are held to the same rules.
    #[default]
    Guarded,
    /// They pass without proof.
    Passed,
}

impl Access {
    /// Only networks of `allow`, unless it is empty, and none of `deny`. The address is what the relay claims: good
    /// against strangers, not against a relay that lies.
    #[must_use]
    pub fn networks(mut self, allow: Vec<IpNet>, deny: Vec<IpNet>) -> Self {
        self.allow = allow;
        self.deny = deny;
        self
    }

    /// Asks for a proof.
    #[must_use]
    pub fn proof(mut self, proof: Proof) -> Self {
        self.proof = proof;
        self
    }

    /// What happens to CORS preflight requests.
    #[must_use]
    pub fn preflight(mut self, preflight: Preflight) -> Self {
        self.preflight = preflight;
        self
    }

    /// Lets a request in, or says why not. What was shown is taken off the request, a signed message is read whole.
    pub(super) async fn admit(&self, checked: &mut Checked, visitor: &Visitor) -> Result<(), Refusal> {
        if !self.admits(visitor.address.ip()) {
            return Err(Refusal::Forbidden);
        }
        if self.preflight == Preflight::Passed && is_preflight(checked) {
            return Ok(());
        }
        match &self.proof {
            Proof::Nothing => Ok(()),
            Proof::Credentials(credentials) => credentials.check(&mut checked.parts.headers),
            Proof::Webhook(webhook) => webhook.check(checked).await,
        }
    }

    fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let within = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        !within(&self.deny) && (self.allow.is_empty() || within(&self.allow))
    }
}

fn is_preflight(checked: &Checked) -> bool {
    *checked.method() == Method::OPTIONS
        && checked.headers().contains_key(header::ORIGIN)
        && checked.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_denied_before_they_are_allowed() {
        let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
        let access = Access::default()
            .networks(nets(&["192.0.2.0/24", "2001:db8::/32"]), nets(&["192.0.2.7/32", "2001:db8:bad::/48"]));
        for (address, admitted) in [
            ("192.0.2.1", true),
            ("192.0.2.7", false),
            ("::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.7", false),
            ("198.51.100.1", false),
            ("2001:db8::1", true),
            ("2001:db8:bad::1", false),
        ] {
            assert_eq!(access.admits(address.parse().unwrap()), admitted, "{address}");
        }
        assert!(Access::default().admits("198.51.100.1".parse().unwrap()));
    }
}
