//! Classic operations: accounts, payments, options, thresholds, data, sequence numbers, merging.

use anyhow::Result;
use stellar_xdr::{
    self as xdr, OperationBody, OperationResult, OperationResultTr, TransactionResultResult as Code,
};

use crate::fixture::{Account, Net};

const XLM: i64 = 10_000_000;

async fn apply(net: &Net, source: &Account, body: OperationBody) -> Result<crate::fixture::Sent> {
    let transaction = net.rpc.transaction(source, body).await?;
    net.rpc.send(transaction, &[source]).await
}

fn options() -> xdr::SetOptionsOp {
    xdr::SetOptionsOp {
        inflation_dest: None,
        clear_flags: None,
        set_flags: None,
        master_weight: None,
        low_threshold: None,
        med_threshold: None,
        high_threshold: None,
        home_domain: None,
        signer: None,
    }
}

fn payment(to: &Account, amount: i64) -> OperationBody {
    OperationBody::Payment(xdr::PaymentOp { destination: to.muxed(), asset: xdr::Asset::Native, amount })
}

#[tokio::test]
async fn accounts_are_created_paid_and_merged() -> Result<()> {
    let net = Net::start().await?;
    let (alice, new) = (net.account("alice").await?, Account::named("new"));
    let create = |amount| {
        OperationBody::CreateAccount(xdr::CreateAccountOp { destination: new.id(), starting_balance: amount })
    };
    let failed = |result| OperationResult::OpInner(OperationResultTr::CreateAccount(result));
    let sent = apply(&net, &alice, create(XLM - 1)).await?;
    assert_eq!(*sent.operation(), failed(xdr::CreateAccountResult::LowReserve));
    let sent = apply(&net, &alice, payment(&new, XLM)).await?;
    let no_destination = OperationResultTr::Payment(xdr::PaymentResult::NoDestination);
    assert_eq!(*sent.operation(), OperationResult::OpInner(no_destination));
    let created = apply(&net, &alice, create(5 * XLM)).await?.succeeded()?;
    let entry = net.rpc.account_entry(&new).await?;
    assert_eq!((entry.balance, entry.seq_num.0), (5 * XLM, i64::from(created.ledger) << 32));
    let sent = apply(&net, &alice, create(5 * XLM)).await?;
    assert_eq!(*sent.operation(), failed(xdr::CreateAccountResult::AlreadyExist));

    // A transfer event as the native contract would write it.
    let events = &created.meta.as_ref().expect("metadata").operations[0].events;
    assert_eq!(events.len(), 1);

    let sent = apply(&net, &new, payment(&alice, 4 * XLM)).await?;
    let underfunded = OperationResultTr::Payment(xdr::PaymentResult::Underfunded);
    assert_eq!(*sent.operation(), OperationResult::OpInner(underfunded), "the reserve stays");
    net.localnet.advance(1).await?;
    let before = net.rpc.account_entry(&alice).await?.balance;
    let left = net.rpc.account_entry(&new).await?.balance - 1_000;
    let merge = net.rpc.transaction(&new, OperationBody::AccountMerge(alice.muxed())).await?;
    let sent = net.rpc.send(merge, &[&new]).await?.succeeded()?;
    let merged = OperationResultTr::AccountMerge(xdr::AccountMergeResult::Success(left + 900));
    assert_eq!(
        *sent.operation(),
        OperationResult::OpInner(merged),
        "a fee of 100 was taken, not the 1,000 offered"
    );
    assert_eq!(net.rpc.account_entry(&alice).await?.balance, before + left + 900);
    assert!(net.rpc.account_entry(&new).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_failed_operation_undoes_its_transaction_but_not_its_fee() -> Result<()> {
    let net = Net::start().await?;
    let (alice, bob) = (net.account("alice").await?, net.account("bob").await?);
    let mut transaction = net.rpc.transaction(&alice, payment(&bob, XLM)).await?;
    let second = xdr::Operation { source_account: None, body: payment(&bob, i64::MAX) };
    transaction.operations = vec![transaction.operations[0].clone(), second].try_into()?;
    let sent = net.rpc.send(transaction, &[&alice]).await?;
    assert!(matches!(sent.code(), Code::TxFailed(results) if results.len() == 2), "{sent:?}");
    let entry = net.rpc.account_entry(&alice).await?;
    assert_eq!(entry.balance, 10_000 * XLM - 200);
    assert_eq!(net.rpc.account_entry(&bob).await?.balance, 10_000 * XLM);
    assert_eq!(sent.meta.expect("metadata").operations.len(), 0);
    Ok(())
}

#[tokio::test]
async fn thresholds_and_signers_decide_who_may_act() -> Result<()> {
    let net = Net::start().await?;
    let (alice, helper) = (net.account("alice").await?, Account::named("helper"));
    let set = |change: &dyn Fn(&mut xdr::SetOptionsOp)| {
        let mut options = options();
        change(&mut options);
        OperationBody::SetOptions(options)
    };
    let domain =
        || set(&|options| options.home_domain = Some(xdr::String32("mynode.example".try_into().unwrap())));
    apply(&net, &alice, domain()).await?.succeeded()?;
    let signer = xdr::Signer { key: xdr::SignerKey::Ed25519(helper.raw()), weight: 1 };
    let two_of_two = set(&|options| {
        options.signer = Some(signer.clone());
        options.med_threshold = Some(2);
        options.high_threshold = Some(2);
    });
    apply(&net, &alice, two_of_two).await?.succeeded()?;
    let entry = net.rpc.account_entry(&alice).await?;
    assert_eq!((entry.thresholds.0, entry.num_sub_entries), ([1, 0, 2, 2], 1));
    assert_eq!(entry.home_domain.to_utf8_string_lossy(), "mynode.example");

    // One signature meets the low threshold, so the operation is at fault, not the transaction.
    let sent = apply(&net, &alice, domain()).await?;
    assert_eq!(sent.status, "ERROR");
    assert_eq!(*sent.operation(), OperationResult::OpBadAuth);
    let both = net.rpc.transaction(&alice, domain()).await?;
    net.rpc.send(both, &[&alice, &helper]).await?.succeeded()?;
    let bump = OperationBody::BumpSequence(xdr::BumpSequenceOp { bump_to: xdr::SequenceNumber(0) });
    apply(&net, &alice, bump).await?.succeeded()?;

    let itself = set(&|options| {
        options.signer = Some(xdr::Signer { key: xdr::SignerKey::Ed25519(alice.raw()), weight: 1 });
    });
    let transaction = net.rpc.transaction(&alice, itself).await?;
    let sent = net.rpc.send(transaction, &[&alice, &helper]).await?;
    let bad_signer = OperationResultTr::SetOptions(xdr::SetOptionsResult::BadSigner);
    assert_eq!(*sent.operation(), OperationResult::OpInner(bad_signer));
    Ok(())
}

#[tokio::test]
async fn a_preauthorised_transaction_needs_no_signature_and_works_once() -> Result<()> {
    let net = Net::start().await?;
    let (alice, bob) = (net.account("alice").await?, net.account("bob").await?);
    let mut later = net.rpc.transaction(&alice, payment(&bob, 7)).await?;
    later.seq_num.0 += 1;
    let hash = later.hash(crate::fixture::network_id())?;
    let mut options = options();
    options.signer = Some(xdr::Signer { key: xdr::SignerKey::PreAuthTx(xdr::Uint256(hash)), weight: 1 });
    apply(&net, &alice, OperationBody::SetOptions(options)).await?.succeeded()?;
    assert_eq!(net.rpc.account_entry(&alice).await?.signers.len(), 1);
    net.rpc.send(later, &[]).await?.succeeded()?;
    let entry = net.rpc.account_entry(&alice).await?;
    assert_eq!((entry.signers.len(), entry.num_sub_entries), (0, 0));
    Ok(())
}

#[tokio::test]
async fn data_is_set_changed_and_removed() -> Result<()> {
    let net = Net::start().await?;
    let alice = net.account("alice").await?;
    let key = xdr::LedgerKey::Data(xdr::LedgerKeyData {
        account_id: alice.id(),
        data_name: xdr::String64("colour".try_into()?),
    });
    let data = |value: Option<&str>| -> Result<OperationBody> {
        let value = value.map(|value| value.as_bytes().to_vec().try_into()).transpose()?.map(xdr::DataValue);
        let name = xdr::String64("colour".try_into()?);
        Ok(OperationBody::ManageData(xdr::ManageDataOp { data_name: name, data_value: value }))
    };
    let sent = apply(&net, &alice, data(None)?).await?;
    let not_found = OperationResultTr::ManageData(xdr::ManageDataResult::NameNotFound);
    assert_eq!(*sent.operation(), OperationResult::OpInner(not_found));
    for value in ["red", "blue"] {
        apply(&net, &alice, data(Some(value))?).await?.succeeded()?;
        match net.rpc.entry(&key).await? {
            Some((xdr::LedgerEntryData::Data(entry), None)) => {
                assert_eq!(entry.data_value.0.as_slice(), value.as_bytes());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(net.rpc.account_entry(&alice).await?.num_sub_entries, 1);
    apply(&net, &alice, data(None)?).await?.succeeded()?;
    assert_eq!(net.rpc.entry(&key).await?, None);
    assert_eq!(net.rpc.account_entry(&alice).await?.num_sub_entries, 0);
    Ok(())
}

#[tokio::test]
async fn what_a_local_network_does_not_have_is_not_supported() -> Result<()> {
    let net = Net::start().await?;
    let alice = net.account("alice").await?;
    let sent = apply(&net, &alice, OperationBody::Inflation).await?;
    assert_eq!(sent.status, "ERROR");
    assert_eq!(*sent.operation(), OperationResult::OpNotSupported);
    Ok(())
}
