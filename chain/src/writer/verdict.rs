//! What replies mean: simulations, refusals and results, turned into errors that say what to do. Pure.

use stellar_xdr::{
    ContractEventBody, DiagnosticEvent, OperationResult, OperationResultTr, ScError, ScVal,
    TransactionResult, TransactionResultResult,
};
use tunnler_protocol::Address;

use crate::error::{ContractError, WriteError};
use crate::rpc::diagnostics;

/// Codes of the contracts begin here, the steward's apart; below are those of the token (CAP-46-6).
const FIRST_CODE: u32 = 100;

/// What to do about a transaction that was refused before it reached a ledger.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Another transaction of the account took the sequence number: build it anew.
    Sequence,
    /// The bid was too low: build it anew with a higher one.
    Fee,
    /// Too late for its time bounds: build it anew.
    Expired,
    /// Nothing that trying again can change.
    Final(WriteError),
}

/// Why a simulation failed.
pub(super) fn of_simulation(error: &str, events: &[String]) -> WriteError {
    let code = code_in_text(error).or_else(|| code_in_events(&diagnostics(events)));
    match code {
        Some(code) => of_code(code),
        None => WriteError::Simulation(error.lines().next().unwrap_or_default().trim().to_owned()),
    }
}

/// Why a transaction was not accepted.
pub(super) fn of_refusal(result: &TransactionResult, account: &Address, fee: u32, hash: &str) -> Refusal {
    match &result.result {
        TransactionResultResult::TxBadSeq => Refusal::Sequence,
        TransactionResultResult::TxInsufficientFee => Refusal::Fee,
        TransactionResultResult::TxTooLate => Refusal::Expired,
        TransactionResultResult::TxNoAccount => Refusal::Final(WriteError::NoAccount(account.to_string())),
        TransactionResultResult::TxInsufficientBalance => {
            Refusal::Final(WriteError::Unpayable { account: account.to_string(), fee: fee.into() })
        }
        TransactionResultResult::TxBadAuth => Refusal::Final(WriteError::Failed {
            hash: hash.into(),
            result:
                "the key may not sign for the account, or the descriptor's passphrase is another network's"
                    .into(),
        }),
        other => Refusal::Final(WriteError::Failed { hash: hash.into(), result: other.name().into() }),
    }
}

/// Why an included transaction failed. It changed nothing, so it may be sent again.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing that trying again can change.
    Final(WriteError),
    /// Without a word of the contract: the state may no longer have been the simulated one.
    Outdated(WriteError),
}

/// Why an included transaction failed.
pub(super) fn of_failure(
    result: Option<&TransactionResult>,
    events: &[DiagnosticEvent],
    hash: &str,
) -> Failure {
    if let Some(code) = code_in_events(events) {
        return Failure::Final(of_code(code));
    }
    let failed = |result: String| WriteError::Failed { hash: hash.into(), result };
    let operation = match result.map(|result| &result.result) {
        Some(TransactionResultResult::TxFailed(operations)) => operations.first(),
        Some(other) => return Failure::Final(failed(other.name().into())),
        None => None,
    };
    match operation {
        Some(OperationResult::OpInner(OperationResultTr::InvokeHostFunction(inner))) => {
            Failure::Outdated(failed(inner.name().into()))
        }
        Some(OperationResult::OpInner(inner)) => Failure::Final(failed(format!("{inner:?}"))),
        Some(other) => Failure::Final(failed(other.name().into())),
        None => Failure::Final(failed("no result".into())),
    }
}

fn of_code(code: u32) -> WriteError {
    if code >= FIRST_CODE {
        return WriteError::Contract(ContractError { code });
    }
    WriteError::Payment(match code {
        6 => "one of the accounts does not exist; fund it first",
        8 => "a negative amount",
        9 => "the allowance is too small",
        10 => "the balance is too low; fund the account first",
        11 => "the account may not use this token",
        12 => "the amount is too large",
        13 => "the account has no trustline for this token; create it first",
        _ => "the token does not allow it",
    })
}

/// The code in a host error's text: `HostError: Error(Contract, #100)`.
fn code_in_text(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("Error(Contract, #")?;
    rest.split_once(')')?.0.parse().ok()
}

/// The first contract error among diagnostic events.
fn code_in_events(events: &[DiagnosticEvent]) -> Option<u32> {
    events.iter().find_map(|event| {
        let ContractEventBody::V0(body) = &event.event.body;
        body.topics.iter().find_map(|topic| match topic {
            ScVal::Error(ScError::Contract(code)) => Some(*code),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contract_errors_become_words() {
        let error = of_simulation("HostError: Error(Contract, #201)\nEvent log (newest first):\n…", &[]);
        assert_eq!(error.to_string(), "the name is taken; choose another (contract error 201)");
        let error = of_simulation("HostError: Error(Contract, #10)\n…", &[]);
        assert!(error.to_string().contains("balance is too low"), "{error}");
        let error = of_simulation("HostError: Error(Budget, ExceededLimit)\n…", &[]);
        assert!(error.to_string().ends_with("HostError: Error(Budget, ExceededLimit)"), "{error}");
    }
}
