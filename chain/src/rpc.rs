//! One stellar-rpc endpoint: the calls this crate makes, each bounded in time and answered by a decoded value or a
//! [`Failure`]. Never retries and trusts nothing; both are the callers' business.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use jsonrpsee_core::client::ClientT;
use jsonrpsee_core::params::ObjectParams;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use stellar_rpc_client::{
    AuthMode, Client, GetLedgerEntriesResponse, GetTransactionResponse, GetTransactionResponseRaw,
    SimulateTransactionResponse,
};
use stellar_xdr::{
    DiagnosticEvent, LedgerEntryData, LedgerKey, Limits, ReadXdr, TransactionEnvelope, TransactionResult,
    WriteXdr,
};
use tunnler_protocol::time::{LedgerTime, UnixSeconds};

use crate::error::ChainError;

/// Most keys in one `getLedgerEntries` call (stellar-rpc's limit).
pub(crate) const KEYS_PER_CALL: usize = 200;
/// How long one call may take.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Depth within which XDR is decoded; soroban's own limit.
const DEPTH: u32 = 500;

/// One endpoint.
#[derive(Clone)]
pub(crate) struct Rpc {
    url: String,
    client: Client,
}

/// A call that gave no usable answer, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) String);

/// Identity of the network behind an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NetworkInfo {
    pub(crate) passphrase: String,
    pub(crate) protocol_version: u32,
}

/// How far an endpoint has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) ledger: LedgerTime,
    /// The oldest ledger whose events it still has.
    pub(crate) oldest: u32,
}

/// Entries at one ledger, in the order of the keys asked for; `None` where there is none.
#[derive(Clone, Debug)]
pub(crate) struct Entries {
    pub(crate) ledger: u32,
    pub(crate) entries: Vec<Option<Entry>>,
}

/// One ledger entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) data: LedgerEntryData,
    pub(crate) modified: u32,
}

/// A page of contract events.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventsPage {
    #[serde(deserialize_with = "null_as_empty")]
    pub(crate) events: Vec<stellar_rpc_client::Event>,
    pub(crate) cursor: String,
    pub(crate) latest_ledger: u32,
}

/// Where a page of events starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EventsFrom {
    /// All events of this ledger and later ones.
    Ledger(u32),
    /// After a previous page.
    Cursor(String),
}

/// What a simulation does about authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authority {
    /// Tells what is needed.
    Record,
    /// Checks what is given.
    Enforce,
}

/// What became of an envelope that was handed in.
#[derive(Clone, Debug)]
pub(crate) enum Submission {
    /// Queued, now or before.
    Accepted,
    /// The queue is full or holds another transaction of the account: send the same envelope again.
    TryAgainLater,
    /// Refused for good.
    Refused(Box<TransactionResult>),
}

/// What is known about a transaction.
#[derive(Clone, Debug)]
pub(crate) enum Lookup {
    /// Not in the ledgers from `oldest` to `latest`.
    NotFound { oldest: u32, latest: LedgerTime },
    /// Included and successful.
    Success(Box<GetTransactionResponse>),
    /// Included and failed.
    Failed(Box<GetTransactionResponse>),
}

impl Rpc {
    pub(crate) fn new(url: &str) -> Result<Self, ChainError> {
        let client = Client::new(url)
            .map_err(|error| ChainError::Endpoint { url: url.into(), problem: error.to_string() })?;
        Ok(Self { url: url.into(), client })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn network(&self) -> Result<NetworkInfo, Failure> {
        self.call("getNetwork", ObjectParams::new()).await
    }

    pub(crate) async fn health(&self) -> Result<Health, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            latest_ledger: u32,
            #[serde(deserialize_with = "number_or_text")]
            latest_ledger_close_time: u64,
            oldest_ledger: u32,
        }
        let raw: Raw = self.call("getHealth", ObjectParams::new()).await?;
        let closed_at = UnixSeconds(raw.latest_ledger_close_time);
        Ok(Health {
            ledger: LedgerTime { sequence: raw.latest_ledger, closed_at },
            oldest: raw.oldest_ledger,
        })
    }

    /// Reads at most [`KEYS_PER_CALL`] entries.
    pub(crate) async fn entries(&self, keys: &[LedgerKey]) -> Result<Entries, Failure> {
        let encoded: Vec<String> = keys
            .iter()
            .map(|key| key.to_xdr_base64(Limits::depth(DEPTH)).expect("a key of this crate encodes"))
            .collect();
        let params = params([("keys", serde_json::json!(encoded))]);
        let reply: GetLedgerEntriesResponse = self.call("getLedgerEntries", params).await?;
        let ledger = u32::try_from(reply.latest_ledger).map_err(|_| Failure("ledger out of range".into()))?;
        let index: HashMap<&str, usize> =
            encoded.iter().enumerate().map(|(index, key)| (key.as_str(), index)).collect();
        let mut entries = vec![None; keys.len()];
        for found in reply.entries.unwrap_or_default() {
            let slot =
                index.get(found.key.as_str()).ok_or_else(|| Failure("an entry nobody asked for".into()))?;
            let data = LedgerEntryData::from_xdr_base64(&found.xdr, Limits::depth(DEPTH))
                .map_err(|error| Failure(format!("malformed entry: {error}")))?;
            if data.to_key() != keys[*slot] || found.last_modified_ledger > ledger {
                return Err(Failure("an entry that contradicts its own key or ledger".into()));
            }
            entries[*slot] = Some(Entry { data, modified: found.last_modified_ledger });
        }
        Ok(Entries { ledger, entries })
    }

    /// Reads up to `limit` events of `contracts` (`C…`, at most 5).
    pub(crate) async fn events(
        &self,
        from: &EventsFrom,
        contracts: &[String],
        limit: usize,
    ) -> Result<EventsPage, Failure> {
        let filters = serde_json::json!([{ "type": "contract", "contractIds": contracts }]);
        let params = match from {
            EventsFrom::Ledger(ledger) => params([
                ("startLedger", serde_json::json!(ledger)),
                ("filters", filters),
                ("pagination", serde_json::json!({ "limit": limit })),
            ]),
            EventsFrom::Cursor(cursor) => params([
                ("filters", filters),
                ("pagination", serde_json::json!({ "limit": limit, "cursor": cursor })),
            ]),
        };
        self.call("getEvents", params).await
    }

    pub(crate) async fn simulate(
        &self,
        envelope: &TransactionEnvelope,
        authority: Authority,
    ) -> Result<SimulateTransactionResponse, Failure> {
        let mode = match authority {
            Authority::Record => AuthMode::Record,
            Authority::Enforce => AuthMode::Enforce,
        };
        let call = self.client.simulate_transaction_envelope(envelope, Some(mode));
        self.bounded(call).await
    }

    pub(crate) async fn send(&self, envelope: &TransactionEnvelope) -> Result<Submission, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            status: String,
            error_result_xdr: Option<String>,
        }
        let encoded = envelope.to_xdr_base64(Limits::depth(DEPTH)).expect("a built envelope encodes");
        let raw: Raw = self.call("sendTransaction", params([("transaction", encoded.into())])).await?;
        match raw.status.as_str() {
            "PENDING" | "DUPLICATE" => Ok(Submission::Accepted),
            "TRY_AGAIN_LATER" => Ok(Submission::TryAgainLater),
            "ERROR" => {
                let result = raw.error_result_xdr.unwrap_or_default();
                let result = TransactionResult::from_xdr_base64(result, Limits::depth(DEPTH))
                    .map_err(|error| Failure(format!("refused, with a malformed reason: {error}")))?;
                Ok(Submission::Refused(Box::new(result)))
            }
            other => Err(Failure(format!("unknown status {other:?}"))),
        }
    }

    pub(crate) async fn transaction(&self, hash: &[u8; 32]) -> Result<Lookup, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            oldest_ledger: u32,
            latest_ledger: u32,
            #[serde(deserialize_with = "number_or_text")]
            latest_ledger_close_time: u64,
            #[serde(flatten)]
            response: GetTransactionResponseRaw,
        }
        let hash = stellar_xdr::Hash(*hash).to_string();
        let raw: Raw = self.call("getTransaction", params([("hash", hash.into())])).await?;
        let response: GetTransactionResponse = raw
            .response
            .try_into()
            .map_err(|error: stellar_xdr::Error| Failure(format!("malformed transaction: {error}")))?;
        match response.status.as_str() {
            "SUCCESS" => Ok(Lookup::Success(Box::new(response))),
            "FAILED" => Ok(Lookup::Failed(Box::new(response))),
            "NOT_FOUND" => Ok(Lookup::NotFound {
                oldest: raw.oldest_ledger,
                latest: LedgerTime {
                    sequence: raw.latest_ledger,
                    closed_at: UnixSeconds(raw.latest_ledger_close_time),
                },
            }),
            other => Err(Failure(format!("unknown status {other:?}"))),
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: ObjectParams,
    ) -> Result<T, Failure> {
        self.bounded(self.client.client().request(method, params)).await
    }

    async fn bounded<T, E: std::error::Error>(
        &self,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(Failure(with_sources(&error))),
            Err(_) => Err(Failure(format!("no answer within {CALL_TIMEOUT:?}"))),
        }
    }
}

/// An error and what it comes from, which says "connection refused" where the error itself says "client error".
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let deeper = error.to_string();
        if !text.contains(&deeper) {
            text = format!("{text}: {deeper}");
        }
        source = error.source();
    }
    text
}

/// The diagnostic events of a reply that can be decoded.
pub(crate) fn diagnostics(encoded: &[String]) -> Vec<DiagnosticEvent> {
    let decode = |text: &String| DiagnosticEvent::from_xdr_base64(text, Limits::depth(DEPTH)).ok();
    encoded.iter().filter_map(decode).collect()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn params<const N: usize>(fields: [(&str, serde_json::Value); N]) -> ObjectParams {
    let mut params = ObjectParams::new();
    for (name, value) in fields {
        params.insert(name, value).expect("a JSON value serialises");
    }
    params
}

fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Raw {
        Number(u64),
        Text(String),
    }
    match Raw::deserialize(deserializer)? {
        Raw::Number(number) => Ok(number),
        Raw::Text(text) => text.parse().map_err(D::Error::custom),
    }
}

fn null_as_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
