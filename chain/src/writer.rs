//! Transactions: each verb of the contracts as a [`Draft`] that can be priced and sent.

use std::net::{Ipv4Addr, Ipv6Addr};

use tunnler_protocol::directory::{AcmeIdentity, RelayStatus};
use tunnler_protocol::name::{HostName, Label};
use tunnler_protocol::network::Network;
use tunnler_protocol::{Address, SecretKey};

use crate::error::{ChainError, WriteError};

/// Signs and sends transactions of one account.
#[derive(Clone)]
pub struct Writer {
    key: SecretKey,
}

/// What a relay publishes about itself. The ledger's rules are in `contracts/tunnel-registry/src/record.rs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayRegistration {
    /// Its own domain; `None`: `ADDRESS.relay.ZONE`.
    pub host: Option<HostName>,
    /// Port for sessions and the feed.
    pub control_port: u16,
    /// Port for visitors.
    pub ingress_port: u16,
    /// IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Region code, 1–16 of `a-z 0-9 -`.
    pub region: String,
    /// Most sessions, 1–1,000,000.
    pub capacity: u32,
    /// The ACME account for its own host.
    pub acme: Option<AcmeIdentity>,
    /// `https://` page with the operator's terms.
    pub terms: Option<String>,
}

/// A transaction that is not sent yet.
#[must_use = "a draft does nothing until it is sent"]
pub struct Draft<'w> {
    writer: &'w Writer,
}

/// What a draft would cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The most the transaction can cost, in stroops: inclusion and resources; what is not used comes back.
    pub fee: u64,
    /// The resource part of it, rent included, in stroops.
    pub resource_fee: u64,
    /// Whether an archived entry must be restored first, for which `fee` already pays.
    pub restores: bool,
}

/// What a sent transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Transaction hash in hexadecimal.
    pub hash: String,
    /// The ledger that includes it.
    pub ledger: u32,
    /// What it cost, in stroops.
    pub fee_charged: i64,
}

impl Writer {
    /// Writes to `network` as the account of `key`.
    pub fn new(network: Network, key: SecretKey) -> Result<Self, ChainError> {
        let _ = network;
        Ok(Self { key })
    }

    /// The account that signs and pays.
    pub fn address(&self) -> Address {
        self.key.address()
    }

    /// Registers `relay` under this account as operator, which pays the stake. Both keys sign; they may be the same.
    pub fn register_relay(&self, relay: &SecretKey, record: &RelayRegistration, stake: i128) -> Draft<'_> {
        let _ = (relay, record, stake);
        Draft { writer: self }
    }

    /// Publishes another record for this account's relay.
    pub fn update_relay(&self, record: &RelayRegistration) -> Draft<'_> {
        let _ = record;
        Draft { writer: self }
    }

    /// Tells that this account's relay lives and how many sessions it holds.
    pub fn heartbeat(&self, load: u32) -> Draft<'_> {
        let _ = load;
        Draft { writer: self }
    }

    /// Tells whether this account's relay takes clients: `Active` or `Draining`; the other two are not its to say.
    pub fn set_status(&self, status: RelayStatus) -> Draft<'_> {
        let _ = status;
        Draft { writer: self }
    }

    /// Starts to unbond `relay`, of which this account is the operator.
    pub fn deregister(&self, relay: &Address) -> Draft<'_> {
        let _ = relay;
        Draft { writer: self }
    }

    /// Takes the stake of an unbonded `relay` back, to its operator: this account.
    pub fn withdraw(&self, relay: &Address) -> Draft<'_> {
        let _ = relay;
        Draft { writer: self }
    }

    /// Commits to registering `label` with `target` and `salt` (only where the zone asks for it), 12 to 17,280 ledgers
    /// before the registration.
    pub fn commit_name(&self, label: &Label, target: &Address, salt: &[u8; 32]) -> Draft<'_> {
        let _ = (label, target, salt);
        Draft { writer: self }
    }

    /// Registers `label` for `years`, owned by this account and pointing to `target`.
    pub fn register_name(
        &self,
        label: &Label,
        target: &Address,
        years: u32,
        salt: Option<[u8; 32]>,
    ) -> Draft<'_> {
        let _ = (label, target, years, salt);
        Draft { writer: self }
    }

    /// Pays for `years` more; anybody may, also in grace.
    pub fn renew_name(&self, label: &Label, years: u32) -> Draft<'_> {
        let _ = (label, years);
        Draft { writer: self }
    }

    /// Points `label` at another client key, or at none.
    pub fn set_target(&self, label: &Label, target: Option<&Address>) -> Draft<'_> {
        let _ = (label, target);
        Draft { writer: self }
    }

    /// Gives `label` to the account of `new_owner`, which signs too.
    pub fn transfer(&self, label: &Label, new_owner: &SecretKey) -> Draft<'_> {
        let _ = (label, new_owner);
        Draft { writer: self }
    }

    /// Gives `label` up; nothing is refunded.
    pub fn release(&self, label: &Label) -> Draft<'_> {
        let _ = label;
        Draft { writer: self }
    }

    /// Lets only `relays` carry `label`; empty lets all.
    pub fn set_relays(&self, label: &Label, relays: &[Address]) -> Draft<'_> {
        let _ = (label, relays);
        Draft { writer: self }
    }

    /// Makes `label` the first name of this account, which must be its target.
    pub fn set_primary(&self, label: &Label) -> Draft<'_> {
        let _ = label;
        Draft { writer: self }
    }

    /// Claims a custom domain for `label`.
    pub fn map_domain(&self, label: &Label, domain: &HostName) -> Draft<'_> {
        let _ = (label, domain);
        Draft { writer: self }
    }

    /// Takes the claim of a custom domain back.
    pub fn unmap_domain(&self, label: &Label, domain: &HostName) -> Draft<'_> {
        let _ = (label, domain);
        Draft { writer: self }
    }

    /// Sets the `home_domain` of this account (classic `SetOptions`), or clears it. At most
    /// [`HOME_DOMAIN_MAX`](tunnler_protocol::name::HOME_DOMAIN_MAX) bytes.
    pub fn set_home_domain(&self, domain: Option<&HostName>) -> Draft<'_> {
        let _ = domain;
        Draft { writer: self }
    }
}

impl Draft<'_> {
    /// What it would cost now, by simulation; nothing is sent.
    pub async fn quote(&self) -> Result<Cost, WriteError> {
        let _ = &self.writer.key;
        Err(ChainError::Stopped.into())
    }

    /// Simulates, signs, sends and waits until the ledger includes it.
    pub async fn send(&self) -> Result<Receipt, WriteError> {
        Err(ChainError::Stopped.into())
    }
}
