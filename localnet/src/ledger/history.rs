//! Closed ledgers within the retention window: their metadata, where each transaction is, and their events.
//!
//! Metadata is kept encoded and decoded on demand; only what is searched (hashes, events) is kept decoded.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use stellar_xdr::{
    ContractEvent, GeneralizedTransactionSet, Hash, LedgerCloseMeta, LedgerCloseMetaV2,
    LedgerHeaderHistoryEntry, TransactionEnvelope, TransactionEventStage, TransactionMeta, TransactionPhase,
    TransactionResultMetaV1, TxSetComponent,
};

use crate::codec;
use crate::events::EventPosition;
use crate::transaction::{Envelope, outcome};

/// One event of a ledger.
#[derive(Clone, Debug)]
pub(crate) struct LedgerEvent {
    pub position: EventPosition,
    pub transaction: Hash,
    pub successful: bool,
    pub event: ContractEvent,
}

/// One closed ledger.
#[derive(Clone, Debug)]
pub(crate) struct ClosedLedger {
    pub header: LedgerHeaderHistoryEntry,
    /// `LedgerCloseMeta`, encoded.
    pub meta: Vec<u8>,
    /// Hashes of its transactions in the order in which they were applied.
    pub transactions: Vec<Hash>,
    /// Its events, in the order of their positions.
    pub events: Vec<LedgerEvent>,
}

/// One transaction of a closed ledger, as its metadata tells it.
pub(crate) struct ClosedTransaction {
    pub envelope: TransactionEnvelope,
    pub processing: TransactionResultMetaV1,
    /// 1 for the first of its ledger.
    pub order: u32,
}

impl ClosedLedger {
    /// Indexes a ledger's metadata; `None`: it is not of a form that this network writes.
    pub(crate) fn new(meta: LedgerCloseMeta) -> Option<Self> {
        let encoded = codec::encode(&meta);
        let LedgerCloseMeta::V2(meta) = meta else { return None };
        Some(Self {
            header: meta.ledger_header.clone(),
            meta: encoded,
            transactions: meta.tx_processing.iter().map(|one| one.result.transaction_hash.clone()).collect(),
            events: events_of(&meta),
        })
    }

    /// The ledger's sequence.
    pub(crate) fn sequence(&self) -> u32 {
        self.header.header.ledger_seq
    }

    /// The ledger's close time, Unix seconds.
    pub(crate) fn close_time(&self) -> u64 {
        self.header.header.scp_value.close_time.0
    }

    /// The metadata, decoded.
    pub(crate) fn decoded(&self) -> LedgerCloseMetaV2 {
        match codec::decode(&self.meta) {
            Ok(LedgerCloseMeta::V2(meta)) => meta,
            _ => unreachable!("encoded by this process from a V2"),
        }
    }

    /// Its transactions in the order in which they were applied.
    pub(crate) fn closed_transactions(&self, network_id: &Hash) -> Vec<ClosedTransaction> {
        let meta = self.decoded();
        let mut envelopes: HashMap<Hash, TransactionEnvelope> = envelopes(meta.tx_set)
            .into_iter()
            .map(|envelope| (Envelope::new(envelope.clone(), network_id).hash, envelope))
            .collect();
        meta.tx_processing
            .into_vec()
            .into_iter()
            .zip(1..)
            .filter_map(|(processing, order)| {
                let envelope = envelopes.remove(&processing.result.transaction_hash)?;
                Some(ClosedTransaction { envelope, processing, order })
            })
            .collect()
    }
}

fn envelopes(set: GeneralizedTransactionSet) -> Vec<TransactionEnvelope> {
    let GeneralizedTransactionSet::V1(set) = set;
    let mut found = Vec::new();
    for phase in set.phases.into_vec() {
        match phase {
            TransactionPhase::V0(components) => {
                for TxSetComponent::TxsetCompTxsMaybeDiscountedFee(component) in components.into_vec() {
                    found.extend(component.txs.into_vec());
                }
            }
            TransactionPhase::V1(parallel) => {
                for stage in parallel.execution_stages.into_vec() {
                    stage.0.into_vec().into_iter().for_each(|cluster| found.extend(cluster.0.into_vec()));
                }
            }
        }
    }
    found
}

fn events_of(meta: &LedgerCloseMetaV2) -> Vec<LedgerEvent> {
    let ledger = meta.ledger_header.header.ledger_seq;
    let (mut before_all, mut after_all) = (0, 0);
    let mut events = Vec::new();
    for (processing, transaction) in meta.tx_processing.iter().zip(1..) {
        let TransactionMeta::V4(applied) = &processing.tx_apply_processing else { continue };
        let successful = outcome::is_success(&processing.result.result.result);
        let hash = &processing.result.transaction_hash;
        let mut push = |transaction, operation, event, body: &ContractEvent| {
            events.push(LedgerEvent {
                position: EventPosition { ledger, transaction, operation, event },
                transaction: hash.clone(),
                successful,
                event: body.clone(),
            });
        };
        let mut after_this = 0;
        for event in applied.events.iter() {
            let (transaction, operation, counter) = match event.stage {
                TransactionEventStage::BeforeAllTxs => (0, 0, &mut before_all),
                TransactionEventStage::AfterTx => {
                    (transaction, EventPosition::LAST_OPERATION, &mut after_this)
                }
                TransactionEventStage::AfterAllTxs => (EventPosition::LAST_TRANSACTION, 0, &mut after_all),
            };
            push(transaction, operation, *counter, &event.event);
            *counter += 1;
        }
        for (operation, number) in applied.operations.iter().zip(0..) {
            for (event, index) in operation.events.iter().zip(0..) {
                push(transaction, number, index, event);
            }
        }
    }
    events.sort_by_key(|event| event.position);
    events
}

/// The closed ledgers that are still kept, without gaps.
pub(crate) struct History {
    ledgers: VecDeque<Arc<ClosedLedger>>,
    by_hash: HashMap<Hash, u32>,
    retention: u32,
}

impl History {
    /// A history of one ledger. `retention` (at least 1) is the number of ledgers kept.
    pub(crate) fn starting_with(ledger: ClosedLedger, retention: u32) -> Self {
        let mut history =
            Self { ledgers: VecDeque::new(), by_hash: HashMap::new(), retention: retention.max(1) };
        history.push(ledger);
        history
    }

    /// Adds the next ledger and lets go of those that are too old.
    pub(crate) fn push(&mut self, ledger: ClosedLedger) {
        for hash in &ledger.transactions {
            self.by_hash.insert(hash.clone(), ledger.sequence());
        }
        self.ledgers.push_back(Arc::new(ledger));
        self.trim();
    }

    fn trim(&mut self) {
        while self.ledgers.len() > self.retention as usize {
            if let Some(old) = self.ledgers.pop_front() {
                old.transactions.iter().for_each(|hash| {
                    self.by_hash.remove(hash);
                });
            }
        }
    }

    /// Number of ledgers that are kept at most.
    pub(crate) fn retention(&self) -> u32 {
        self.retention
    }

    /// The last closed ledger.
    pub(crate) fn latest(&self) -> &Arc<ClosedLedger> {
        self.ledgers.back().expect("a history has at least one ledger")
    }

    /// The oldest ledger kept.
    pub(crate) fn oldest(&self) -> &Arc<ClosedLedger> {
        self.ledgers.front().expect("a history has at least one ledger")
    }

    /// A ledger by its sequence.
    pub(crate) fn ledger(&self, sequence: u32) -> Option<&Arc<ClosedLedger>> {
        let index = sequence.checked_sub(self.oldest().sequence())?;
        self.ledgers.get(index as usize)
    }

    /// The ledgers from a sequence on, in order.
    pub(crate) fn from(&self, sequence: u32) -> impl Iterator<Item = &Arc<ClosedLedger>> {
        let skip = sequence.saturating_sub(self.oldest().sequence());
        self.ledgers.iter().skip(skip as usize)
    }

    /// The ledger in which a transaction was closed.
    pub(crate) fn ledger_of(&self, hash: &Hash) -> Option<&Arc<ClosedLedger>> {
        self.ledger(*self.by_hash.get(hash)?)
    }

    /// Whether the last closed ledger holds this transaction.
    pub(crate) fn closed_in_latest(&self, hash: &Hash) -> bool {
        self.latest().transactions.contains(hash)
    }
}
