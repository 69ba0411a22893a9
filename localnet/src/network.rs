//! One ledger and its clock, shared by endpoints and tasks.
//!
//! All work on the ledger happens on blocking threads, so that no request waits for another one's execution on the
//! async threads. Nothing holds the ledger across an await.

use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ed25519_dalek::{Signer, SigningKey};
use stellar_xdr::{
    AccountId, CreateAccountOp, DecoratedSignature, Hash, Memo, MuxedAccount, Operation, OperationBody,
    Preconditions, SequenceNumber, SignatureHint, Transaction, TransactionEnvelope, TransactionExt,
    TransactionV1Envelope, Uint256,
};

use tokio::sync::watch;

use crate::genesis;
use crate::ledger::store::StoreError;
use crate::ledger::{Ledger, Submission, entries};

/// Stroops that the friendbot gives: 10,000 lumens.
pub(crate) const FRIENDBOT_GIFT: i64 = 100_000_000_000;

/// When a ledger closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Closing {
    /// At once with each transaction, and every interval without.
    #[default]
    OnSend,
    /// Every interval (or on request): several transactions share a ledger.
    Interval,
}

/// A ledger could not be written, so the network stands still: restart it, and it continues from the last ledger that
/// is on disk.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the network stands still, its ledger cannot be written: {0}")]
pub struct Halted(Arc<StoreError>);

/// A running network.
pub(crate) struct Network {
    passphrase: String,
    root: SigningKey,
    ledger: RwLock<Ledger>,
    cadence: Mutex<Cadence>,
    halted: watch::Sender<Option<Halted>>,
}

#[derive(Clone, Copy, Debug)]
struct Cadence {
    closing: Closing,
    last_close: Instant,
    /// Seconds by which the network's clock was moved ahead of the machine's.
    ahead: u64,
}

/// What the friendbot did.
pub(crate) enum Funding {
    Funded { hash: Hash },
    AlreadyFunded,
    Failed(String),
}

impl Network {
    pub(crate) fn new(passphrase: String, ledger: Ledger, closing: Closing) -> Self {
        let root = genesis::root_key(&passphrase);
        let cadence = Mutex::new(Cadence { closing, last_close: Instant::now(), ahead: 0 });
        let halted = watch::Sender::new(None);
        Self { passphrase, root, ledger: RwLock::new(ledger), cadence, halted }
    }

    pub(crate) fn passphrase(&self) -> &str {
        &self.passphrase
    }

    /// Reads the ledger on a blocking thread.
    pub(crate) async fn read<R: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Ledger, u64) -> R + Send + 'static,
    ) -> R {
        let network = self.clone();
        run_blocking(move || {
            let now = network.now();
            work(&network.ledger.read().unwrap_or_else(|poisoned| poisoned.into_inner()), now)
        })
        .await
    }

    /// Submits a transaction, and closes a ledger with it if that is the way of this network.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        envelope: TransactionEnvelope,
    ) -> Result<Submission, Halted> {
        let network = self.clone();
        run_blocking(move || {
            network.with_ledger(|ledger, now| {
                let submission = ledger.submit(envelope, now);
                let close_now = network.cadence().closing == Closing::OnSend;
                if close_now && matches!(submission, Submission::Pending { .. }) {
                    network.close_ledgers(ledger, 1, now)?;
                }
                Ok(submission)
            })
        })
        .await
    }

    /// Closes `count` ledgers now.
    pub(crate) async fn advance(self: &Arc<Self>, count: u32) -> Result<u32, Halted> {
        let network = self.clone();
        run_blocking(move || {
            network.with_ledger(|ledger, now| {
                network.close_ledgers(ledger, count, now)?;
                Ok(ledger.last().header.ledger_seq)
            })
        })
        .await
    }

    /// Creates an account with the friendbot's gift, in a ledger of its own.
    pub(crate) async fn fund(self: &Arc<Self>, id: AccountId) -> Result<Funding, Halted> {
        let network = self.clone();
        run_blocking(move || {
            network.with_ledger(|ledger, now| {
                if ledger.spendable(&id).is_some() {
                    return Ok(Funding::AlreadyFunded);
                }
                let envelope = network.gift(ledger, id);
                match ledger.submit(envelope, now) {
                    Submission::Pending { hash } => {
                        network.close_ledgers(ledger, 1, now)?;
                        Ok(Funding::Funded { hash })
                    }
                    other => Ok(Funding::Failed(format!("the root account could not pay: {other:?}"))),
                }
            })
        })
        .await
    }

    /// Changes when ledgers close.
    pub(crate) fn set_closing(&self, closing: Closing) {
        self.cadence().closing = closing;
    }

    /// Moves the network's clock ahead of the machine's by this many more seconds.
    pub(crate) fn move_clock(&self, seconds: u64) {
        let mut cadence = self.cadence();
        cadence.ahead = cadence.ahead.saturating_add(seconds);
    }

    /// Why the network stands still, if it does.
    pub(crate) fn halted(&self) -> Option<Halted> {
        self.halted.borrow().clone()
    }

    /// Waits until the network stands still.
    pub(crate) async fn wait_halted(&self) -> Halted {
        let mut halted = self.halted.subscribe();
        loop {
            if let Some(halted) = halted.borrow_and_update().clone() {
                return halted;
            }
            if halted.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Closes a ledger every interval in which nothing else did, until the network stands still.
    pub(crate) async fn keep_closing(self: Arc<Self>, interval: Duration) {
        loop {
            let due = self.cadence().last_close + interval;
            tokio::time::sleep_until(due.into()).await;
            if self.cadence().last_close + interval <= Instant::now() && self.advance(1).await.is_err() {
                return;
            }
        }
    }

    fn close_ledgers(&self, ledger: &mut Ledger, count: u32, now: u64) -> Result<(), StoreError> {
        ledger.close(count, now)?;
        self.cadence().last_close = Instant::now();
        Ok(())
    }

    fn with_ledger<R>(
        &self,
        work: impl FnOnce(&mut Ledger, u64) -> Result<R, StoreError>,
    ) -> Result<R, Halted> {
        if let Some(halted) = self.halted() {
            return Err(halted);
        }
        // A panic inside the ledger would be a bug; going on with what it left could hide it from a test.
        let mut ledger = self.ledger.write().expect("the ledger panicked before: restart the network");
        work(&mut ledger, self.now()).map_err(|error| {
            tracing::error!(%error, "the ledger cannot be written");
            let halted = Halted(Arc::new(error));
            self.halted.send_replace(Some(halted.clone()));
            halted
        })
    }

    fn cadence(&self) -> std::sync::MutexGuard<'_, Cadence> {
        self.cadence.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The network's time, Unix seconds.
    fn now(&self) -> u64 {
        let machine = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        machine.saturating_add(self.cadence().ahead)
    }

    fn gift(&self, ledger: &Ledger, to: AccountId) -> TransactionEnvelope {
        let root = genesis::account_of(&self.root);
        let sequence = entries::account(ledger.state(), &root).map_or(0, |account| account.seq_num.0);
        let operation = OperationBody::CreateAccount(CreateAccountOp {
            destination: to,
            starting_balance: FRIENDBOT_GIFT,
        });
        let tx = Transaction {
            source_account: MuxedAccount::Ed25519(Uint256(self.root.verifying_key().to_bytes())),
            fee: genesis::BASE_FEE,
            seq_num: SequenceNumber(sequence + 1),
            cond: Preconditions::None,
            memo: Memo::None,
            operations: vec![Operation { source_account: None, body: operation }]
                .try_into()
                .expect("one operation"),
            ext: TransactionExt::V0,
        };
        let hash = tx.hash(ledger.network_id().0).expect("a small transaction");
        let key = self.root.verifying_key().to_bytes();
        let signature = DecoratedSignature {
            hint: SignatureHint([key[28], key[29], key[30], key[31]]),
            signature: stellar_xdr::Signature(
                self.root.sign(&hash).to_bytes().to_vec().try_into().expect("64 bytes"),
            ),
        };
        TransactionEnvelope::Tx(TransactionV1Envelope {
            tx,
            signatures: vec![signature].try_into().expect("one signature"),
        })
    }
}

async fn run_blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
