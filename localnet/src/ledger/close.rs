//! Closing one ledger: evictions, fees, transactions, refunds, header; and the metadata that states all of it.
//!
//! The metadata is complete: following it from one state gives the next. It has the form that the network publishes
//! (`LedgerCloseMeta` V2), so what is kept on disk, served by `getLedgers` and replayed at start is one thing.

use std::sync::Arc;

use stellar_xdr::{
    ExtensionPoint, GeneralizedTransactionSet, Hash, LedgerCloseMeta, LedgerCloseMetaExt, LedgerCloseMetaV2,
    LedgerEntryChange, LedgerEntryChanges, LedgerEntryExt, LedgerHeader, LedgerHeaderExt,
    LedgerHeaderHistoryEntry, LedgerHeaderHistoryEntryExt, LedgerKey, ParallelTxExecutionStage,
    ParallelTxsComponent, StellarValue, StellarValueExt, TimePoint, TransactionEnvelope, TransactionMeta,
    TransactionMetaV4, TransactionPhase, TransactionResult, TransactionResultExt, TransactionResultMetaV1,
    TransactionResultPair, TransactionResultSet, TransactionSetV1, TxSetComponent,
    TxSetComponentTxsMaybeDiscountedFee, VecM,
};

use super::entries::{self, Overlay};
use super::history::{ClosedLedger, History};
use super::state::State;
use crate::operations::Closing;
use crate::soroban::modules::Modules;
use crate::soroban::{Prices, Terms, simulate};
use crate::transaction::{Envelope, apply};
use crate::{codec, events, genesis};

/// Closes the next ledger on a state, and returns what is to be kept of it.
pub(crate) fn close(
    state: &mut State,
    last: &LedgerHeaderHistoryEntry,
    pending: Vec<Envelope>,
    closing: &Closing,
    prices: &Prices,
    modules: &Modules,
) -> ClosedLedger {
    let evicted = evict(state, closing.sequence);
    // Classic transactions run before those with contracts, each in the order of arrival.
    let (soroban, classic): (Vec<_>, Vec<_>) = pending.into_iter().partition(Envelope::is_soroban);
    let transaction_set = transaction_set(&last.hash, &classic, &soroban);
    let envelopes: Vec<Envelope> = classic.into_iter().chain(soroban).collect();

    let mut fee_pool = last.header.fee_pool;
    let mut fees = Vec::with_capacity(envelopes.len());
    for envelope in &envelopes {
        let (fee, changes) = apply::take_fee(envelope, state, closing);
        state.apply(&changes);
        fee_pool += fee;
        fees.push((fee, changes));
    }
    let mut runs = Vec::with_capacity(envelopes.len());
    for (index, envelope) in envelopes.iter().enumerate() {
        let terms = Terms { closing, prices, modules, seed: seed(&last.hash, index) };
        let run = apply::run(envelope, state, &terms);
        state.apply(&run.before);
        for operation in &run.operations {
            state.apply(&operation.changes.0);
            modules.follow(&operation.changes.0, prices);
        }
        runs.push(run);
    }
    let mut processing = Vec::with_capacity(envelopes.len());
    for ((envelope, run), (fee, fee_changes)) in envelopes.iter().zip(runs).zip(fees) {
        let refund = run.refund.min(fee);
        let mut refund_changes = Vec::new();
        if refund > 0 {
            refund_changes = apply::give_back(envelope, refund, state, closing);
            state.apply(&refund_changes);
            if !refund_changes.is_empty() {
                fee_pool -= refund;
            }
        }
        processing.push(result_meta(envelope, run, fee, fee_changes, refund, refund_changes, closing));
    }

    let header = header(last, closing, &transaction_set, &processing, fee_pool);
    let meta = LedgerCloseMetaV2 {
        ext: LedgerCloseMetaExt::V0,
        ledger_header: header,
        tx_set: transaction_set,
        tx_processing: many(processing),
        upgrades_processing: VecM::default(),
        scp_info: VecM::default(),
        total_byte_size_of_live_soroban_state: 0,
        evicted_keys: many(evicted),
    };
    ClosedLedger::new(LedgerCloseMeta::V2(meta)).expect("a ledger of this network")
}

/// Follows the metadata of a closed ledger, as read back from disk.
pub(crate) fn follow(state: &mut State, meta: &LedgerCloseMetaV2) {
    state.evict(&meta.evicted_keys);
    for transaction in meta.tx_processing.iter() {
        state.apply(&transaction.fee_processing.0);
    }
    for transaction in meta.tx_processing.iter() {
        if let TransactionMeta::V4(applied) = &transaction.tx_apply_processing {
            state.apply(&applied.tx_changes_before.0);
            applied.operations.iter().for_each(|operation| state.apply(&operation.changes.0));
            state.apply(&applied.tx_changes_after.0);
        }
    }
    for transaction in meta.tx_processing.iter() {
        state.apply(&transaction.post_tx_apply_fee_processing.0);
    }
}

/// The first ledger: the state of genesis, and the native asset's contract written by the host itself.
pub(crate) fn first(
    state: &mut Arc<State>,
    network_id: &Hash,
    native_contract: &Hash,
    prices: &Prices,
    passphrase: &str,
    now: u64,
    retention: u32,
) -> (LedgerHeaderHistoryEntry, History) {
    let closing = Closing {
        sequence: genesis::FIRST_LEDGER,
        close_time: now,
        network_id: network_id.clone(),
        native_contract: native_contract.clone(),
    };
    let root = genesis::account_of(&genesis::root_key(passphrase));
    let created = simulate::at_genesis(genesis::native_contract_creation(), &root, state, &closing, prices);
    let mut overlay = Overlay::new(&**state, closing.sequence);
    // The one contract that every test pays with is not to expire under them.
    let live_until = closing.sequence + prices.max_entry_ttl - 1;
    for entry in created.into_iter().filter_map(|diff| diff.state_after) {
        let key = entry.to_key();
        overlay.put(entry.data, LedgerEntryExt::V0);
        if entries::durability(&key).is_some() {
            overlay.put_live_until(&key, live_until);
        }
    }
    let changes = overlay.changes();
    Arc::make_mut(state).apply(&changes);

    let nothing = Hash([0; 32]);
    let before = LedgerHeaderHistoryEntry {
        hash: nothing.clone(),
        header: LedgerHeader {
            ledger_version: genesis::PROTOCOL,
            previous_ledger_hash: nothing.clone(),
            scp_value: StellarValue {
                tx_set_hash: nothing.clone(),
                close_time: TimePoint(now),
                upgrades: VecM::default(),
                ext: StellarValueExt::Basic,
            },
            tx_set_result_hash: nothing.clone(),
            bucket_list_hash: nothing.clone(),
            ledger_seq: 0,
            total_coins: genesis::TOTAL_COINS,
            fee_pool: 0,
            inflation_seq: 0,
            id_pool: 0,
            base_fee: genesis::BASE_FEE,
            base_reserve: genesis::BASE_RESERVE,
            max_tx_set_size: 100,
            skip_list: std::array::from_fn(|_| nothing.clone()),
            ext: LedgerHeaderExt::V0,
        },
        ext: LedgerHeaderHistoryEntryExt::V0,
    };
    let modules = Modules::new(prices);
    let closed = close(Arc::make_mut(state), &before, Vec::new(), &closing, prices, &modules);
    (closed.header.clone(), History::starting_with(closed, retention))
}

/// Takes what is no longer live out of the state; says which keys, lives included.
fn evict(state: &mut State, sequence: u32) -> Vec<LedgerKey> {
    let mut keys = state.expired(sequence);
    state.evict(&keys);
    let lives: Vec<_> = keys.iter().map(entries::ttl_key).collect();
    keys.extend(lives);
    keys
}

/// Randomness for contracts: fixed by the ledger before and the position, as on the network.
fn seed(last: &Hash, index: usize) -> [u8; 32] {
    let mut input = last.0.to_vec();
    input.extend_from_slice(&(index as u64).to_be_bytes());
    codec::sha256(&input).0
}

fn transaction_set(previous: &Hash, classic: &[Envelope], soroban: &[Envelope]) -> GeneralizedTransactionSet {
    let base_fee = Some(i64::from(genesis::BASE_FEE));
    let envelopes = |of: &[Envelope]| -> VecM<TransactionEnvelope> {
        many(of.iter().map(|one| one.envelope.clone()).collect())
    };
    let components = if classic.is_empty() {
        Vec::new()
    } else {
        let component = TxSetComponentTxsMaybeDiscountedFee { base_fee, txs: envelopes(classic) };
        vec![TxSetComponent::TxsetCompTxsMaybeDiscountedFee(component)]
    };
    let stages = if soroban.is_empty() {
        Vec::new()
    } else {
        let cluster = stellar_xdr::DependentTxCluster(envelopes(soroban));
        vec![ParallelTxExecutionStage(many(vec![cluster]))]
    };
    GeneralizedTransactionSet::V1(TransactionSetV1 {
        previous_ledger_hash: previous.clone(),
        phases: many(vec![
            TransactionPhase::V0(many(components)),
            TransactionPhase::V1(ParallelTxsComponent { base_fee, execution_stages: many(stages) }),
        ]),
    })
}

fn result_meta(
    envelope: &Envelope,
    run: apply::Run,
    fee: i64,
    fee_changes: Vec<LedgerEntryChange>,
    refund: i64,
    refund_changes: Vec<LedgerEntryChange>,
    closing: &Closing,
) -> TransactionResultMetaV1 {
    let payer = envelope.fee_source();
    let mut transaction_events = vec![events::fee(&closing.native_contract, &payer, fee)];
    if !refund_changes.is_empty() {
        transaction_events.push(events::refund(&closing.native_contract, &payer, refund));
    }
    let meta = TransactionMetaV4 {
        ext: ExtensionPoint::V0,
        tx_changes_before: changes(run.before),
        operations: many(run.operations),
        tx_changes_after: LedgerEntryChanges::default(),
        soroban_meta: run.soroban,
        events: many(transaction_events),
        diagnostic_events: many(run.diagnostics),
    };
    let result =
        TransactionResult { fee_charged: fee - refund, result: run.code, ext: TransactionResultExt::V0 };
    TransactionResultMetaV1 {
        ext: ExtensionPoint::V0,
        result: TransactionResultPair { transaction_hash: envelope.hash.clone(), result },
        fee_processing: changes(fee_changes),
        tx_apply_processing: TransactionMeta::V4(meta),
        post_tx_apply_fee_processing: changes(refund_changes),
    }
}

fn header(
    last: &LedgerHeaderHistoryEntry,
    closing: &Closing,
    transaction_set: &GeneralizedTransactionSet,
    processing: &[TransactionResultMetaV1],
    fee_pool: i64,
) -> LedgerHeaderHistoryEntry {
    let results =
        TransactionResultSet { results: many(processing.iter().map(|one| one.result.clone()).collect()) };
    // There are no buckets here: a running hash over all changes stands where the network has the bucket list's.
    let mut digest = last.header.bucket_list_hash.0.to_vec();
    processing.iter().for_each(|one| digest.extend_from_slice(&codec::encode(one)));
    let header = LedgerHeader {
        ledger_version: genesis::PROTOCOL,
        previous_ledger_hash: last.hash.clone(),
        scp_value: StellarValue {
            tx_set_hash: codec::hash_of(transaction_set),
            close_time: TimePoint(closing.close_time),
            upgrades: VecM::default(),
            ext: StellarValueExt::Basic,
        },
        tx_set_result_hash: codec::hash_of(&results),
        bucket_list_hash: codec::sha256(&digest),
        ledger_seq: closing.sequence,
        fee_pool,
        ..last.header.clone()
    };
    LedgerHeaderHistoryEntry { hash: codec::hash_of(&header), header, ext: LedgerHeaderHistoryEntryExt::V0 }
}

fn changes(changes: Vec<LedgerEntryChange>) -> LedgerEntryChanges {
    LedgerEntryChanges(many(changes))
}

/// A vector whose length is far below XDR's own limit.
fn many<T>(values: Vec<T>) -> VecM<T> {
    values.try_into().unwrap_or_else(|_| unreachable!("fewer than 2^32 elements"))
}
