//! Operations: which threshold each needs, when one is malformed, and what it does to the ledger.
//!
//! Classic operations live in the files below, contract operations in `crate::soroban`. What a local network has
//! no use for (offers, trust lines, claimable balances, sponsorship, pools) is refused as not supported.

mod account_merge;
mod bump_sequence;
mod create_account;
mod manage_data;
mod payment;
mod set_options;

use stellar_xdr::{
    AccountEntry, AccountEntryExt, AccountEntryExtensionV1Ext, AccountId, ContractEvent, Hash, Operation,
    OperationBody, OperationResult, OperationResultTr,
};

use crate::genesis;
use crate::ledger::entries::Overlay;
use crate::transaction::signatures::Threshold;

/// The ledger that is being closed.
#[derive(Clone, Debug)]
pub(crate) struct Closing {
    pub sequence: u32,
    /// Unix seconds.
    pub close_time: u64,
    pub network_id: Hash,
    pub native_contract: Hash,
}

/// What an operation did.
#[derive(Debug)]
pub(crate) struct Applied {
    pub result: OperationResult,
    pub succeeded: bool,
    pub events: Vec<ContractEvent>,
}

impl Applied {
    fn success(result: OperationResultTr) -> Self {
        Self { result: OperationResult::OpInner(result), succeeded: true, events: Vec::new() }
    }

    fn failure(result: OperationResultTr) -> Self {
        Self { result: OperationResult::OpInner(result), succeeded: false, events: Vec::new() }
    }

    fn with_event(mut self, event: ContractEvent) -> Self {
        self.events.push(event);
        self
    }

    /// An operation that was not attempted.
    pub(crate) fn refused(result: OperationResult) -> Self {
        Self { result, succeeded: false, events: Vec::new() }
    }
}

/// The threshold of its source account that an operation needs.
pub(crate) fn threshold(operation: &Operation) -> Threshold {
    match &operation.body {
        OperationBody::SetOptions(options) => set_options::threshold(options),
        OperationBody::AccountMerge(_) => Threshold::High,
        OperationBody::BumpSequence(_)
        | OperationBody::ExtendFootprintTtl(_)
        | OperationBody::RestoreFootprint(_) => Threshold::Low,
        _ => Threshold::Medium,
    }
}

/// The result of a classic operation that can be refused without looking at the ledger.
pub(crate) fn malformed(operation: &Operation, source: &AccountId) -> Option<OperationResult> {
    let result = match &operation.body {
        OperationBody::CreateAccount(op) => {
            create_account::malformed(op, source).map(OperationResultTr::CreateAccount)
        }
        OperationBody::Payment(op) => payment::malformed(op).map(OperationResultTr::Payment),
        OperationBody::SetOptions(op) => {
            set_options::malformed(op, source).map(OperationResultTr::SetOptions)
        }
        OperationBody::ManageData(op) => manage_data::malformed(op).map(OperationResultTr::ManageData),
        OperationBody::BumpSequence(op) => bump_sequence::malformed(op).map(OperationResultTr::BumpSequence),
        OperationBody::AccountMerge(to) => {
            account_merge::malformed(to, source).map(OperationResultTr::AccountMerge)
        }
        OperationBody::InvokeHostFunction(_)
        | OperationBody::ExtendFootprintTtl(_)
        | OperationBody::RestoreFootprint(_) => None,
        _ => return Some(OperationResult::OpNotSupported),
    };
    result.map(OperationResult::OpInner)
}

/// Applies a classic operation for an account that exists.
pub(crate) fn apply(
    operation: &Operation,
    source: AccountEntry,
    overlay: &mut Overlay<'_>,
    closing: &Closing,
) -> Applied {
    match &operation.body {
        OperationBody::CreateAccount(op) => create_account::apply(op, source, overlay, closing),
        OperationBody::Payment(op) => payment::apply(op, source, overlay, closing),
        OperationBody::SetOptions(op) => set_options::apply(op, source, overlay),
        OperationBody::ManageData(op) => manage_data::apply(op, source, overlay),
        OperationBody::BumpSequence(op) => bump_sequence::apply(op, source, overlay, closing),
        OperationBody::AccountMerge(to) => account_merge::apply(to, source, overlay, closing),
        _ => Applied::refused(OperationResult::OpNotSupported),
    }
}

/// What an account must keep, in stroops: two base reserves and one for each sub-entry.
pub(crate) fn minimum_balance(account: &AccountEntry) -> i64 {
    let (mut sponsoring, mut sponsored) = (0_u32, 0_u32);
    if let AccountEntryExt::V1(v1) = &account.ext
        && let AccountEntryExtensionV1Ext::V2(v2) = &v1.ext
    {
        (sponsoring, sponsored) = (v2.num_sponsoring, v2.num_sponsored);
    }
    let entries = 2 + i64::from(account.num_sub_entries) + i64::from(sponsoring) - i64::from(sponsored);
    entries * i64::from(genesis::BASE_RESERVE)
}

/// What an account can spend, in stroops.
pub(crate) fn spendable(account: &AccountEntry) -> i64 {
    account.balance.saturating_sub(minimum_balance(account)).max(0)
}
