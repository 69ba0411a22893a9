//! Which client a host name belongs to now, as the chain says. Pure; knows nothing of sessions.

use std::fmt;
use std::sync::Arc;

use tunnler_protocol::directory::{AccountHosts, Directory, NameRecord};
use tunnler_protocol::name::{Host, HostName, Label, PublicName, ServiceName};
use tunnler_protocol::presence::{Claims, Service};
use tunnler_protocol::{Address, UnixSeconds};

/// The bare name that a visitor asked for: what authority is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Claimed {
    /// A registered name.
    Label(Label),
    /// The host every account has.
    Account(Address),
    /// A custom domain that a name claims.
    Domain(HostName),
}

/// What a visitor asked for, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The client that may serve it.
    pub client: Address,
    /// Under which name.
    pub name: Claimed,
    /// Which of its services; `None` is the first.
    pub service: Option<ServiceName>,
}

/// Reads `host` as something that a client may serve through `relay` now. `None`: nobody may.
pub fn wanted(directory: &Directory, relay: &Address, host: &HostName, now: UnixSeconds) -> Option<Wanted> {
    let (name, service) = match directory.zone.zone.classify(host) {
        Host::Name(label, service) => (Claimed::Label(label), service),
        Host::Account(address, service) => (Claimed::Account(address), service),
        Host::Foreign => (Claimed::Domain(host.clone()), None),
        Host::Apex | Host::Relay(_) | Host::Unregistrable => return None,
    };
    let client = name.holder(directory, relay, now)?;
    Some(Wanted { client, name, service })
}

impl Claimed {
    /// The client that may serve this name through `relay` now.
    pub fn holder(&self, directory: &Directory, relay: &Address, now: UnixSeconds) -> Option<Address> {
        match self {
            Self::Label(label) => {
                let record = directory.names.get(label)?;
                record.live_target(now).filter(|_| record.allows(relay))
            }
            // Anybody may claim any domain on chain; nothing here reads its DNS. So one that two keys claim is nobody's.
            Self::Domain(domain) => {
                let claims = directory.names.values().filter(|record| record.domains.contains(domain));
                let mut targets =
                    claims.filter_map(|record| record.live_target(now).filter(|_| record.allows(relay)));
                let first = targets.next()?;
                targets.all(|target| target == first).then_some(first)
            }
            Self::Account(address) => match directory.zone.account_hosts {
                AccountHosts::Off => None,
                AccountHosts::All => Some(*address),
                AccountHosts::Owners => {
                    let owner = address.to_string();
                    let vouches = |record: &&Arc<NameRecord>| {
                        let live = record.live_target(now);
                        live == Some(*address) || (live.is_some() && record.owner == owner)
                    };
                    directory.names.values().find(vouches).map(|_| *address)
                }
            },
        }
    }

    /// Whether a client with these claims consents to serve the name.
    pub fn is_listed(&self, claims: &Claims) -> bool {
        match self {
            Self::Account(address) => claims.iss == *address,
            Self::Label(label) => {
                claims.names.iter().any(|name| matches!(name, PublicName::Label(listed) if listed == label))
            }
            Self::Domain(domain) => {
                claims.names.iter().any(|name| matches!(name, PublicName::Domain(listed) if listed == domain))
            }
        }
    }
}

impl Wanted {
    /// The service that a client with these claims would answer with through `relay`.
    pub fn service<'c>(&self, claims: &'c Claims, relay: &Address) -> Option<&'c Service> {
        claims.relays.contains(relay).then(|| self.service_anywhere(claims)).flatten()
    }

    /// The same, through whatever relay.
    pub fn service_anywhere<'c>(&self, claims: &'c Claims) -> Option<&'c Service> {
        let consents = claims.iss == self.client && self.name.is_listed(claims);
        consents.then(|| claims.service(self.service.as_ref())).flatten()
    }
}

impl fmt::Display for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(label) => label.fmt(f),
            Self::Account(address) => address.fmt(f),
            Self::Domain(domain) => domain.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{directory, key, named};

    const NOW: UnixSeconds = UnixSeconds(1_000_000);

    fn client_of(directory: &Directory, host: &str) -> Option<Address> {
        wanted(directory, &key(9).address(), &host.parse().unwrap(), NOW).map(|wanted| wanted.client)
    }

    #[test]
    fn only_the_target_of_a_live_name_may_serve_it() {
        let mut directory = directory(&[named("mynode", &key(1))]);
        let client = key(1).address();
        assert_eq!(client_of(&directory, "mynode.tun.test"), Some(client));
        assert_eq!(client_of(&directory, "MyNode.tun.test."), Some(client));
        assert_eq!(client_of(&directory, "web.mynode.tun.test"), Some(client));
        for host in ["other.tun.test", "tun.test", "www.tun.test", "a.b.mynode.tun.test", "mynode.example"] {
            assert_eq!(client_of(&directory, host), None, "{host}");
        }
        let change = |directory: &mut Directory, f: fn(&mut NameRecord)| {
            let mut record = (*directory.names[&"mynode".parse().unwrap()]).clone();
            f(&mut record);
            directory.names.insert(record.label.clone(), record.into());
        };
        let fresh = directory.clone();
        let changes: [fn(&mut NameRecord); 4] = [
            |record| record.suspended = true,
            |record| record.target = None,
            |record| record.expires_at = NOW,
            |record| record.relays = vec![key(5).address()],
        ];
        for f in changes {
            directory = fresh.clone();
            change(&mut directory, f);
            assert_eq!(client_of(&directory, "mynode.tun.test"), None);
        }
    }

    #[test]
    fn a_custom_domain_is_the_one_keys_that_claims_it() {
        let claim = |label: &str, seed: u8| NameRecord {
            domains: vec!["www.shop.example".parse().unwrap()],
            ..named(label, &key(seed))
        };
        let client = key(1).address();
        let one = directory(&[claim("mynode", 1), named("other", &key(2))]);
        assert_eq!(client_of(&one, "www.shop.example"), Some(client));
        assert_eq!(client_of(&one, "shop.example"), None);
        assert_eq!(client_of(&one, "web.www.shop.example"), None);
        let same = directory(&[claim("mynode", 1), claim("second", 1)]);
        assert_eq!(client_of(&same, "www.shop.example"), Some(client));
        let contested = directory(&[claim("mynode", 1), claim("other", 2)]);
        assert_eq!(client_of(&contested, "www.shop.example"), None);
        let expired = NameRecord { expires_at: NOW, ..claim("other", 2) };
        let decided = directory(&[claim("mynode", 1), expired]);
        assert_eq!(client_of(&decided, "www.shop.example"), Some(client));
    }

    #[test]
    fn account_hosts_follow_the_zones_policy() {
        let mut directory = directory(&[named("mynode", &key(1))]);
        let [owner, stranger] = [key(1), key(2)].map(|key| key.address());
        let host = |address: Address| format!("{}.tun.test", address.label());
        for (policy, expected) in [
            (AccountHosts::Off, [None, None]),
            (AccountHosts::Owners, [Some(owner), None]),
            (AccountHosts::All, [Some(owner), Some(stranger)]),
        ] {
            directory.zone.account_hosts = policy;
            let found = [owner, stranger].map(|address| client_of(&directory, &host(address)));
            assert_eq!(found, expected, "{policy:?}");
        }
    }
}
