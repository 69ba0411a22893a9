//! What the network remembers: events by filter and cursor, transactions and ledgers by page, all within retention.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use stellar_xdr::{self as xdr, ScVal};
use tunnler_localnet::Localnet;

use crate::fixture::{Net, base64, parse};

async fn with_events(net: &Net, count: u32) -> Result<String> {
    let alice = net.account("alice").await?;
    let probe = net.probe(&alice).await?;
    for number in 0..count {
        let args = vec![ScVal::U32(number % 3), ScVal::U32(number)];
        net.rpc.invoke(&alice, &probe, "put", args).await?.succeeded()?;
    }
    Ok(stellar_strkey::Contract(probe.0.0).to_string().as_str().to_owned())
}

fn values(events: &Value) -> Vec<u32> {
    let of = |event: &Value| match parse(event["value"].as_str().expect("a value")) {
        Ok(ScVal::U32(value)) => value,
        other => panic!("{other:?}"),
    };
    events["events"].as_array().expect("events").iter().map(of).collect()
}

#[tokio::test]
async fn events_are_found_by_contract_topic_and_cursor() -> Result<()> {
    let net = Net::start().await?;
    let contract = with_events(&net, 9).await?;
    let of_contract = json!([{ "type": "contract", "contractIds": [contract] }]);
    let all = net.rpc.call("getEvents", json!({ "startLedger": 1, "filters": of_contract })).await?;
    assert_eq!(values(&all), (0..9).collect::<Vec<_>>());
    let event = &all["events"][0];
    assert_eq!(
        (event["type"].as_str(), event["contractId"].as_str()),
        (Some("contract"), Some(contract.as_str()))
    );
    assert_eq!((&event["transactionIndex"], &event["operationIndex"]), (&json!(1), &json!(0)));
    let id = event["id"].as_str().context("an id")?;
    assert_eq!(id.len(), 30);

    let topic = json!([[base64(&ScVal::U32(1))]]);
    let one = json!([{ "contractIds": [contract], "topics": topic }]);
    let some = net.rpc.call("getEvents", json!({ "startLedger": 1, "filters": one })).await?;
    assert_eq!(values(&some), [1, 4, 7]);
    let two = json!([{ "topics": [[base64(&ScVal::U32(0)), "**"]] }, { "topics": topic }]);
    let more = net.rpc.call("getEvents", json!({ "startLedger": 1, "filters": two })).await?;
    assert_eq!(values(&more), [0, 1, 3, 4, 6, 7]);

    // Pages of two, each beginning where the last ended, cover everything once; an empty page moves the cursor too.
    let mut cursor = None;
    let mut paged = Vec::new();
    loop {
        let params = match &cursor {
            None => json!({ "startLedger": 1, "filters": of_contract, "pagination": { "limit": 2 } }),
            Some(cursor) => json!({ "filters": of_contract, "pagination": { "limit": 2, "cursor": cursor } }),
        };
        let page = net.rpc.call("getEvents", params).await?;
        let found = values(&page);
        cursor = page["cursor"].as_str().map(str::to_owned);
        if found.is_empty() {
            break;
        }
        paged.extend(found);
    }
    assert_eq!(paged, (0..9).collect::<Vec<_>>());
    let latest = u64::from(net.rpc.latest_ledger().await?);
    let end = cursor.context("a cursor")?;
    assert_eq!(
        end.split('-').next().and_then(|toid| toid.parse::<u64>().ok()).map(|toid| toid >> 32),
        Some(latest)
    );

    // The end is exclusive.
    let last_but_one = json!({ "startLedger": 1, "endLedger": latest, "filters": of_contract });
    assert_eq!(values(&net.rpc.call("getEvents", last_but_one).await?), (0..8).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn requests_that_the_official_server_refuses_are_refused() -> Result<()> {
    let net = Net::start().await?;
    let key = base64(&xdr::LedgerKey::ContractCode(xdr::LedgerKeyContractCode { hash: xdr::Hash([1; 32]) }));
    let ttl = base64(&xdr::LedgerKey::Ttl(xdr::LedgerKeyTtl { key_hash: xdr::Hash([1; 32]) }));
    let filter = json!({ "contractIds": [] });
    for (method, params, code) in [
        ("getEvents", json!({}), -32602),
        ("getEvents", json!({ "startLedger": 99 }), -32600),
        (
            "getEvents",
            json!({ "startLedger": 1, "pagination": { "cursor": "0000000004294967296-0000000000" } }),
            -32602,
        ),
        ("getEvents", json!({ "startLedger": 1, "pagination": { "limit": 10_001 } }), -32602),
        ("getEvents", json!({ "startLedger": 1, "filters": vec![filter; 6] }), -32602),
        ("getEvents", json!({ "startLedger": 1, "filters": [{ "contractIds": ["nonsense"] }] }), -32602),
        ("getEvents", json!({ "startLedger": 1, "filters": [{ "type": "diagnostic" }] }), -32602),
        ("getLedgerEntries", json!({ "keys": vec![key; 201] }), -32602),
        ("getLedgerEntries", json!({ "keys": [ttl] }), -32602),
        ("getLedgerEntries", json!({ "keys": ["nonsense"] }), -32602),
        ("getTransaction", json!({ "hash": "abc" }), -32602),
        ("getTransactions", json!({ "startLedger": 99 }), -32600),
        ("getTransactions", json!({ "startLedger": 1, "pagination": { "limit": 201 } }), -32600),
        ("getLedgers", json!({ "startLedger": 0 }), -32600),
        ("sendTransaction", json!({ "transaction": "nonsense" }), -32602),
        ("getNothing", json!({}), -32601),
    ] {
        let answer = net.rpc.try_call(method, params.clone()).await?;
        assert_eq!(answer.as_ref().map_err(|(code, _)| *code), Err(code), "{method} {params}: {answer:?}");
    }
    let (_, body) = net.rpc.post("/", "{").await?;
    assert_eq!(serde_json::from_slice::<Value>(&body)?["error"]["code"], -32700);
    Ok(())
}

#[tokio::test]
async fn transactions_and_ledgers_come_in_pages() -> Result<()> {
    let net = Net::start().await?;
    with_events(&net, 5).await?;
    let mut hashes = Vec::new();
    let mut params = json!({ "startLedger": 1, "pagination": { "limit": 2 } });
    loop {
        let page = net.rpc.call("getTransactions", params).await?;
        let found = page["transactions"].as_array().context("transactions")?;
        if found.is_empty() {
            break;
        }
        hashes.extend(found.iter().map(|one| one["txHash"].as_str().unwrap_or_default().to_owned()));
        params = json!({ "pagination": { "limit": 2, "cursor": page["cursor"] } });
    }
    // Funding, upload, deployment, five calls.
    assert_eq!(hashes.len(), 8);
    let single = net.rpc.call("getTransaction", json!({ "hash": hashes[7] })).await?;
    assert_eq!(single["status"], "SUCCESS");
    assert!(single["createdAt"].is_string());

    let first = net.rpc.call("getLedgers", json!({ "startLedger": 1, "pagination": { "limit": 3 } })).await?;
    assert_eq!(first["ledgers"].as_array().map(Vec::len), Some(3));
    let after = json!({ "pagination": { "limit": 200, "cursor": first["cursor"] } });
    let rest = net.rpc.call("getLedgers", after).await?;
    let rest = rest["ledgers"].as_array().context("ledgers")?;
    assert_eq!(rest.first().map(|ledger| &ledger["sequence"]), Some(&json!(4)));
    for pair in rest.windows(2) {
        let header: xdr::LedgerHeaderHistoryEntry =
            parse(pair[1]["headerXdr"].as_str().context("a header")?)?;
        assert_eq!(Some(header.header.previous_ledger_hash.to_string().as_str()), pair[0]["hash"].as_str());
        let meta: xdr::LedgerCloseMeta = parse(pair[1]["metadataXdr"].as_str().context("metadata")?)?;
        assert!(matches!(meta, xdr::LedgerCloseMeta::V2(meta) if meta.ledger_header == header));
    }
    let json = json!({ "startLedger": 2, "pagination": { "limit": 1 }, "xdrFormat": "json" });
    let json = net.rpc.call("getLedgers", json).await?;
    assert_eq!(json["ledgers"][0]["headerJson"]["header"]["ledger_seq"], 2);
    Ok(())
}

#[tokio::test]
async fn what_is_older_than_the_retention_is_gone() -> Result<()> {
    let net = Net::start_with(Localnet::builder().no_ledger_interval().retention(4)).await?;
    let contract = with_events(&net, 6).await?;
    let health = net.rpc.call("getHealth", json!({})).await?;
    let (latest, oldest) = (health["latestLedger"].as_u64(), health["oldestLedger"].as_u64());
    assert_eq!(oldest, latest.map(|latest| latest - 3));
    let filters = json!([{ "contractIds": [contract] }]);
    let refused = net.rpc.try_call("getEvents", json!({ "startLedger": 2, "filters": filters })).await?;
    assert_eq!(refused.map_err(|(code, _)| code), Err(-32600));
    let kept = net.rpc.call("getEvents", json!({ "startLedger": oldest, "filters": filters })).await?;
    assert_eq!(values(&kept), [2, 3, 4, 5]);
    Ok(())
}

#[tokio::test]
async fn one_request_looks_through_ten_thousand_ledgers() -> Result<()> {
    let net = Net::start().await?;
    let contract = with_events(&net, 1).await?;
    net.localnet.advance(10_100).await?;
    let alice = net.account("alice").await?;
    let id = xdr::ContractId(xdr::Hash(stellar_strkey::Contract::from_string(&contract)?.0));
    net.rpc.invoke(&alice, &id, "put", vec![ScVal::U32(1), ScVal::U32(77)]).await?.succeeded()?;
    let filters = json!([{ "contractIds": [contract] }]);
    let first = net.rpc.call("getEvents", json!({ "startLedger": 1, "filters": filters })).await?;
    assert_eq!(values(&first), [0]);
    let cursor = first["cursor"].as_str().context("a cursor")?;
    let toid: u64 = cursor.split('-').next().context("a TOID")?.parse()?;
    assert_eq!(toid >> 32, 10_000, "as far as it looked, though nothing was there");
    let next = json!({ "filters": filters, "pagination": { "cursor": cursor } });
    assert_eq!(values(&net.rpc.call("getEvents", next).await?), [77]);
    Ok(())
}

#[tokio::test]
async fn several_requests_in_one_post_are_answered_together() -> Result<()> {
    let net = Net::start().await?;
    let batch = json!([
        { "jsonrpc": "2.0", "id": "a", "method": "getHealth" },
        { "jsonrpc": "2.0", "method": "getHealth" },
        { "jsonrpc": "1.0", "id": "b", "method": "getHealth" },
        7,
    ]);
    let (_, body) = net.rpc.post("/any/path", batch.to_string()).await?;
    let answers: Value = serde_json::from_slice(&body)?;
    let answers = answers.as_array().context("answers")?;
    assert_eq!(answers.len(), 3, "a notification has no answer");
    assert_eq!((&answers[0]["id"], &answers[0]["result"]["status"]), (&json!("a"), &json!("healthy")));
    assert_eq!((&answers[1]["id"], &answers[1]["error"]["code"]), (&json!("b"), &json!(-32600)));
    assert_eq!(answers[2]["error"]["code"], -32600);
    Ok(())
}
