//! `getEvents`: filters, topics with wildcards, cursors, and the limits of the official server.

mod filter;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use stellar_xdr::{ContractEventBody, ContractEventType, ContractId};

use super::{Format, RpcError, View};
use crate::events::EventPosition;
use crate::ledger::history::{ClosedLedger, LedgerEvent};
use filter::{Filter, FilterParams};

/// Ledgers that one request looks through at most.
const SCAN_LIMIT: u32 = 10_000;
const MAX_LIMIT: u32 = 10_000;
const DEFAULT_LIMIT: u32 = 100;
const MAX_FILTERS: usize = 5;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Params {
    #[serde(default)]
    start_ledger: u32,
    #[serde(default)]
    end_ledger: u32,
    #[serde(default)]
    filters: Option<Vec<FilterParams>>,
    #[serde(default)]
    pagination: Option<Pagination>,
    #[serde(default)]
    xdr_format: Format,
}

#[derive(Default, Deserialize)]
struct Pagination {
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default)]
    limit: Option<u32>,
}

pub(super) fn events(view: &View<'_>, params: Params) -> Result<Value, RpcError> {
    let query = Query::new(params)?;
    let (latest, oldest) = (view.latest(), view.oldest());
    if !view.has(query.start.ledger) {
        return Err(RpcError::invalid_request(format!(
            "startLedger must be within the ledger range: {} - {}",
            oldest.sequence(),
            latest.sequence()
        )));
    }
    let mut end = (latest.sequence() + 1).min(query.start.ledger.saturating_add(SCAN_LIMIT));
    if query.end_ledger != 0 {
        end = end.min(query.end_ledger);
    }
    let mut found: Vec<(&ClosedLedger, &LedgerEvent)> = Vec::new();
    for ledger in view.ledgers_from(query.start.ledger).take_while(|ledger| ledger.sequence() < end) {
        let matching =
            ledger.events.iter().filter(|event| event.position >= query.start && query.matches(event));
        found.extend(matching.take(query.limit - found.len()).map(|event| (&**ledger, event)));
        if found.len() == query.limit {
            break;
        }
    }
    let cursor = match found.last() {
        Some((_, last)) if found.len() == query.limit => last.position,
        _ => EventPosition::end_of(end.saturating_sub(1)),
    };
    Ok(json!({
        "events": found.into_iter().map(|(ledger, event)| reply(ledger, event, query.format)).collect::<Vec<_>>(),
        "cursor": cursor.to_string(),
        "latestLedger": latest.sequence(),
        "latestLedgerCloseTime": latest.close_time().to_string(),
        "oldestLedger": oldest.sequence(),
        "oldestLedgerCloseTime": oldest.close_time().to_string(),
    }))
}

/// A request that makes sense.
struct Query {
    start: EventPosition,
    /// Exclusive; 0: none.
    end_ledger: u32,
    filters: Vec<Filter>,
    limit: usize,
    format: Format,
}

impl Query {
    fn new(params: Params) -> Result<Self, RpcError> {
        let invalid = |message: String| RpcError::invalid_params(message);
        let pagination = params.pagination.unwrap_or_default();
        let limit = match pagination.limit {
            Some(limit) if limit > MAX_LIMIT => {
                return Err(invalid(format!("limit must not exceed {MAX_LIMIT}")));
            }
            Some(limit) if limit > 0 => limit,
            _ => DEFAULT_LIMIT,
        };
        let start = match pagination.cursor.filter(|cursor| !cursor.is_empty()) {
            Some(_) if params.start_ledger != 0 || params.end_ledger != 0 => {
                return Err(invalid("ledger ranges and cursor cannot both be set".to_owned()));
            }
            Some(cursor) => EventPosition::parse(&cursor)
                .ok_or_else(|| invalid(format!("invalid event cursor {cursor:?}")))?
                .next(),
            None if params.start_ledger == 0 => {
                return Err(invalid("startLedger must be positive".to_owned()));
            }
            None if params.end_ledger != 0 && params.end_ledger <= params.start_ledger => {
                return Err(invalid("startLedger must be before endLedger".to_owned()));
            }
            None => EventPosition::start_of(params.start_ledger),
        };
        let filters = params.filters.unwrap_or_default();
        if filters.len() > MAX_FILTERS {
            return Err(invalid(format!("maximum {MAX_FILTERS} filters per request")));
        }
        let filters = filters
            .into_iter()
            .zip(1..)
            .map(|(filter, number)| {
                Filter::new(filter).map_err(|why| invalid(format!("filter {number} invalid: {why}")))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            start,
            end_ledger: params.end_ledger,
            filters,
            limit: limit as usize,
            format: params.xdr_format,
        })
    }

    fn matches(&self, event: &LedgerEvent) -> bool {
        event.event.type_ != ContractEventType::Diagnostic
            && (self.filters.is_empty() || self.filters.iter().any(|filter| filter.matches(&event.event)))
    }
}

fn reply(ledger: &ClosedLedger, event: &LedgerEvent, format: Format) -> Value {
    let ContractEventBody::V0(body) = &event.event.body;
    let kind = match event.event.type_ {
        ContractEventType::System => "system",
        ContractEventType::Contract => "contract",
        ContractEventType::Diagnostic => "diagnostic",
    };
    let contract = event.event.contract_id.as_ref().map_or(String::new(), contract_address);
    let mut reply = Map::new();
    reply.insert("type".into(), json!(kind));
    reply.insert("ledger".into(), json!(event.position.ledger));
    reply.insert("ledgerClosedAt".into(), json!(rfc3339(ledger.close_time())));
    reply.insert("contractId".into(), json!(contract));
    reply.insert("id".into(), json!(event.position.to_string()));
    reply.insert("operationIndex".into(), json!(event.position.operation));
    reply.insert("transactionIndex".into(), json!(event.position.transaction));
    reply.insert("txHash".into(), json!(event.transaction.to_string()));
    reply.insert("inSuccessfulContractCall".into(), json!(event.successful));
    let (topic, value) = if format == Format::Json { ("topicJson", "valueJson") } else { ("topic", "value") };
    reply.insert(topic.into(), format.values(body.topics.iter()));
    reply.insert(value.into(), format.value(&body.data));
    Value::Object(reply)
}

/// A contract's address in its text form.
pub(crate) fn contract_address(ContractId(hash): &ContractId) -> String {
    stellar_strkey::Contract(hash.0).to_string().as_str().to_owned()
}

/// Unix seconds as `2026-01-31T23:59:59Z`.
fn rfc3339(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, counted in 400-year eras: leap days come last in each year.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let (year, hour, minute, second) = (era * 400 + year + carry, time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_795_172_400, "2026-11-20T11:00:00Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
