//! Events that the ledger itself states (transfers of classic operations, fees and refunds), and event ids.
//!
//! The form is that of the native asset's contract, so readers need one decoder (CAP-67).

use stellar_xdr::{
    AccountId, ContractEvent, ContractEventBody, ContractEventType, ContractEventV0, ContractId,
    DiagnosticEvent, ExtensionPoint, Hash, Int128Parts, ScAddress, ScError, ScErrorCode, ScString, ScSymbol,
    ScVal, StringM, TransactionEvent, TransactionEventStage,
};

/// A transfer of the native asset by a classic operation.
pub(crate) fn native_transfer(
    contract: &Hash,
    from: &AccountId,
    to: &AccountId,
    amount: i64,
) -> ContractEvent {
    native(contract, vec![symbol("transfer"), address(from), address(to), text("native")], amount)
}

/// The fee of a transaction, as taken before any transaction of the ledger ran.
pub(crate) fn fee(contract: &Hash, payer: &AccountId, amount: i64) -> TransactionEvent {
    TransactionEvent {
        stage: TransactionEventStage::BeforeAllTxs,
        event: native(contract, vec![symbol("fee"), address(payer)], amount),
    }
}

/// The part of a fee given back after all transactions of the ledger ran.
pub(crate) fn refund(contract: &Hash, payer: &AccountId, amount: i64) -> TransactionEvent {
    TransactionEvent {
        stage: TransactionEventStage::AfterAllTxs,
        event: native(contract, vec![symbol("fee"), address(payer)], -amount),
    }
}

/// Why something failed, in the form in which the network's own nodes say such things. `None`: it cannot be said.
pub(crate) fn error(why: &str) -> Option<DiagnosticEvent> {
    let topics = vec![symbol("error"), ScVal::Error(ScError::Storage(ScErrorCode::InvalidInput))];
    Some(DiagnosticEvent {
        in_successful_contract_call: false,
        event: ContractEvent {
            ext: ExtensionPoint::V0,
            contract_id: None,
            type_: ContractEventType::Diagnostic,
            body: ContractEventBody::V0(ContractEventV0 {
                topics: topics.try_into().ok()?,
                data: ScVal::String(ScString(StringM::try_from(why).ok()?)),
            }),
        },
    })
}

fn native(contract: &Hash, topics: Vec<ScVal>, amount: i64) -> ContractEvent {
    let amount = i128::from(amount);
    ContractEvent {
        ext: ExtensionPoint::V0,
        contract_id: Some(ContractId(contract.clone())),
        type_: ContractEventType::Contract,
        body: ContractEventBody::V0(ContractEventV0 {
            topics: topics.try_into().expect("a few topics"),
            data: ScVal::I128(Int128Parts { hi: (amount >> 64) as i64, lo: amount as u64 }),
        }),
    }
}

fn symbol(name: &str) -> ScVal {
    ScVal::Symbol(ScSymbol(StringM::try_from(name).expect("a short name")))
}

fn text(value: &str) -> ScVal {
    ScVal::String(ScString(StringM::try_from(value).expect("a short text")))
}

fn address(id: &AccountId) -> ScVal {
    ScVal::Address(ScAddress::Account(id.clone()))
}

/// Position of an event: ledger, transaction (1-based, 0 before all, 0xFFFFF after all), operation, event.
///
/// Its text form is the event's id and a cursor: `<TOID, 19 digits>-<event, 10 digits>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EventPosition {
    pub ledger: u32,
    pub transaction: u32,
    pub operation: u32,
    pub event: u32,
}

impl EventPosition {
    /// Highest transaction number that a position can hold.
    pub(crate) const LAST_TRANSACTION: u32 = (1 << 20) - 1;
    /// Highest operation number that a position can hold.
    pub(crate) const LAST_OPERATION: u32 = (1 << 12) - 1;

    /// Before anything in a ledger.
    pub(crate) fn start_of(ledger: u32) -> Self {
        Self { ledger, transaction: 0, operation: 0, event: 0 }
    }

    /// After everything in a ledger.
    pub(crate) fn end_of(ledger: u32) -> Self {
        Self { ledger, transaction: Self::LAST_TRANSACTION, operation: Self::LAST_OPERATION, event: u32::MAX }
    }

    /// The position right behind, in the same ledger: a cursor at the end of the latest ledger stays within it.
    pub(crate) fn next(self) -> Self {
        Self { event: self.event.saturating_add(1), ..self }
    }

    /// Reads an id or cursor.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (toid, event) = text.split_once('-')?;
        let toid: u64 = toid.parse().ok().filter(|toid| i64::try_from(*toid).is_ok())?;
        Some(Self {
            ledger: (toid >> 32) as u32,
            transaction: (toid >> 12) as u32 & Self::LAST_TRANSACTION,
            operation: toid as u32 & Self::LAST_OPERATION,
            event: event.parse().ok()?,
        })
    }
}

impl std::fmt::Display for EventPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:019}-{:010}", toid(self.ledger, self.transaction, self.operation), self.event)
    }
}

/// A total order over operations: ledger in the high 32 bits, then 20 bits of transaction and 12 of operation.
pub(crate) fn toid(ledger: u32, transaction: u32, operation: u32) -> u64 {
    u64::from(ledger) << 32 | u64::from(transaction) << 12 | u64::from(operation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_form_is_the_one_of_stellar_rpc() {
        let position = EventPosition { ledger: 5, transaction: 1, operation: 0, event: 2 };
        assert_eq!(position.to_string(), "0000000021474840576-0000000002");
    }

    proptest! {
        #[test]
        fn positions_survive_their_text_and_sort_like_it(
            a in (1_u32..=i32::MAX as u32, 0_u32..1 << 20, 0_u32..1 << 12, 0_u32..u32::MAX),
            b in (1_u32..=i32::MAX as u32, 0_u32..1 << 20, 0_u32..1 << 12, 0_u32..u32::MAX),
        ) {
            let of = |(ledger, transaction, operation, event)| EventPosition { ledger, transaction, operation, event };
            let (a, b) = (of(a), of(b));
            prop_assert_eq!(EventPosition::parse(&a.to_string()), Some(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn garbage_is_no_position(text in "\\PC{0,40}") {
            if let Some(position) = EventPosition::parse(&text) {
                prop_assert!(EventPosition::parse(&position.to_string()) == Some(position));
            }
        }
    }
}
