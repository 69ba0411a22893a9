//! Names of the zone: labels, services, zones and the hosts made of them (DESIGN §4, RFC 1035 section 2.3.1).
//!
//! The label rules are the ones the Namespace contract enforces; `tests/data/labels.tsv` is checked against both.
//! Everything parsed here is lower case afterwards. Never resolves anything.

use std::fmt;
use std::str::FromStr;

use crate::address::{Address, STRKEY_LEN};

/// Most bytes a Stellar account's `home_domain` can hold (`String32` of the ledger's XDR).
pub const HOME_DOMAIN_MAX: usize = 32;

/// The label under which relay hosts live: `ADDRESS.relay.ZONE`.
pub const RELAY_LABEL: &str = "relay";

const RESERVED: [&str; 9] = ["www", "api", "mail", "relay", "admin", "wpad", "autoconfig", "psl", "acme"];

/// Why a text is not a label, service, domain or zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Shorter than 3 characters.
    #[error("too short: a name has at least 3 characters")]
    TooShort,
    /// Longer than 63 characters (a label) or 253 (a domain).
    #[error("too long: a label has at most 63 characters, a domain at most 253")]
    TooLong,
    /// A character other than `a`–`z`, `0`–`9`, `-`.
    #[error("only a–z, 0–9 and - are allowed")]
    Character,
    /// A leading, trailing or doubled hyphen.
    #[error("no leading, trailing or doubled hyphen")]
    Hyphen,
    /// 56 characters that would read as an account address.
    #[error("has the shape of an account address, which belongs to that account")]
    AddressShape,
    /// A label the zone keeps for itself.
    #[error("reserved by the zone")]
    Reserved,
    /// A domain needs at least two labels.
    #[error("not a domain name")]
    NotADomain,
}

/// A registrable label of the zone: LDH, lower case, 3–63 characters, no leading, trailing or doubled hyphen, not
/// reserved and not shaped like an account address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(Box<str>);

/// The name of one service of a client: a DNS label of 1–63 characters, lower case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Box<str>);

/// A host name of two or more labels in lower case, without a trailing dot; underscores are refused.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Box<str>);

/// The zone all names of one network live in.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Zone(HostName);

/// A name a client consents to serve: a label of the zone or a custom domain.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PublicName {
    /// A label registered in the Namespace contract.
    Label(Label),
    /// A domain of the client's own that points at the zone.
    Domain(HostName),
}

/// What a host name means in a zone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// The zone itself.
    Apex,
    /// `NAME.ZONE` or `SERVICE.NAME.ZONE`.
    Name(Label, Option<ServiceName>),
    /// `ADDRESS.ZONE` or `SERVICE.ADDRESS.ZONE`.
    Account(Address, Option<ServiceName>),
    /// `ADDRESS.relay.ZONE`.
    Relay(Address),
    /// Inside the zone, but nothing that can be registered (reserved, malformed, too deep).
    Unregistrable,
    /// Not in the zone: possibly a custom domain.
    Foreign,
}

pub(crate) fn check_ldh(text: &str) -> Result<(), NameError> {
    if text.len() > 63 {
        return Err(NameError::TooLong);
    }
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err(NameError::Character);
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(NameError::Hyphen);
    }
    Ok(())
}

/// 56 characters of base32 that begin with `g`, whatever their checksum: cheap enough for a contract to check.
fn has_address_shape(text: &str) -> bool {
    text.len() == STRKEY_LEN
        && text.starts_with('g')
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'))
}

/// `ns`, `ns1`, `ns42`: `ns` followed by nothing or by digits.
fn is_name_server_label(text: &str) -> bool {
    text.strip_prefix("ns").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
}

impl FromStr for Label {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_ldh(text)?;
        if text.contains("--") {
            return Err(NameError::Hyphen);
        }
        if text.len() < 3 && !is_name_server_label(text) {
            return Err(NameError::TooShort);
        }
        if RESERVED.contains(&text) || is_name_server_label(text) {
            return Err(NameError::Reserved);
        }
        if has_address_shape(text) {
            return Err(NameError::AddressShape);
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::TooShort);
        }
        check_ldh(text)?;
        Ok(Self(text.into()))
    }
}

impl FromStr for HostName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if text.len() > 253 {
            return Err(NameError::TooLong);
        }
        let mut labels = 0;
        for label in text.split('.') {
            if label.is_empty() {
                return Err(NameError::NotADomain);
            }
            check_ldh(label)?;
            labels += 1;
        }
        // A name whose last label is numeric would be read as an IPv4 address (WHATWG URL, section 3.5).
        let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if labels < 2 || numeric {
            return Err(NameError::NotADomain);
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for Zone {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.parse().map(Self)
    }
}

impl FromStr for PublicName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains('.') { text.parse().map(Self::Domain) } else { text.parse().map(Self::Label) }
    }
}

impl Zone {
    /// The host that is the zone itself.
    pub fn apex(&self) -> &HostName {
        &self.0
    }

    /// The host of one of the zone's names.
    pub fn host(&self, label: &Label) -> HostName {
        self.join(label.as_str())
    }

    /// The host that every account has without registering anything.
    pub fn account_host(&self, address: &Address) -> HostName {
        self.join(&address.label())
    }

    /// The host of a relay that registered no domain of its own.
    pub fn relay_host(&self, relay: &Address) -> HostName {
        HostName(format!("{}.{RELAY_LABEL}.{self}", relay.label()).into())
    }

    /// The host that `name` is served at.
    pub fn public_host(&self, name: &PublicName) -> HostName {
        match name {
            PublicName::Label(label) => self.host(label),
            PublicName::Domain(domain) => domain.clone(),
        }
    }

    /// Reads a host name as one of the zone's.
    pub fn classify(&self, host: &HostName) -> Host {
        if host == &self.0 {
            return Host::Apex;
        }
        let Some(inner) = host.as_str().strip_suffix(self.as_str()).and_then(|rest| rest.strip_suffix('.'))
        else {
            return Host::Foreign;
        };
        let (service, name) = match inner.split_once('.') {
            None => (None, inner),
            Some((address, RELAY_LABEL)) => {
                return Address::from_label(address).map_or(Host::Unregistrable, Host::Relay);
            }
            Some((service, name)) => match service.parse() {
                Ok(service) => (Some(service), name),
                Err(_) => return Host::Unregistrable,
            },
        };
        if let Ok(address) = Address::from_label(name) {
            return Host::Account(address, service);
        }
        name.parse().map_or(Host::Unregistrable, |label| Host::Name(label, service))
    }

    /// How many bytes of a `home_domain` remain for a label of this zone; `None` when not even one.
    pub fn label_budget(&self) -> Option<usize> {
        HOME_DOMAIN_MAX.checked_sub(self.as_str().len() + 1).filter(|budget| *budget > 0)
    }

    fn join(&self, label: &str) -> HostName {
        HostName(format!("{label}.{self}").into())
    }
}

macro_rules! text {
    ($type:ty, $self:ident => $text:expr) => {
        impl $type {
            /// The text, in lower case.
            pub fn as_str(&self) -> &str {
                let $self = self;
                $text
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
text!(Label, this => &this.0);
text!(ServiceName, this => &this.0);
text!(HostName, this => &this.0);
text!(Zone, this => this.0.as_str());
text!(PublicName, this => match this { PublicName::Label(l) => l.as_str(), PublicName::Domain(d) => d.as_str() });

impl From<&Zone> for HostName {
    fn from(zone: &Zone) -> Self {
        zone.0.clone()
    }
}
