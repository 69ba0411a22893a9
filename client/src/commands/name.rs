//! `tunnler name`: names on chain. Each command that touches one shows how much of a `home_domain` it takes.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;
use tunnler_chain::writer::Draft;
use tunnler_chain::{ContractError, POLL, WriteError, Writer, key, read};
use tunnler_protocol::directory::{Directory, NameRecord};
use tunnler_protocol::name::Zone;
use tunnler_protocol::network::Network;
use tunnler_protocol::{Address, Label};

use super::{budget, print, zone_budget};
use crate::cli::{Shared, label};
use crate::error::ClientError;

/// The Namespace contract's codes around commitments (contracts/tunnel-namespace/src/error.rs).
const COMMITMENT_REQUIRED: u32 = 223;
const COMMITMENT_TOO_YOUNG: u32 = 221;
const COMMITMENT_PATIENCE: Duration = Duration::from_secs(300);
/// Stroops in one XLM.
const XLM: u64 = 10_000_000;

#[derive(Debug, Subcommand)]
pub(crate) enum NameCommand {
    /// Register a name and point it at a client key
    Register {
        /// The name, without the zone
        name: String,
        /// Years to pay for
        #[arg(long, default_value_t = 1)]
        years: u32,
        /// The client key it points to [default: the key in use]
        #[arg(long, value_name = "ADDRESS")]
        target: Option<Address>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Show the client key a name points to
    Resolve {
        /// The name, without the zone
        name: String,
    },
    /// List the names this key owns or serves
    List {
        /// List everybody's
        #[arg(long)]
        all: bool,
    },
    /// Pay for more years; anybody may
    Renew {
        /// The name, without the zone
        name: String,
        /// Years to pay for
        #[arg(long, default_value_t = 1)]
        years: u32,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Give a name to another account, which signs too
    Transfer {
        /// The name, without the zone
        name: String,
        /// Key file of the receiver
        #[arg(long, value_name = "FILE")]
        to_key: PathBuf,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Point a name at another client key, or, without one, at none
    SetTarget {
        /// The name, without the zone
        name: String,
        /// The client key
        #[arg(value_name = "ADDRESS")]
        target: Option<Address>,
    },
    /// Give a name up; nothing is refunded
    Release {
        /// The name, without the zone
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) async fn run(shared: &Shared, command: NameCommand) -> Result<(), ClientError> {
    match command {
        NameCommand::Resolve { name } => resolve(shared, &label(&name)?).await,
        NameCommand::List { all } => list(shared, all).await,
        NameCommand::Register { name, years, target, yes } => {
            let change = Change::new(shared, &name, Consent::from_flag(yes)).await?;
            let mine = change.writer.address();
            if let Some(taken) = change.record.as_ref().filter(|record| !change.is_free(record)) {
                let owner = if taken.owner == mine.to_string() { "you".into() } else { taken.owner.clone() };
                return Err(ClientError::Taken { label: change.label, owner });
            }
            change.register(shared, &target.unwrap_or(mine), years).await
        }
        NameCommand::Renew { name, years, yes } => {
            let change = Change::of_registered(shared, &name, Consent::from_flag(yes)).await?;
            change.send(shared, &change.writer.renew_name(&change.label, years), "renew").await
        }
        NameCommand::Transfer { name, to_key, yes } => {
            let change = Change::of_registered(shared, &name, Consent::from_flag(yes)).await?;
            let receiver = key::load(Some(&to_key))?;
            change.send(shared, &change.writer.transfer(&change.label, &receiver), "transfer").await
        }
        NameCommand::SetTarget { name, target } => {
            let change = Change::of_registered(shared, &name, Consent::Given).await?;
            let draft = change.writer.set_target(&change.label, target.as_ref());
            change.send(shared, &draft, "set the target of").await
        }
        NameCommand::Release { name, yes } => {
            let change = Change::of_registered(shared, &name, Consent::from_flag(yes)).await?;
            change.send(shared, &change.writer.release(&change.label), "give up").await
        }
    }
}

/// Whether the user still has to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consent {
    Given,
    Ask,
}

impl Consent {
    fn from_flag(yes: bool) -> Self {
        if yes { Self::Given } else { Self::Ask }
    }
}

/// A transaction about one name.
struct Change {
    writer: Writer,
    label: Label,
    directory: Arc<Directory>,
    record: Option<Arc<NameRecord>>,
    consent: Consent,
}

impl Change {
    async fn new(shared: &Shared, name: &str, consent: Consent) -> Result<Self, ClientError> {
        let label = label(name)?;
        let (network, key) = (shared.network()?, shared.secret()?);
        let directory = read::read_relays(&network).await?;
        let record = read::read_name(&network, &label).await?;
        let writer = Writer::new(network, key)?;
        Ok(Self { writer, label, directory, record, consent })
    }

    async fn of_registered(shared: &Shared, name: &str, consent: Consent) -> Result<Self, ClientError> {
        let change = Self::new(shared, name, consent).await?;
        if change.record.is_none() {
            return Err(ClientError::Unregistered { label: change.label });
        }
        Ok(change)
    }

    /// Whether anybody may register the name: its grace is over.
    fn is_free(&self, record: &NameRecord) -> bool {
        self.directory.ledger.closed_at >= record.expires_at.plus(self.directory.zone.grace)
    }

    /// Registers, after a commitment where the zone asks for one.
    async fn register(&self, shared: &Shared, target: &Address, years: u32) -> Result<(), ClientError> {
        let plain = self.writer.register_name(&self.label, target, years, None);
        match plain.quote().await {
            Err(WriteError::Contract(ContractError { code: COMMITMENT_REQUIRED })) => {}
            _ => return self.send(shared, &plain, "register").await,
        }
        let salt: [u8; 32] = rand::random();
        let committed = self.writer.commit_name(&self.label, target, &salt).send().await?;
        eprintln!(
            "committed in ledger {}; this zone wants a minute before the registration",
            committed.ledger
        );
        let revealed = self.writer.register_name(&self.label, target, years, Some(salt));
        let deadline = tokio::time::Instant::now() + COMMITMENT_PATIENCE;
        while let Err(WriteError::Contract(ContractError { code: COMMITMENT_TOO_YOUNG })) =
            revealed.quote().await
        {
            if tokio::time::Instant::now() > deadline {
                return Err(ClientError::Failed("the ledger does not advance; register again later".into()));
            }
            tokio::time::sleep(POLL).await;
        }
        self.send(shared, &revealed, "register").await
    }

    async fn send(&self, shared: &Shared, draft: &Draft<'_>, verb: &str) -> Result<(), ClientError> {
        let cost = draft.quote().await?;
        let host = self.directory.zone.zone.host(&self.label);
        if self.consent == Consent::Ask {
            let fee = xlm(cost.fee);
            ask(&format!("{verb} {host}; network fee at most {fee} XLM, the zone's price comes on top"))?;
        }
        let receipt = draft.send().await?;
        eprintln!("{}", budget(&host));
        let machine = json!({
            "name": self.label, "host": host, "transaction": receipt.hash, "ledger": receipt.ledger,
            "fee": receipt.fee_charged,
        });
        let fee = xlm(u64::try_from(receipt.fee_charged).unwrap_or(0));
        print(shared.json, &machine, || format!("{host}: done in ledger {}, fee {fee} XLM", receipt.ledger));
        Ok(())
    }
}

fn ask(question: &str) -> Result<(), ClientError> {
    if !std::io::stdin().is_terminal() {
        return Err(ClientError::Usage("pass --yes to agree to the cost".into()));
    }
    eprint!("{question}. Go on? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(ClientError::Failed("not agreed; nothing was sent".into()))
    }
}

async fn resolve(shared: &Shared, label: &Label) -> Result<(), ClientError> {
    let network = shared.network()?;
    let record = read::read_name(&network, label).await?;
    let record = record.ok_or_else(|| ClientError::Unregistered { label: label.clone() })?;
    let directory = read::read_relays(&network).await?;
    if directory.ledger.closed_at >= record.expires_at {
        return Err(ClientError::Expired { label: label.clone() });
    }
    if record.suspended {
        return Err(ClientError::Suspended { label: label.clone() });
    }
    let host = directory.zone.zone.host(label);
    let machine = json!({
        "name": label, "host": host, "target": record.target, "owner": record.owner,
        "expires_at": record.expires_at, "relays": record.relays,
    });
    eprintln!("{}", budget(&host));
    print(shared.json, &machine, || {
        record.target.map_or_else(|| "(none)".into(), |target| target.to_string())
    });
    Ok(())
}

async fn list(shared: &Shared, all: bool) -> Result<(), ClientError> {
    let network = shared.network()?;
    let mine = if all { None } else { Some(shared.secret()?.address()) };
    let directory = read::read_directory(&network).await?;
    let is_mine = |record: &NameRecord| {
        mine.is_none_or(|mine| record.target == Some(mine) || record.owner == mine.to_string())
    };
    let mut records: Vec<_> = directory.names.values().filter(|record| is_mine(record)).collect();
    records.sort_by(|a, b| a.label.cmp(&b.label));
    let zone = &directory.zone.zone;
    eprintln!("{}", zone_budget(zone));
    print(shared.json, &records, || table(&records, zone, &directory, &network));
    Ok(())
}

fn table(records: &[&Arc<NameRecord>], zone: &Zone, directory: &Directory, network: &Network) -> String {
    if records.is_empty() {
        return format!("no names on {}", network.name);
    }
    let line = |record: &&Arc<NameRecord>| {
        let target = record.target.map_or_else(|| "(none)".into(), |target| target.to_string());
        let left = record.expires_at.since(directory.ledger.closed_at).as_secs() / 86_400;
        let note = if record.suspended { ", suspended" } else { "" };
        format!("{}  {target}  {left} days left{note}", zone.host(&record.label))
    };
    records.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn xlm(stroops: u64) -> String {
    format!("{}.{:07}", stroops / XLM, stroops % XLM)
}
