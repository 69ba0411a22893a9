//! The contracts' events for people: what happened to a name or a relay, and what happens now. As one endpoint tells
//! them, without agreement: nothing is decided by what is read here (the reader uses events only as hints).

use serde::Serialize;
use stellar_xdr::{Limits, ReadXdr, ScVal};
use tunnler_protocol::network::Network;

use crate::contract::Contracts;
use crate::endpoints::Endpoints;
use crate::error::ChainError;
use crate::rpc::{EventsFrom, EventsPage, Rpc};

/// Events in one page.
const PAGE: usize = 1000;
/// Pages in a row after which an endpoint is taken to be making them up: a week of quiet ledgers is 13.
const MOST_PAGES: u32 = 2_000;
/// The most events of one name or relay that are kept in memory.
const MOST_EVENTS: usize = 100_000;

/// One event of one of the two contracts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChainEvent {
    /// Its id, the same at every endpoint; ids sort in the order of events.
    pub id: String,
    /// The ledger it happened in.
    pub ledger: u32,
    /// When that ledger closed (RFC 3339).
    pub closed_at: String,
    /// The contract (`C…`).
    pub contract: String,
    /// What happened, for example `name_registered`.
    pub event: String,
    /// Whom or what it happened to: a name, then addresses, in the order of the event's topics.
    pub subjects: Vec<String>,
    /// The rest, by field.
    pub details: serde_json::Value,
    /// Hash of the transaction.
    pub transaction: Option<String>,
}

/// Where a feed begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// With the oldest event that the endpoint still has (a week, usually).
    Oldest,
    /// With the next ledger.
    Now,
}

/// A cursor as a place in the order of events: TOID and index.
type Position = (u64, u64);

/// Events in their order, page by page.
pub struct EventFeed {
    endpoints: Endpoints,
    contracts: [String; 2],
    from: EventsFrom,
    /// How far `from` has come; it never goes back.
    reached: Option<Position>,
    /// Pages since the endpoint last had no more.
    pages: u32,
    /// The newest event that was handed out, so that changing the endpoint repeats nothing.
    last: String,
}

impl EventFeed {
    /// A feed of both contracts of `network`.
    pub async fn open(network: &Network, since: Since) -> Result<Self, ChainError> {
        // Checks the ids, so that a mistake is told as one.
        Contracts::of(network)?;
        let endpoints = Endpoints::of(network)?;
        let health = endpoints.ask(|rpc| async move { rpc.health().await }).await?;
        let from = match since {
            Since::Oldest => EventsFrom::Ledger(health.oldest),
            Since::Now => EventsFrom::Ledger(health.ledger.sequence),
        };
        let contracts = [network.registry.clone(), network.namespace.clone()];
        let mut feed = Self { endpoints, contracts, from, reached: None, pages: 0, last: String::new() };
        if since == Since::Now {
            while !feed.next_page().await?.1 {}
        }
        Ok(feed)
    }

    /// The next events, in order; empty when nothing has happened since. Ask again after a ledger's time (5 s).
    pub async fn next(&mut self) -> Result<Vec<ChainEvent>, ChainError> {
        loop {
            let (events, end) = self.next_page().await?;
            if end || !events.is_empty() {
                return Ok(events);
            }
        }
    }

    /// One page, and whether the endpoint has no more for now.
    async fn next_page(&mut self) -> Result<(Vec<ChainEvent>, bool), ChainError> {
        let question = |rpc: Rpc| {
            let (from, contracts) = (self.from.clone(), self.contracts.clone());
            async move { rpc.events(&from, &contracts, PAGE).await }
        };
        let page: EventsPage = self.endpoints.ask(question).await?;
        let reached = position(&page.cursor);
        // An endpoint that lags or repeats itself has no more for now, however full its page.
        let advanced = reached > self.reached;
        let newest = reached.is_none_or(|(toid, _)| toid >> 32 >= u64::from(page.latest_ledger));
        let end = !advanced || (page.events.len() < PAGE && newest);
        if advanced {
            (self.reached, self.from) = (reached, EventsFrom::Cursor(page.cursor.clone()));
        }
        self.pages = if end { 0 } else { self.pages + 1 };
        if self.pages > MOST_PAGES {
            return Err(ChainError::Endless { pages: self.pages });
        }
        let new = page.events.iter().filter(|event| event.id > self.last);
        let events: Vec<ChainEvent> = new.map(ChainEvent::of).collect();
        if let Some(event) = events.last() {
            self.last.clone_from(&event.id);
        }
        Ok((events, end))
    }
}

/// What happened to `subject` (a label or an address), oldest first, as far back as the endpoint has events.
pub async fn history(network: &Network, subject: &str) -> Result<Vec<ChainEvent>, ChainError> {
    let mut feed = EventFeed::open(network, Since::Oldest).await?;
    let mut history = Vec::new();
    loop {
        let (events, end) = feed.next_page().await?;
        if history.len() > MOST_EVENTS {
            return Err(ChainError::Endless { pages: feed.pages });
        }
        history.extend(events.into_iter().filter(|event| event.subjects.iter().any(|told| told == subject)));
        if end {
            return Ok(history);
        }
    }
}

fn position(cursor: &str) -> Option<Position> {
    let (toid, index) = cursor.split_once('-')?;
    Some((toid.parse().ok()?, index.parse().ok()?))
}

impl ChainEvent {
    fn of(event: &stellar_rpc_client::Event) -> Self {
        let decode = |text: &String| ScVal::from_xdr_base64(text, Limits::depth(500)).unwrap_or(ScVal::Void);
        let mut topics = event.topic.iter().map(|topic| text(&decode(topic)));
        Self {
            id: event.id.clone(),
            ledger: event.ledger,
            closed_at: event.ledger_closed_at.clone(),
            contract: event.contract_id.clone(),
            event: topics.next().unwrap_or_default(),
            subjects: topics.collect(),
            details: json(&decode(&event.value)),
            transaction: event.tx_hash.clone(),
        }
    }
}

fn text(value: &ScVal) -> String {
    match json(value) {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

/// A value as people read it: addresses as strkeys, bytes in hexadecimal, an enum without payload as its name.
fn json(value: &ScVal) -> serde_json::Value {
    match value {
        ScVal::Bool(value) => (*value).into(),
        ScVal::U32(value) => (*value).into(),
        ScVal::I32(value) => (*value).into(),
        ScVal::U64(value) => (*value).into(),
        ScVal::I64(value) => (*value).into(),
        ScVal::I128(parts) => i128::from(parts).to_string().into(),
        ScVal::Symbol(text) => text.to_string().into(),
        ScVal::String(text) => String::from_utf8_lossy(text.as_slice()).into_owned().into(),
        ScVal::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
        ScVal::Address(address) => address.to_string().into(),
        ScVal::Vec(Some(items)) => match items.as_slice() {
            [ScVal::Symbol(name)] => name.to_string().into(),
            items => items.iter().map(json).collect(),
        },
        ScVal::Map(Some(map)) => map.iter().map(|entry| (text(&entry.key), json(&entry.val))).collect(),
        ScVal::Void => serde_json::Value::Null,
        other => format!("{other:?}").into(),
    }
}
