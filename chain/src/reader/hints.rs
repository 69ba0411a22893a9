//! Contract events as hints at which entries to read again. A hint is never the truth: what it names is read and agreed
//! on like everything else, so a forged event costs a call and a withheld one is noticed by its revision.

use stellar_xdr::{Limits, ReadXdr, ScVal};
use tunnler_protocol::name::Label;

use crate::contract::{Contract, Key};
use crate::value::{Fields, FromValue};

/// What one event tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    /// Whose event it is.
    pub(crate) contract: Contract,
    /// Revision after the change; OpenZeppelin's `paused` and `unpaused` do not carry it.
    pub(crate) revision: Option<u64>,
    /// The ledger of the change.
    pub(crate) ledger: u32,
    /// What may have changed.
    pub(crate) keys: Vec<Key>,
}

impl Hint {
    /// Reads an event as stellar-rpc gives it.
    pub(crate) fn of_event(contract: Contract, event: &stellar_rpc_client::Event) -> Self {
        let decode = |text: &String| ScVal::from_xdr_base64(text, Limits::depth(500)).ok();
        let topics: Vec<ScVal> = event.topic.iter().map_while(decode).collect();
        let data = decode(&event.value).unwrap_or(ScVal::Void);
        Self::of(contract, event.ledger, &topics, &data)
    }

    fn of(contract: Contract, ledger: u32, topics: &[ScVal], data: &ScVal) -> Self {
        let name = match topics.first() {
            Some(ScVal::Symbol(name)) => name.to_string(),
            _ => String::new(),
        };
        let fields = Fields::of(data).ok();
        let field = |name| fields.as_ref().and_then(|fields| fields.field::<u32>(name).ok());
        let revision = fields.as_ref().and_then(|fields| fields.field("revision").ok());
        let mut keys = Vec::new();
        match (contract, field("slot")) {
            (Contract::Registry, Some(slot)) => keys.push(Key::RelaySlot(slot)),
            (Contract::Namespace, Some(slot)) => {
                keys.push(Key::NameSlot(slot));
                if name.starts_with("domain_") {
                    keys.push(Key::Domains(slot));
                }
            }
            (_, None) => {}
        }
        if name == "name_registered" {
            let label = topics.get(1).and_then(|topic| String::from_value(topic).ok());
            keys.extend(label.and_then(|label| label.parse::<Label>().ok()).map(Key::Label));
        }
        Self { contract, revision, ledger, keys }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{string, structure, symbol};

    #[test]
    fn events_name_what_to_read_again() {
        let topics = [ScVal::Symbol(symbol("name_registered")), string("mynode")];
        let data = structure([("slot", ScVal::U32(4)), ("revision", ScVal::U64(9))]);
        let hint = Hint::of(Contract::Namespace, 77, &topics, &data);
        assert_eq!((hint.revision, hint.ledger), (Some(9), 77));
        assert_eq!(hint.keys, [Key::NameSlot(4), Key::Label("mynode".parse().unwrap())]);
        let hint = Hint::of(Contract::Namespace, 77, &[ScVal::Symbol(symbol("domain_mapped"))], &data);
        assert_eq!(hint.keys, [Key::NameSlot(4), Key::Domains(4)]);
        let hint = Hint::of(Contract::Registry, 77, &[ScVal::Symbol(symbol("relay_updated"))], &data);
        assert_eq!(hint.keys, [Key::RelaySlot(4)]);
        let hint = Hint::of(Contract::Registry, 77, &[ScVal::Symbol(symbol("paused"))], &structure([]));
        assert_eq!((hint.revision, hint.keys), (None, vec![]));
    }

    #[test]
    fn a_malformed_event_names_nothing() {
        let event: stellar_rpc_client::Event = serde_json::from_value(serde_json::json!({
            "type": "contract", "ledger": 5, "ledgerClosedAt": "", "contractId": "", "id": "1-1",
            "topic": ["not base64!", ""], "value": "AAAA",
        }))
        .unwrap();
        let hint = Hint::of_event(Contract::Registry, &event);
        assert_eq!((hint.revision, hint.keys.len()), (None, 0));
    }
}
