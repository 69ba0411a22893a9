//! Lives of entries: temporary ones vanish, persistent ones are archived and come back, both can be extended.

use anyhow::{Context, Result};
use stellar_xdr::{
    self as xdr, ContractDataDurability as Durability, LedgerEntryChange, OperationBody, ScVal,
};

use crate::fixture::{Net, call, host_function, parse, probe_key};

const PERSISTENT_LIFE: u32 = 120_960;
const TEMPORARY_LIFE: u32 = 720;

#[tokio::test]
async fn a_temporary_entry_vanishes_after_its_last_ledger() -> Result<()> {
    let net = Net::start().await?;
    let alice = net.account("alice").await?;
    let probe = net.probe(&alice).await?;
    let sent =
        net.rpc.invoke(&alice, &probe, "put_temp", vec![ScVal::U32(1), ScVal::U32(2)]).await?.succeeded()?;
    let key = probe_key(&probe, 1, Durability::Temporary);
    let last = sent.ledger + TEMPORARY_LIFE - 1;
    net.localnet.advance(last - sent.ledger).await?;
    assert_eq!(net.rpc.entry(&key).await?.context("in its last ledger")?.1, Some(u64::from(last)));
    net.localnet.advance(1).await?;
    assert_eq!(net.rpc.entry(&key).await?, None);
    let has =
        net.rpc.transaction(&alice, host_function(call(&probe, "has_temp", vec![ScVal::U32(1)]))).await?;
    let simulated = net.rpc.simulate(&has).await?;
    assert_eq!(
        parse::<ScVal>(simulated["results"][0]["xdr"].as_str().context("a value")?)?,
        ScVal::Bool(false)
    );
    Ok(())
}

#[tokio::test]
async fn an_archived_entry_is_restored_by_the_call_that_needs_it() -> Result<()> {
    let net = Net::start().await?;
    let alice = net.account("alice").await?;
    let probe = net.probe(&alice).await?;
    net.rpc.invoke(&alice, &probe, "put", vec![ScVal::U32(1), ScVal::U32(2)]).await?.succeeded()?;
    net.localnet.advance(PERSISTENT_LIFE).await?;
    let key = probe_key(&probe, 1, Durability::Persistent);
    assert_eq!(net.rpc.entry(&key).await?.context("archived, not gone")?.1, Some(0));

    let get = net.rpc.transaction(&alice, host_function(call(&probe, "get", vec![ScVal::U32(1)]))).await?;
    let simulated = net.rpc.simulate(&get).await?;
    assert_eq!(parse::<ScVal>(simulated["results"][0]["xdr"].as_str().context("a value")?)?, ScVal::U32(2));

    // A footprint that does not ask for the restoration is refused in the ledger.
    let body = || host_function(call(&probe, "put", vec![ScVal::U32(1), ScVal::U32(3)]));
    let prepared = net.rpc.prepared(&alice, body()).await?;
    let xdr::TransactionExt::V1(data) = &prepared.ext else { panic!("prepared") };
    assert!(
        matches!(&data.ext, xdr::SorobanTransactionDataExt::V1(ext) if !ext.archived_soroban_entries.is_empty())
    );
    let mut without = prepared.clone();
    let xdr::TransactionExt::V1(data) = &mut without.ext else { panic!("prepared") };
    data.ext = xdr::SorobanTransactionDataExt::V0;
    let sent = net.rpc.send(without, &[&alice]).await?;
    let archived = xdr::OperationResultTr::InvokeHostFunction(xdr::InvokeHostFunctionResult::EntryArchived);
    assert_eq!(*sent.operation(), xdr::OperationResult::OpInner(archived));

    let sent = net.rpc.send(net.rpc.prepared(&alice, body()).await?, &[&alice]).await?.succeeded()?;
    let restored = |change: &&LedgerEntryChange| matches!(change, LedgerEntryChange::Restored(_));
    // Instance, code and entry, each with its life.
    assert_eq!(sent.changes().iter().filter(restored).count(), 6, "{:?}", sent.changes());
    match net.rpc.entry(&key).await?.context("restored")? {
        (xdr::LedgerEntryData::ContractData(data), Some(until)) => {
            assert_eq!(data.val, ScVal::U32(3));
            assert_eq!(until, u64::from(sent.ledger + PERSISTENT_LIFE - 1));
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[tokio::test]
async fn lives_are_extended_and_archived_entries_restored_by_operation() -> Result<()> {
    let net = Net::start().await?;
    let alice = net.account("alice").await?;
    let probe = net.probe(&alice).await?;
    net.rpc.invoke(&alice, &probe, "put", vec![ScVal::U32(1), ScVal::U32(2)]).await?.succeeded()?;
    let key = probe_key(&probe, 1, Durability::Persistent);
    let with_footprint =
        |transaction: &mut xdr::Transaction, read_only: &[xdr::LedgerKey], read_write: &[xdr::LedgerKey]| {
            transaction.ext = xdr::TransactionExt::V1(xdr::SorobanTransactionData {
                ext: xdr::SorobanTransactionDataExt::V0,
                resources: xdr::SorobanResources {
                    footprint: xdr::LedgerFootprint {
                        read_only: read_only.to_vec().try_into().expect("one key"),
                        read_write: read_write.to_vec().try_into().expect("one key"),
                    },
                    instructions: 0,
                    disk_read_bytes: 0,
                    write_bytes: 0,
                },
                resource_fee: 0,
            });
        };
    let send = async |mut transaction: xdr::Transaction| {
        let simulated = net.rpc.simulate(&transaction).await?;
        let data: xdr::SorobanTransactionData =
            parse(simulated["transactionData"].as_str().context("data")?)?;
        transaction.fee = u32::try_from(data.resource_fee)? + 100;
        transaction.ext = xdr::TransactionExt::V1(data);
        net.rpc.send(transaction, &[&alice]).await?.succeeded()
    };

    let body = |extend_to| {
        OperationBody::ExtendFootprintTtl(xdr::ExtendFootprintTtlOp {
            ext: xdr::ExtensionPoint::V0,
            extend_to,
        })
    };
    let mut extend = net.rpc.transaction(&alice, body(200_000)).await?;
    with_footprint(&mut extend, std::slice::from_ref(&key), &[]);
    let sent = send(extend).await?;
    assert!(
        matches!(sent.changes(), [LedgerEntryChange::State(_), LedgerEntryChange::Updated(_)]),
        "{:?}",
        sent.changes()
    );
    assert_eq!(net.rpc.entry(&key).await?.context("there")?.1, Some(u64::from(sent.ledger + 200_000)));
    let mut less = net.rpc.transaction(&alice, body(1_000)).await?;
    with_footprint(&mut less, std::slice::from_ref(&key), &[]);
    assert_eq!(send(less).await?.changes(), [], "a life is never shortened");

    net.localnet.advance(199_999).await?;
    net.localnet.advance(3).await?;
    assert_eq!(net.rpc.entry(&key).await?.context("archived")?.1, Some(0));
    let restore = OperationBody::RestoreFootprint(xdr::RestoreFootprintOp { ext: xdr::ExtensionPoint::V0 });
    let mut transaction = net.rpc.transaction(&alice, restore).await?;
    with_footprint(&mut transaction, &[], std::slice::from_ref(&key));
    let sent = send(transaction).await?;
    assert!(
        matches!(sent.changes(), [LedgerEntryChange::Restored(_), LedgerEntryChange::Restored(_)]),
        "{:?}",
        sent.changes()
    );
    assert_eq!(
        net.rpc.entry(&key).await?.context("there")?.1,
        Some(u64::from(sent.ledger + PERSISTENT_LIFE - 1))
    );
    Ok(())
}

#[tokio::test]
async fn what_an_earlier_transaction_restored_is_not_paid_for_again() -> Result<()> {
    let net = Net::start().await?;
    let (alice, bob) = (net.account("alice").await?, net.account("bob").await?);
    let probe = net.probe(&alice).await?;
    net.rpc.invoke(&alice, &probe, "put", vec![ScVal::U32(1), ScVal::U32(2)]).await?.succeeded()?;
    net.localnet.advance(PERSISTENT_LIFE).await?;
    let body = || host_function(call(&probe, "put", vec![ScVal::U32(1), ScVal::U32(3)]));
    let first = net.rpc.prepared(&alice, body()).await?;
    let second = net.rpc.prepared(&bob, body()).await?;
    let restored = net.rpc.send(first, &[&alice]).await?.succeeded()?;
    let only_called = net.rpc.send(second, &[&bob]).await?.succeeded()?;
    let rent = |sent: &crate::fixture::Sent| {
        let meta = sent.meta.as_ref().and_then(|meta| meta.soroban_meta.as_ref()).expect("metadata");
        match &meta.ext {
            xdr::SorobanTransactionMetaExt::V1(fees) => fees.rent_fee_charged,
            other => panic!("fees are stated: {other:?}"),
        }
    };
    assert!(rent(&restored) > 0);
    assert_eq!(rent(&only_called), 0);
    Ok(())
}
