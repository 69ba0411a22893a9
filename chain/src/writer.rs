//! Transactions: each verb of the contracts as a [`Draft`] that can be priced and sent. Building is in `assemble`, what
//! other keys sign in `auth`, and getting a transaction into a ledger exactly once in `submit`.

mod assemble;
mod auth;
mod draft;
mod submit;
mod verdict;

use std::net::{Ipv4Addr, Ipv6Addr};

use sha2::{Digest, Sha256};
use stellar_xdr::{
    HostFunction, InvokeContractArgs, OperationBody, ScVal, SetOptionsOp, String32, StringM, VecM,
};
use tunnler_protocol::directory::{AcmeIdentity, RelayStatus};
use tunnler_protocol::name::{HOME_DOMAIN_MAX, HostName, Label};
use tunnler_protocol::network::Network;
use tunnler_protocol::{Address, SecretKey};

use self::assemble::NextSlots;
pub(crate) use self::assemble::invoke;
pub use self::draft::{Cost, Draft, Receipt};
use crate::contract::{Contract, Contracts, registry};
use crate::endpoints::Endpoints;
use crate::error::{ChainError, WriteError};
use crate::value::{address_value, bytes, optional, sc_contract, string, symbol, to_xdr, variant, vector};

/// Domain tag of a commitment to a registration.
const COMMIT_TAG: &[u8] = b"tunnler/v1/commit\0";

/// Signs and sends transactions of one account.
#[derive(Clone)]
pub struct Writer {
    network: Network,
    network_id: [u8; 32],
    endpoints: Endpoints,
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

impl Writer {
    /// Writes to `network` as the account of `key`.
    pub fn new(network: Network, key: SecretKey) -> Result<Self, ChainError> {
        let network_id = Sha256::digest(network.passphrase.as_bytes()).into();
        Ok(Self { endpoints: Endpoints::of(&network)?, network_id, network, key })
    }

    /// The account that signs and pays.
    pub fn address(&self) -> Address {
        self.key.address()
    }

    pub(crate) fn network_id(&self) -> [u8; 32] {
        self.network_id
    }

    pub(crate) fn draft(&self, body: OperationBody) -> Draft<'_> {
        Draft::new(self, Ok(body))
    }

    /// A call of one of the two contracts.
    fn call(&self, contract: Contract, function: &str, args: impl IntoIterator<Item = ScVal>) -> Draft<'_> {
        let args: Vec<ScVal> = args.into_iter().collect();
        let body = Contracts::of(&self.network).map(|contracts| {
            invoke(HostFunction::InvokeContract(InvokeContractArgs {
                contract_address: sc_contract(contracts.id(contract)),
                function_name: symbol(function),
                args: VecM::try_from(args).expect("fewer than 2^32 arguments"),
            }))
        });
        Draft::new(self, body.map_err(WriteError::from))
    }
}

/// Relays.
impl Writer {
    /// Registers `relay` under this account as operator, which pays the stake. Both keys sign; they may be the same.
    pub fn register_relay(&self, relay: &SecretKey, record: &RelayRegistration, stake: i128) -> Draft<'_> {
        let args = [
            address_value(&self.address()),
            address_value(&relay.address()),
            registry::record_value(record),
            ScVal::from(stake),
        ];
        self.call(Contract::Registry, "register", args).signed_by(relay).padded(NextSlots::OfRegistry)
    }

    /// Publishes another record for this account's relay.
    pub fn update_relay(&self, record: &RelayRegistration) -> Draft<'_> {
        let args = [address_value(&self.address()), registry::record_value(record)];
        self.call(Contract::Registry, "update", args)
    }

    /// Gives `relay`, of which this account is the operator, another key, which signs too.
    pub fn rotate_relay(&self, relay: &Address, new_relay: &SecretKey) -> Draft<'_> {
        let args = [address_value(relay), address_value(&new_relay.address())];
        self.call(Contract::Registry, "rotate", args).signed_by(new_relay)
    }

    /// Tells that this account's relay lives and how many sessions it holds.
    pub fn heartbeat(&self, load: u32) -> Draft<'_> {
        self.call(Contract::Registry, "heartbeat", [address_value(&self.address()), ScVal::U32(load)])
    }

    /// Tells whether this account's relay takes clients: `Active` or `Draining`; the other two are not its to say.
    pub fn set_status(&self, status: RelayStatus) -> Draft<'_> {
        let name = match status {
            RelayStatus::Active => "Active",
            RelayStatus::Draining => "Draining",
            RelayStatus::Unbonding | RelayStatus::Delisted => {
                let problem = "a relay says that it is active or draining; deregister it to leave";
                return Draft::new(self, Err(WriteError::Argument(problem.into())));
            }
        };
        self.call(Contract::Registry, "set_status", [address_value(&self.address()), variant(name, [])])
    }

    /// Starts to unbond `relay`, of which this account is the operator.
    pub fn deregister(&self, relay: &Address) -> Draft<'_> {
        self.call(Contract::Registry, "deregister", [address_value(relay)])
    }

    /// Takes the stake of an unbonded `relay` back, to its operator: this account.
    pub fn withdraw(&self, relay: &Address) -> Draft<'_> {
        self.call(Contract::Registry, "withdraw", [address_value(relay)])
    }
}

/// Names.
impl Writer {
    /// Commits to registering `label` with `target` and `salt` (only where the zone asks for it), 12 to 17,280 ledgers
    /// before the registration.
    pub fn commit_name(&self, label: &Label, target: &Address, salt: &[u8; 32]) -> Draft<'_> {
        let owner = address_value(&self.address());
        let contracts = match Contracts::of(&self.network) {
            Ok(contracts) => contracts,
            Err(error) => return Draft::new(self, Err(error.into())),
        };
        let mut hash = Sha256::new_with_prefix(COMMIT_TAG);
        let contract = ScVal::Address(sc_contract(contracts.namespace));
        for value in [contract, string(label.as_str()), owner.clone(), address_value(target)] {
            hash.update(to_xdr(&value));
        }
        hash.update(salt);
        self.call(Contract::Namespace, "commit", [owner, bytes(&hash.finalize())])
    }

    /// Registers `label` for `years`, owned by this account and pointing to `target`.
    pub fn register_name(
        &self,
        label: &Label,
        target: &Address,
        years: u32,
        salt: Option<[u8; 32]>,
    ) -> Draft<'_> {
        let args = [
            address_value(&self.address()),
            string(label.as_str()),
            address_value(target),
            ScVal::U32(years),
            optional(salt.map(|salt| bytes(&salt))),
        ];
        self.call(Contract::Namespace, "register", args).padded(NextSlots::OfNamespace)
    }

    /// Pays for `years` more; anybody may, also in grace.
    pub fn renew_name(&self, label: &Label, years: u32) -> Draft<'_> {
        let args = [address_value(&self.address()), string(label.as_str()), ScVal::U32(years)];
        self.call(Contract::Namespace, "renew", args)
    }

    /// Points `label` at another client key, or at none.
    pub fn set_target(&self, label: &Label, target: Option<&Address>) -> Draft<'_> {
        let args = [string(label.as_str()), optional(target.map(address_value))];
        self.call(Contract::Namespace, "set_target", args)
    }

    /// Gives `label` to the account of `new_owner`, which signs too.
    pub fn transfer(&self, label: &Label, new_owner: &SecretKey) -> Draft<'_> {
        let args = [string(label.as_str()), address_value(&new_owner.address())];
        self.call(Contract::Namespace, "transfer", args).signed_by(new_owner)
    }

    /// Gives `label` up; nothing is refunded.
    pub fn release(&self, label: &Label) -> Draft<'_> {
        self.call(Contract::Namespace, "release", [string(label.as_str())])
    }

    /// Lets only `relays` carry `label`; empty lets all.
    pub fn set_relays(&self, label: &Label, relays: &[Address]) -> Draft<'_> {
        let args = [string(label.as_str()), vector(relays.iter().map(address_value))];
        self.call(Contract::Namespace, "set_relays", args)
    }

    /// Makes `label` the first name of this account, which must be its target.
    pub fn set_primary(&self, label: &Label) -> Draft<'_> {
        let args = [address_value(&self.address()), string(label.as_str())];
        self.call(Contract::Namespace, "set_primary", args)
    }

    /// Claims a custom domain for `label`.
    pub fn map_domain(&self, label: &Label, domain: &HostName) -> Draft<'_> {
        let args = [string(label.as_str()), string(domain.as_str())];
        self.call(Contract::Namespace, "map_domain", args)
    }

    /// Takes the claim of a custom domain back.
    pub fn unmap_domain(&self, label: &Label, domain: &HostName) -> Draft<'_> {
        let args = [string(label.as_str()), string(domain.as_str())];
        self.call(Contract::Namespace, "unmap_domain", args)
    }
}

/// The account itself.
impl Writer {
    /// Sets the `home_domain` of this account (classic `SetOptions`), or clears it. At most [`HOME_DOMAIN_MAX`] bytes.
    pub fn set_home_domain(&self, domain: Option<&HostName>) -> Draft<'_> {
        let text = domain.map_or("", HostName::as_str);
        let home_domain = match StringM::try_from(text) {
            Ok(text) => String32(text),
            Err(_) => {
                let problem = format!(
                    "{text} has {} bytes; a home_domain has at most {HOME_DOMAIN_MAX}, so use a shorter name",
                    text.len()
                );
                return Draft::new(self, Err(WriteError::Argument(problem)));
            }
        };
        self.draft(OperationBody::SetOptions(SetOptionsOp {
            inflation_dest: None,
            clear_flags: None,
            set_flags: None,
            master_weight: None,
            low_threshold: None,
            med_threshold: None,
            high_threshold: None,
            home_domain: Some(home_domain),
            signer: None,
        }))
    }
}
