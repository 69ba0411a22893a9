//! Gets and renews the certificates of hosts whose TLS ends here: DNS-01 through the client's presence, by the relay's
//! own ACME account, as many orders as the budget allows.
//!
//! What visitors ask for opens no order: only hosts that the chain and an attached client's presence agree on do.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tunnler_edge::acme::{
    Account, AcmeError, CertificateAuthority, Challenge, Dns01, Hosts, Keeper, KeeperState, order,
};
use tunnler_edge::propagation::{self, NotVisible};
use tunnler_edge::{Certificates, Store};
use tunnler_protocol::control::AcmeValue;
use tunnler_protocol::directory::AcmeIdentity;
use tunnler_protocol::{Address, HostName, UnixSeconds};

use super::budget::Budget;
use super::clients::Clients;
use super::supplied::Supplied;
use crate::clock;

/// Names expire by the clock: how often hosts are looked at although no client said anything.
const LOOK: Duration = Duration::from_secs(5);
/// How often supplied files are looked at, in looks.
const REFRESH: u32 = 12;
/// How long a client may show a value.
const SHOWN: Duration = Duration::from_secs(600);
/// A client that came back since, or is another instance, is asked again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Orders under way at once.
const AT_ONCE: usize = 8;
/// First and longest pause before the CA is asked for the account again.
const ACCOUNT_PAUSE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(900));
/// Pause after trouble that somebody has to see to: a full disk, an account that is gone.
const TROUBLE_PAUSE: Duration = Duration::from_secs(900);
const BUDGET_FILE: &str = "budget.json";

/// What orders are made with: the account that the chain says is the relay's.
#[derive(Clone)]
pub struct Authority {
    /// The CA.
    pub ca: CertificateAuthority,
    /// The account's key, PKCS#8.
    pub key: Vec<u8>,
    /// The account on chain.
    pub account: AcmeIdentity,
}

/// Keeps certificates for the hosts of a relay's term-mode clients.
pub struct Issuer {
    /// Whose hosts.
    pub clients: Clients,
    /// With which account; `None` uses only what is on disk.
    pub authority: Option<Authority>,
    /// One directory per host.
    pub store: Store,
    /// Where certificates are put to use.
    pub certificates: Arc<Certificates>,
    /// What the operator brings.
    pub supplied: Supplied,
}

/// One host's keeper at work.
struct Kept {
    client: Address,
    task: AbortHandle,
}

impl Issuer {
    /// Runs until dropped; all keepers end with it.
    pub async fn run(mut self) -> Infallible {
        let (account, known) = watch::channel(None);
        let turns = Arc::new(Turns::open(self.store.clone()));
        let mut keepers: HashMap<HostName, Kept> = HashMap::new();
        let mut tasks = JoinSet::new();
        if let Some(authority) = self.authority.clone() {
            tasks.spawn(async move { open_account(authority, account).await });
        }
        for look in 0_u32.. {
            if look.is_multiple_of(REFRESH) {
                self.supplied.refresh(&self.certificates);
            }
            self.follow(&mut keepers, &mut tasks, &known, &turns);
            metrics::gauge!("tunnler_term_hosts").set(keepers.len() as f64);
            tokio::select! {
                () = self.clients.changed() => {}
                () = sleep(LOOK) => {}
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            }
            keepers.retain(|_, kept| !kept.task.is_finished());
        }
        unreachable!("looks are endless")
    }

    /// Starts keepers for hosts that came, and ends those of hosts that went: what was begun is on disk.
    fn follow(
        &self,
        keepers: &mut HashMap<HostName, Kept>,
        tasks: &mut JoinSet<()>,
        account: &watch::Receiver<Option<Account>>,
        turns: &Arc<Turns>,
    ) {
        let live = self.clients.hosts();
        keepers.retain(|host, kept| {
            let stays = live.get(host) == Some(&kept.client) && !self.supplied.covers(host.as_str());
            if !stays {
                kept.task.abort();
                self.certificates.withdraw(host.as_str());
                self.supplied.install(&self.certificates);
            }
            stays
        });
        for (host, client) in live {
            if keepers.contains_key(&host) || self.supplied.covers(host.as_str()) {
                continue;
            }
            let keeping = self.keep(host.clone(), client, account.clone(), turns.clone());
            let failed = host.clone();
            let task = tasks.spawn(async move {
                let Err(error) = keeping.await;
                tracing::error!(host = %failed, %error, "certificates are not kept; trying again in 15 minutes");
                sleep(TROUBLE_PAUSE).await;
            });
            keepers.insert(host, Kept { client, task });
        }
    }

    fn keep(
        &self,
        host: HostName,
        client: Address,
        mut account: watch::Receiver<Option<Account>>,
        turns: Arc<Turns>,
    ) -> impl Future<Output = Result<Infallible, AcmeError>> + Send + use<> {
        let (store, certificates) = (self.store.clone(), self.certificates.clone());
        let dns = ThroughClient { clients: self.clients.clone(), client, asked: Mutex::default() };
        async move {
            let store = store.inner(host.as_str())?;
            let hosts = Hosts { host: host.clone(), wildcard: false };
            // What is on disk serves also while the CA is away.
            if let Some(certificate) = order::load(&store, &hosts)? {
                certificates.install(&certificate);
            }
            let Ok(account) = account.wait_for(Option::is_some).await.map(|account| account.clone()) else {
                // No account: nothing is ordered.
                return std::future::pending().await;
            };
            let Some(account) = account else { return std::future::pending().await };
            let (state, states) = watch::channel(KeeperState::Starting);
            let mut keeping = Keeper { account, hosts, store, dns, certificates, state }.begin()?;
            loop {
                keeping.due().await?;
                let _turn = turns.take(client, keeping.is_resumed()).await?;
                tracing::info!(%host, %client, "getting a certificate");
                keeping.attempt().await?;
                let failed = matches!(*states.borrow(), KeeperState::Failed { .. });
                let outcome = if failed { "failed" } else { "issued" };
                metrics::counter!("tunnler_orders_total", "outcome" => outcome).increment(1);
                if !failed {
                    tracing::info!(%host, "the certificate is in place");
                }
            }
        }
    }
}

/// Asks until the CA says that the key's account is the one on chain.
async fn open_account(authority: Authority, account: watch::Sender<Option<Account>>) {
    let (mut pause, longest) = ACCOUNT_PAUSE;
    loop {
        match Account::of_key(&authority.key, &authority.ca).await {
            Ok(opened) if *opened.identity() == authority.account => {
                account.send_replace(Some(opened));
                // The channel must stay open for as long as keepers may be started.
                return std::future::pending().await;
            }
            Ok(opened) => tracing::error!(
                found = opened.identity().account,
                on_chain = authority.account.account,
                "the CA knows this relay under another account than the chain: run tunnler-relay init"
            ),
            Err(error) => tracing::warn!(%error, "no certificates for names yet"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// Who may order when: one order at a time for each client, some at once in all, and no more than the budget allows.
struct Turns {
    store: Store,
    budget: Mutex<Budget>,
    in_all: Semaphore,
    clients: Mutex<HashMap<Address, Arc<Semaphore>>>,
}

/// An order under way.
struct Turn<'a> {
    _in_all: SemaphorePermit<'a>,
    _of_client: tokio::sync::OwnedSemaphorePermit,
}

impl Turns {
    fn open(store: Store) -> Self {
        let kept = store.read(BUDGET_FILE).ok().flatten();
        let budget = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { store, budget: Mutex::new(budget), in_all: Semaphore::new(AT_ONCE), clients: Mutex::default() }
    }

    /// Waits for a turn. An order that exists costs none of the budget.
    async fn take(&self, client: Address, resumed: bool) -> Result<Turn<'_>, AcmeError> {
        let own = {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            clients.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            clients.entry(client).or_insert_with(|| Arc::new(Semaphore::new(1))).clone()
        };
        let of_client = own.acquire_owned().await.expect("never closed");
        while !resumed && let Err(wait) = self.spend(client)? {
            tracing::warn!(%client, seconds = wait.as_secs(), "no more orders for now: the budget is used up");
            sleep(wait.min(Duration::from_secs(3600))).await;
        }
        let in_all = self.in_all.acquire().await.expect("never closed");
        Ok(Turn { _in_all: in_all, _of_client: of_client })
    }

    /// The inner result says how long to wait.
    fn spend(&self, client: Address) -> Result<Result<(), Duration>, AcmeError> {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = budget.spend(client, clock::seconds());
        if spent.is_ok() {
            self.store.write(BUDGET_FILE, &serde_json::to_vec(&*budget).expect("plain JSON"))?;
        }
        Ok(spent)
    }
}

/// DNS-01 by asking the client to sign values into its presence.
struct ThroughClient {
    clients: Clients,
    client: Address,
    asked: Mutex<Vec<AcmeValue>>,
}

impl ThroughClient {
    async fn ask_on(&self, values: &[AcmeValue]) -> Infallible {
        loop {
            for value in values {
                self.clients.ask(&self.client, value);
            }
            sleep(ASK_AGAIN).await;
        }
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Vec<AcmeValue>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dns01 for ThroughClient {
    async fn present(&self, challenge: &Challenge) -> Result<(), NotVisible> {
        let until = clock::seconds().plus(SHOWN);
        let values = challenge.values.iter().cloned();
        let values: Vec<AcmeValue> =
            values.map(|value| AcmeValue { name: challenge.host.clone(), value, until }).collect();
        self.asked().clone_from(&values);
        let servers = self.clients.zone_servers();
        tokio::select! {
            seen = propagation::until_visible(&servers, challenge, propagation::PATIENCE) => seen,
            never = self.ask_on(&values) => match never {},
        }
    }

    async fn withdraw(&self, _: &HostName) {
        for value in std::mem::take(&mut *self.asked()) {
            self.clients.ask(&self.client, &AcmeValue { until: UnixSeconds(0), ..value });
        }
    }
}
