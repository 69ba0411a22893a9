//! Contracts: deployment, calls, fees and refunds, collisions within a ledger, the native asset's contract.

use anyhow::{Context, Result};
use stellar_xdr::{
    self as xdr, ContractDataDurability, InvokeHostFunctionResult, OperationResult, OperationResultTr, ScVal,
};
use tunnler_localnet::Closing;

use crate::fixture::{Account, Net, call, host_function, parse, probe_key};

#[tokio::test]
async fn a_call_stores_tells_and_returns() -> Result<()> {
    let net = Net::start().await?;
    let alice = net.account("alice").await?;
    let probe = net.probe(&alice).await?;
    let sent =
        net.rpc.invoke(&alice, &probe, "put", vec![ScVal::U32(1), ScVal::U32(2)]).await?.succeeded()?;
    assert_eq!(sent.return_value(), Some(&ScVal::Void));
    let key = probe_key(&probe, 1, ContractDataDurability::Persistent);
    match net.rpc.entry(&key).await?.context("stored")? {
        (xdr::LedgerEntryData::ContractData(data), Some(until)) => {
            assert_eq!(data.val, ScVal::U32(2));
            assert_eq!(until, u64::from(sent.ledger) + 120_960 - 1);
        }
        other => panic!("{other:?}"),
    }
    let get = net.rpc.transaction(&alice, host_function(call(&probe, "get", vec![ScVal::U32(1)]))).await?;
    let simulated = net.rpc.simulate(&get).await?;
    let value: ScVal = parse(simulated["results"][0]["xdr"].as_str().context("a value")?)?;
    assert_eq!(value, ScVal::U32(2));

    // Metadata says what the ledger shows: creation of the entry and of its life.
    let created: Vec<_> = sent
        .changes()
        .iter()
        .map(|change| match change {
            xdr::LedgerEntryChange::Created(entry) => entry.to_key(),
            other => panic!("only creations: {other:?}"),
        })
        .collect();
    assert!(created.contains(&key) && created.len() == 2, "{created:?}");
    net.rpc.invoke(&alice, &probe, "del", vec![ScVal::U32(1)]).await?.succeeded()?;
    assert_eq!(net.rpc.entry(&key).await?, None);
    Ok(())
}

#[tokio::test]
async fn the_unused_part_of_the_fee_comes_back() -> Result<()> {
    let net = Net::start().await?;
    let alice = net.account("alice").await?;
    let probe = net.probe(&alice).await?;
    let before = net.rpc.account_entry(&alice).await?.balance;
    let body = host_function(call(&probe, "put", vec![ScVal::U32(1), ScVal::U32(2)]));
    let mut transaction = net.rpc.prepared(&alice, body).await?;
    let generous = 5_000_000;
    let xdr::TransactionExt::V1(data) = &mut transaction.ext else { panic!("prepared") };
    data.resource_fee += generous;
    transaction.fee += generous as u32 + 77;
    let offered = i64::from(transaction.fee);
    let sent = net.rpc.send(transaction, &[&alice]).await?.succeeded()?;
    let charged = sent.result.as_ref().context("a result")?.fee_charged;
    assert_eq!(net.rpc.account_entry(&alice).await?.balance, before - charged);
    assert!(charged < offered - generous, "{charged} of {offered}");
    let meta = sent.meta.as_ref().and_then(|meta| meta.soroban_meta.as_ref()).context("metadata")?;
    let xdr::SorobanTransactionMetaExt::V1(fees) = &meta.ext else { panic!("fees are stated") };
    let resources =
        fees.total_non_refundable_resource_fee_charged + fees.total_refundable_resource_fee_charged;
    assert_eq!(
        charged,
        resources + 100,
        "resources and the network's price of inclusion, not the 177 offered"
    );
    assert!(fees.rent_fee_charged > 0 && fees.rent_fee_charged <= fees.total_refundable_resource_fee_charged);
    Ok(())
}

#[tokio::test]
async fn the_same_code_is_uploaded_once() -> Result<()> {
    let net = Net::start().await?;
    let alice = net.account("alice").await?;
    net.probe(&alice).await?;
    let wasm = crate::fixture::probe_wasm()?;
    let again =
        net.rpc.run(&alice, xdr::HostFunction::UploadContractWasm(wasm.try_into()?)).await?.succeeded()?;
    assert_eq!(again.changes(), [], "nothing new");
    Ok(())
}

#[tokio::test]
async fn two_calls_simulated_on_one_state_collide_in_one_ledger() -> Result<()> {
    let net = Net::start().await?;
    let (alice, bob) = (net.account("alice").await?, net.account("bob").await?);
    let probe = net.probe(&alice).await?;
    net.rpc.invoke(&alice, &probe, "take_slot", vec![]).await?.succeeded()?;
    net.localnet.set_closing(Closing::Interval);
    let latest = net.rpc.latest_ledger().await?;
    let mut waiting = Vec::new();
    for account in [&alice, &bob] {
        let body = host_function(call(&probe, "take_slot", vec![]));
        let prepared = net.rpc.prepared(account, body).await?;
        let sent = net.rpc.send(prepared, &[account]).await?;
        assert_eq!((sent.status.as_str(), sent.result.is_some()), ("PENDING", false));
        waiting.push(sent.hash);
    }
    assert_eq!(net.rpc.latest_ledger().await?, latest, "nothing closes by itself");
    net.localnet.advance(1).await?;
    let first = net.rpc.call("getTransaction", serde_json::json!({ "hash": waiting[0] })).await?;
    let second = net.rpc.call("getTransaction", serde_json::json!({ "hash": waiting[1] })).await?;
    assert_eq!((first["status"].as_str(), second["status"].as_str()), (Some("SUCCESS"), Some("FAILED")));
    assert_eq!((&first["ledger"], &first["applicationOrder"]), (&second["ledger"], &serde_json::json!(1)));
    let result: xdr::TransactionResult = parse(second["resultXdr"].as_str().context("a result")?)?;
    let xdr::TransactionResultResult::TxFailed(results) = result.result else { panic!("failed") };
    let trapped = OperationResultTr::InvokeHostFunction(InvokeHostFunctionResult::Trapped);
    assert_eq!(results[0], OperationResult::OpInner(trapped));
    assert!(second["diagnosticEventsXdr"].as_array().is_some_and(|events| !events.is_empty()), "says why");
    Ok(())
}

#[tokio::test]
async fn one_transaction_of_an_account_waits_at_a_time() -> Result<()> {
    let net = Net::start().await?;
    let (alice, bob) = (net.account("alice").await?, net.account("bob").await?);
    net.localnet.set_closing(Closing::Interval);
    let pay = |amount| {
        xdr::OperationBody::Payment(xdr::PaymentOp {
            destination: bob.muxed(),
            asset: xdr::Asset::Native,
            amount,
        })
    };
    let first = net.rpc.transaction(&alice, pay(1)).await?;
    assert_eq!(net.rpc.send(first.clone(), &[&alice]).await?.status, "PENDING");
    assert_eq!(net.rpc.send(first.clone(), &[&alice]).await?.status, "DUPLICATE");
    let other = net.rpc.transaction(&alice, pay(2)).await?;
    assert_eq!(net.rpc.send(other, &[&alice]).await?.status, "TRY_AGAIN_LATER");
    net.localnet.advance(1).await?;
    assert_eq!(net.rpc.send(first.clone(), &[&alice]).await?.status, "DUPLICATE");
    net.localnet.advance(1).await?;
    assert_eq!(net.rpc.send(first, &[&alice]).await?.status, "ERROR");
    assert_eq!(net.rpc.account_entry(&bob).await?.balance, 100_000_000_001);
    Ok(())
}

#[tokio::test]
async fn the_native_asset_has_a_contract_from_the_start() -> Result<()> {
    let net = Net::start().await?;
    let (alice, bob) = (net.account("alice").await?, net.account("bob").await?);
    let id = stellar_strkey::Contract::from_string(&net.localnet.native_contract())?;
    let native = xdr::ContractId(xdr::Hash(id.0));
    let i128 = |amount: i64| ScVal::I128(xdr::Int128Parts { hi: 0, lo: amount as u64 });
    let address = |account: &Account| ScVal::Address(account.address());
    let transfer = vec![address(&alice), address(&bob), i128(25)];
    let sent = net.rpc.invoke(&alice, &native, "transfer", transfer).await?.succeeded()?;
    assert_eq!(net.rpc.account_entry(&bob).await?.balance, 100_000_000_025);
    assert_eq!(sent.meta.as_ref().context("metadata")?.operations[0].events.len(), 1);
    let body = host_function(call(&native, "balance", vec![address(&bob)]));
    let simulated = net.rpc.simulate(&net.rpc.transaction(&alice, body).await?).await?;
    assert_eq!(
        parse::<ScVal>(simulated["results"][0]["xdr"].as_str().context("a value")?)?,
        i128(100_000_000_025)
    );
    Ok(())
}
