//! Faults on purpose, and endpoints of one ledger that disagree.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use stellar_xdr as xdr;
use tunnler_localnet::{FaultSwitches, Localnet};

use crate::fixture::{Net, Rpc, base64};

#[tokio::test]
async fn an_endpoint_can_be_down_slow_busy_or_mad() -> Result<()> {
    let net = Net::start().await?;
    let health = || net.rpc.try_call("getHealth", json!({}));
    health().await?.expect("healthy");

    net.localnet.set_faults(0, FaultSwitches { down: true, ..FaultSwitches::default() }).await;
    assert!(health().await.is_err(), "the connection breaks");
    for status in [429, 500, 503] {
        let faults = FaultSwitches { http_status: NonZeroU16::new(status), ..FaultSwitches::default() };
        net.localnet.set_faults(0, faults).await;
        assert_eq!(net.rpc.post("/", "{}").await?.0, status);
    }
    net.localnet.set_faults(0, FaultSwitches { garbage: true, ..FaultSwitches::default() }).await;
    let (status, body) = net.rpc.post("/", "{}").await?;
    assert_eq!(status, 200);
    assert!(serde_json::from_slice::<serde_json::Value>(&body).is_err());
    net.localnet.set_faults(0, FaultSwitches { slow_ms: 300, ..FaultSwitches::default() }).await;
    let started = Instant::now();
    health().await?.expect("healthy");
    assert!(started.elapsed() >= Duration::from_millis(300));
    // The way out stays open whatever the faults, over HTTP too.
    let faults = json!({ "down": true }).to_string();
    assert_eq!(net.rpc.post("/control/faults", faults).await?.0, 200);
    assert!(health().await.is_err());
    assert_eq!(net.rpc.post("/control/faults", "{}").await?.0, 200);
    health().await?.expect("healthy again");
    assert_eq!(net.rpc.post("/control/faults", r#"{"dwon":true}"#).await?.0, 422);
    Ok(())
}

#[tokio::test]
async fn sends_can_be_put_off() -> Result<()> {
    let net = Net::start().await?;
    let (alice, bob) = (net.account("alice").await?, net.account("bob").await?);
    let faults = FaultSwitches { try_again_later_every: NonZeroU32::new(2), ..FaultSwitches::default() };
    net.localnet.set_faults(0, faults).await;
    let mut statuses = Vec::new();
    for amount in [1, 2, 2, 3] {
        let body = xdr::OperationBody::Payment(xdr::PaymentOp {
            destination: bob.muxed(),
            asset: xdr::Asset::Native,
            amount,
        });
        let transaction = net.rpc.transaction(&alice, body).await?;
        statuses.push(net.rpc.send(transaction, &[&alice]).await?.status);
    }
    assert_eq!(statuses, ["PENDING", "TRY_AGAIN_LATER", "PENDING", "TRY_AGAIN_LATER"]);
    assert_eq!(net.rpc.account_entry(&bob).await?.balance, 100_000_000_003, "put off is not done");
    Ok(())
}

#[tokio::test]
async fn endpoints_of_one_ledger_can_disagree() -> Result<()> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let net = Net::start_with(Localnet::builder().no_ledger_interval().listen([any, any])).await?;
    let other = Rpc::new(&net.localnet.urls()[1]);
    let alice = net.account("alice").await?;
    let frozen_at = other.latest_ledger().await?;
    net.localnet.set_faults(1, FaultSwitches { stale: true, ..FaultSwitches::default() }).await;
    let bob = net.account("bob").await?;
    assert_eq!((net.rpc.latest_ledger().await?, other.latest_ledger().await?), (frozen_at + 1, frozen_at));
    assert!(net.rpc.account_entry(&bob).await.is_ok());
    assert!(other.account_entry(&bob).await.is_err(), "a stale server does not know a new account");
    assert!(other.account_entry(&alice).await.is_ok());

    let key = xdr::LedgerKey::Account(xdr::LedgerKeyAccount { account_id: alice.id() });
    let mut richer = net.rpc.account_entry(&alice).await?;
    richer.balance *= 2;
    let forged = BTreeMap::from([(base64(&key), base64(&xdr::LedgerEntryData::Account(richer.clone())))]);
    net.localnet.set_faults(1, FaultSwitches { forged, ..FaultSwitches::default() }).await;
    assert_eq!(other.account_entry(&alice).await?.balance, richer.balance);
    assert_ne!(net.rpc.account_entry(&alice).await?.balance, richer.balance);
    assert_eq!(other.latest_ledger().await?, frozen_at + 1, "no longer stale");

    let faults = FaultSwitches {
        passphrase: Some("Other Network".to_owned()),
        retention: NonZeroU32::new(2),
        ..FaultSwitches::default()
    };
    net.localnet.set_faults(1, faults).await;
    assert_eq!(other.call("getNetwork", json!({})).await?["passphrase"], "Other Network");
    net.localnet.advance(5).await?;
    let health = other.call("getHealth", json!({})).await?;
    assert_eq!(health["oldestLedger"].as_u64(), health["latestLedger"].as_u64().map(|latest| latest - 1));
    assert_eq!(net.rpc.call("getHealth", json!({})).await?["oldestLedger"], 1);
    Ok(())
}

#[tokio::test]
async fn the_friendbot_funds_once() -> Result<()> {
    let net = Net::start().await?;
    let address = stellar_strkey::ed25519::PublicKey([9; 32]).to_string();
    let form = format!("addr={}", address.as_str());
    let (status, _) = net.rpc.post(&format!("/friendbot?{form}"), "").await?;
    assert_eq!(status, 415, "a POST is a form");
    let query = format!("{}?{form}", net.localnet.friendbot_url());
    let get = async || {
        let client =
            hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
        let request =
            hyper::Request::get(&query).body(http_body_util::Full::<hyper::body::Bytes>::default())?;
        let response = client.request(request).await?;
        let status = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body()).await?.to_bytes();
        anyhow::Ok((status, serde_json::from_slice::<serde_json::Value>(&body)?))
    };
    assert_eq!(get().await?.0, 200);
    let (status, problem) = get().await?;
    assert_eq!(
        (status, problem["detail"].as_str()),
        (400, Some("account already funded to starting balance"))
    );
    Ok(())
}
