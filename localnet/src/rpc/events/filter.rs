//! One filter of `getEvents`: kind, contracts, topics. Within a filter all must hold; lists inside are alternatives.

use serde::Deserialize;
use stellar_xdr::{ContractEvent, ContractEventBody, ContractEventType, ContractId, Hash, ScVal};

use super::super::params;

const MAX_CONTRACTS: usize = 5;
const MAX_TOPICS: usize = 5;
const MAX_SEGMENTS: usize = 4;

/// A filter as a client words it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FilterParams {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    contract_ids: Option<Vec<String>>,
    #[serde(default)]
    topics: Option<Vec<Vec<String>>>,
}

/// A filter that makes sense.
pub(super) struct Filter {
    /// Empty: all kinds.
    kinds: Vec<ContractEventType>,
    /// Empty: all contracts.
    contracts: Vec<ContractId>,
    /// Empty: all topics.
    topics: Vec<TopicPattern>,
}

struct TopicPattern {
    segments: Vec<Segment>,
    /// Whether more segments may follow (`**` at the end).
    open: bool,
}

enum Segment {
    Any,
    Exactly(Box<ScVal>),
}

impl Filter {
    /// Reads a filter; the error says what is wrong with it.
    pub(super) fn new(params: FilterParams) -> Result<Self, String> {
        let kinds = params
            .kind
            .as_deref()
            .unwrap_or("")
            .split(',')
            .filter(|kind| !kind.is_empty())
            .map(|kind| match kind {
                "contract" => Ok(ContractEventType::Contract),
                "system" => Ok(ContractEventType::System),
                _ => Err("if set, type must be either 'system' or 'contract'".to_owned()),
            })
            .collect::<Result<_, _>>()?;
        let contracts = params.contract_ids.unwrap_or_default();
        if contracts.len() > MAX_CONTRACTS {
            return Err(format!("maximum {MAX_CONTRACTS} contract IDs per filter"));
        }
        let contracts = contracts
            .iter()
            .zip(1..)
            .map(|(text, number)| {
                let contract = stellar_strkey::Contract::from_string(text);
                contract.map(|id| ContractId(Hash(id.0))).map_err(|_| format!("contract ID {number} invalid"))
            })
            .collect::<Result<_, _>>()?;
        let topics = params.topics.unwrap_or_default();
        if topics.len() > MAX_TOPICS {
            return Err(format!("maximum {MAX_TOPICS} topics per filter"));
        }
        let topics = topics
            .into_iter()
            .zip(1..)
            .map(|(topic, number)| {
                TopicPattern::new(topic).map_err(|why| format!("topic {number} invalid: {why}"))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { kinds, contracts, topics })
    }

    /// Whether an event passes.
    pub(super) fn matches(&self, event: &ContractEvent) -> bool {
        let ContractEventBody::V0(body) = &event.body;
        (self.kinds.is_empty() || self.kinds.contains(&event.type_))
            && (self.contracts.is_empty()
                || event.contract_id.as_ref().is_some_and(|id| self.contracts.contains(id)))
            && (self.topics.is_empty() || self.topics.iter().any(|topic| topic.matches(&body.topics)))
    }
}

impl TopicPattern {
    fn new(mut segments: Vec<String>) -> Result<Self, String> {
        let open = segments.last().is_some_and(|last| last == "**");
        if open {
            segments.pop();
        }
        if segments.is_empty() && !open {
            return Err("topic must have at least one segment".to_owned());
        }
        if segments.len() > MAX_SEGMENTS {
            return Err(format!("topic cannot have more than {MAX_SEGMENTS} segments"));
        }
        let segments = segments
            .iter()
            .map(|segment| match segment.as_str() {
                "*" => Ok(Segment::Any),
                "**" => Err("wildcard '**' is only allowed as the last segment".to_owned()),
                text => params::xdr(text)
                    .map(|value| Segment::Exactly(Box::new(value)))
                    .map_err(|_| format!("segment {text:?} is neither a wildcard nor base64 of an ScVal")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { segments, open })
    }

    fn matches(&self, topics: &[ScVal]) -> bool {
        let enough =
            if self.open { topics.len() >= self.segments.len() } else { topics.len() == self.segments.len() };
        enough
            && self.segments.iter().zip(topics).all(|(segment, topic)| match segment {
                Segment::Any => true,
                Segment::Exactly(value) => **value == *topic,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    fn pattern(segments: &[&str]) -> Result<TopicPattern, String> {
        TopicPattern::new(segments.iter().map(|segment| (*segment).to_owned()).collect())
    }

    #[test]
    fn topics_match_by_position_wildcard_and_length() {
        let one = codec::encode_base64(&ScVal::U32(1));
        let topics = [ScVal::U32(1), ScVal::U32(2)];
        for (segments, expected) in [
            (vec![one.as_str(), "*"], true),
            (vec!["*", one.as_str()], false),
            (vec![one.as_str()], false),
            (vec![one.as_str(), "**"], true),
            (vec!["**"], true),
            (vec!["*", "*", "*"], false),
            (vec!["*", "*", "**"], true),
        ] {
            assert_eq!(pattern(&segments).unwrap().matches(&topics), expected, "{segments:?}");
        }
    }

    #[test]
    fn what_the_official_server_refuses_is_refused() {
        assert!(pattern(&[]).is_err());
        assert!(pattern(&["*"; 5]).is_err());
        assert!(pattern(&["**", "*"]).is_err());
        assert!(pattern(&["nonsense"]).is_err());
        assert!(pattern(&["*", "*", "*", "*", "**"]).is_ok());
    }
}
