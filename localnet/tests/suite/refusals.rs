//! What the network refuses, and in which words: codes are those of the real one.

use anyhow::Result;
use stellar_xdr::{
    self as xdr, InvokeHostFunctionResult, OperationResult, OperationResultTr,
    TransactionResultResult as Code,
};

use crate::fixture::{Account, Net, Sent, call, envelope, host_function, network_id};
use ed25519_dalek::Signer;
use sha2::{Digest, Sha256};

fn payment(to: &Account, amount: i64) -> xdr::OperationBody {
    xdr::OperationBody::Payment(xdr::PaymentOp { destination: to.muxed(), asset: xdr::Asset::Native, amount })
}

fn refused(sent: &Sent, expected: Code) {
    assert_eq!(sent.status, "ERROR");
    assert_eq!(*sent.code(), expected);
}

fn trapped(sent: &Sent) {
    invocation_failed(sent, InvokeHostFunctionResult::Trapped);
}

fn invocation_failed(sent: &Sent, expected: InvokeHostFunctionResult) {
    assert_eq!(*sent.operation(), OperationResult::OpInner(OperationResultTr::InvokeHostFunction(expected)));
}

#[tokio::test]
async fn classic_mistakes_have_their_codes() -> Result<()> {
    let net = Net::start().await?;
    let (alice, bob) = (net.account("alice").await?, net.account("bob").await?);
    let good = net.rpc.transaction(&alice, payment(&bob, 1)).await?;

    refused(&net.rpc.send(good.clone(), &[&bob]).await?, Code::TxBadAuth);
    refused(&net.rpc.send(good.clone(), &[]).await?, Code::TxBadAuth);
    refused(&net.rpc.send(good.clone(), &[&alice, &bob]).await?, Code::TxBadAuthExtra);
    let later = xdr::Transaction { seq_num: xdr::SequenceNumber(good.seq_num.0 + 1), ..good.clone() };
    refused(&net.rpc.send(later, &[&alice]).await?, Code::TxBadSeq);
    let cheap = xdr::Transaction { fee: 99, ..good.clone() };
    let sent = net.rpc.send(cheap, &[&alice]).await?;
    assert_eq!(sent.result.as_ref().map(|result| result.fee_charged), Some(100), "says what it would cost");
    refused(&sent, Code::TxInsufficientFee);
    let none = xdr::Transaction { operations: Default::default(), ..good.clone() };
    refused(&net.rpc.send(none, &[&alice]).await?, Code::TxMissingOperation);
    let bounds = |min, max| {
        xdr::Preconditions::Time(xdr::TimeBounds {
            min_time: xdr::TimePoint(min),
            max_time: xdr::TimePoint(max),
        })
    };
    let past = xdr::Transaction { cond: bounds(0, 1), ..good.clone() };
    refused(&net.rpc.send(past, &[&alice]).await?, Code::TxTooLate);
    let future = xdr::Transaction { cond: bounds(u64::MAX - 1, 0), ..good.clone() };
    refused(&net.rpc.send(future, &[&alice]).await?, Code::TxTooEarly);
    let stranger = Account::named("nobody");
    let unknown = xdr::Transaction { source_account: stranger.muxed(), ..good.clone() };
    refused(&net.rpc.send(unknown, &[&stranger]).await?, Code::TxNoAccount);

    // The account of 10,000 lumens cannot offer a fee that it could not pay.
    let poor = net.account("poor").await?;
    let all_but_reserve = net.rpc.account_entry(&poor).await?.balance - 10_000_000 - 1_000 - 50;
    let give = net.rpc.transaction(&poor, payment(&bob, all_but_reserve)).await?;
    net.rpc.send(give, &[&poor]).await?.succeeded()?;
    let fee = net.rpc.transaction(&poor, payment(&bob, 1)).await?;
    refused(&net.rpc.send(fee, &[&poor]).await?, Code::TxInsufficientBalance);

    // A payment that cannot be covered is taken, and fails in its ledger.
    let much = net.rpc.transaction(&alice, payment(&bob, i64::MAX)).await?;
    let sent = net.rpc.send(much, &[&alice]).await?;
    assert_eq!(sent.status, "PENDING");
    let underfunded = OperationResultTr::Payment(xdr::PaymentResult::Underfunded);
    assert_eq!(*sent.operation(), OperationResult::OpInner(underfunded));
    // After all of which the good one is still good, but for its sequence number.
    refused(&net.rpc.send(good, &[&alice]).await?, Code::TxBadSeq);
    Ok(())
}

#[tokio::test]
async fn a_contract_transaction_must_stay_within_what_it_declares() -> Result<()> {
    let net = Net::start().await?;
    let alice = net.account("alice").await?;
    let probe = net.probe(&alice).await?;
    let put = || host_function(call(&probe, "put", vec![xdr::ScVal::U32(1), xdr::ScVal::U32(2)]));
    let change = |transaction: &mut xdr::Transaction, change: &dyn Fn(&mut xdr::SorobanTransactionData)| {
        let xdr::TransactionExt::V1(data) = &mut transaction.ext else { panic!("prepared") };
        change(data);
    };

    let mut tampered = net.rpc.prepared(&alice, put()).await?;
    change(&mut tampered, &|data| data.resources.footprint.read_write = Default::default());
    trapped(&net.rpc.send(tampered, &[&alice]).await?);

    let mut starved = net.rpc.prepared(&alice, put()).await?;
    change(&mut starved, &|data| data.resources.instructions /= 4);
    let sent = net.rpc.send(starved, &[&alice]).await?;
    invocation_failed(&sent, InvokeHostFunctionResult::ResourceLimitExceeded);

    let mut narrow = net.rpc.prepared(&alice, put()).await?;
    change(&mut narrow, &|data| data.resources.write_bytes = 8);
    let sent = net.rpc.send(narrow, &[&alice]).await?;
    invocation_failed(&sent, InvokeHostFunctionResult::ResourceLimitExceeded);

    // One stroop short of what the same call cost under another key.
    let put_under = |key| host_function(call(&probe, "put", vec![xdr::ScVal::U32(key), xdr::ScVal::U32(2)]));
    let paid = net.rpc.send(net.rpc.prepared(&alice, put_under(8)).await?, &[&alice]).await?.succeeded()?;
    let meta = paid.meta.as_ref().and_then(|meta| meta.soroban_meta.as_ref()).expect("metadata");
    let xdr::SorobanTransactionMetaExt::V1(fees) = &meta.ext else { panic!("fees are stated") };
    let cost = fees.total_non_refundable_resource_fee_charged + fees.total_refundable_resource_fee_charged;
    let mut short = net.rpc.prepared(&alice, put_under(9)).await?;
    change(&mut short, &|data| data.resource_fee = cost - 1);
    let sent = net.rpc.send(short, &[&alice]).await?;
    invocation_failed(&sent, InvokeHostFunctionResult::InsufficientRefundableFee);

    for over in [
        (&|data: &mut xdr::SorobanTransactionData| data.resources.instructions = 100_000_001)
            as &dyn Fn(&mut xdr::SorobanTransactionData),
        &|data| data.resources.write_bytes = 132_097,
        &|data| data.resources.disk_read_bytes = 200_001,
        &|data| data.resource_fee = 1,
        &|data| data.resource_fee = i64::from(u32::MAX),
        &|data| {
            let mut keys = data.resources.footprint.read_write.to_vec();
            keys.push(keys[0].clone());
            data.resources.footprint.read_write = keys.try_into().expect("two keys");
        },
    ] {
        let mut transaction = net.rpc.prepared(&alice, put()).await?;
        change(&mut transaction, over);
        refused(&net.rpc.send(transaction, &[&alice]).await?, Code::TxSorobanInvalid);
    }

    let bare = net.rpc.transaction(&alice, put()).await?;
    refused(&net.rpc.send(bare, &[&alice]).await?, Code::TxMalformed);
    trapped(&{
        let spin =
            net.rpc.prepared(&alice, host_function(call(&probe, "spin", vec![xdr::ScVal::U32(10)]))).await?;
        let mut trap = spin;
        trap.operations =
            vec![xdr::Operation { source_account: None, body: host_function(call(&probe, "trap", vec![])) }]
                .try_into()?;
        net.rpc.send(trap, &[&alice]).await?
    });
    Ok(())
}

#[tokio::test]
async fn a_contract_over_the_size_limit_is_refused() -> Result<()> {
    let net = Net::start().await?;
    let alice = net.account("alice").await?;
    let upload = |size: usize| {
        let wasm = vec![0_u8; size].try_into().expect("below the limit of XDR");
        host_function(xdr::HostFunction::UploadContractWasm(wasm))
    };
    // Resources as generous as the network allows, so that only the size can be at fault.
    let code = xdr::LedgerKey::ContractCode(xdr::LedgerKeyContractCode {
        hash: xdr::Hash(Sha256::digest(vec![0_u8; 131_073]).into()),
    });
    let mut transaction = net.rpc.transaction(&alice, upload(131_073)).await?;
    let fee = 200_000_000;
    transaction.fee = fee + 100;
    transaction.ext = xdr::TransactionExt::V1(xdr::SorobanTransactionData {
        ext: xdr::SorobanTransactionDataExt::V0,
        resources: xdr::SorobanResources {
            footprint: xdr::LedgerFootprint {
                read_only: Default::default(),
                read_write: vec![code].try_into()?,
            },
            instructions: 100_000_000,
            disk_read_bytes: 0,
            write_bytes: 132_096,
        },
        resource_fee: i64::from(fee),
    });
    let sent = net.rpc.send(transaction, &[&alice]).await?;
    assert_eq!(sent.status, "ERROR");
    invocation_failed(&sent, InvokeHostFunctionResult::Malformed);
    Ok(())
}

#[tokio::test]
async fn authorisation_is_enforced_once_and_in_time() -> Result<()> {
    let net = Net::start().await?;
    let (alice, bob) = (net.account("alice").await?, net.account("bob").await?);
    let probe = net.probe(&alice).await?;
    let put_for_bob = || {
        host_function(call(
            &probe,
            "put_for",
            vec![xdr::ScVal::Address(bob.address()), xdr::ScVal::U32(1), xdr::ScVal::U32(2)],
        ))
    };
    let latest = net.rpc.latest_ledger().await?;

    // Not signed at all, signed by the wrong key, expired.
    trapped(&net.rpc.send(net.rpc.prepared(&alice, put_for_bob()).await?, &[&alice]).await?);
    let mut wrong = net.rpc.prepared(&alice, put_for_bob()).await?;
    authorise(&mut wrong, &alice, latest + 100)?;
    trapped(&net.rpc.send(wrong, &[&alice]).await?);
    let mut expired = net.rpc.prepared(&alice, put_for_bob()).await?;
    authorise(&mut expired, &bob, latest)?;
    net.localnet.advance(2).await?;
    trapped(&net.rpc.send(expired, &[&alice]).await?);

    // Good once, with room for the signature check that a recording cannot foresee; not a second time.
    let mut good = net.rpc.prepared(&alice, put_for_bob()).await?;
    authorise(&mut good, &bob, latest + 100)?;
    let enforced = net.rpc.simulate(&good).await?;
    let data: xdr::SorobanTransactionData =
        crate::fixture::parse(enforced["transactionData"].as_str().expect("signed entries are enforced"))?;
    good.fee = u32::try_from(data.resource_fee)? + 100;
    good.ext = xdr::TransactionExt::V1(data);
    net.rpc.send(good.clone(), &[&alice]).await?.succeeded()?;
    good.seq_num.0 += 1;
    trapped(&net.rpc.send(good, &[&alice]).await?);

    // Nothing left of the failures: only the fee went.
    assert_eq!(net.rpc.account_entry(&bob).await?.balance, 100_000_000_000);
    Ok(())
}

/// Signs the transaction's first authorisation entry.
fn authorise(transaction: &mut xdr::Transaction, signer: &Account, until: u32) -> Result<()> {
    use xdr::WriteXdr;
    let mut operations = transaction.operations.to_vec();
    let xdr::OperationBody::InvokeHostFunction(invoke) = &mut operations[0].body else {
        panic!("an invocation")
    };
    let mut auth = invoke.auth.to_vec();
    let entry = &mut auth[0];
    let xdr::SorobanCredentials::Address(credentials) = &mut entry.credentials else { panic!("an address") };
    credentials.signature_expiration_ledger = until;
    let preimage = xdr::HashIdPreimage::SorobanAuthorization(xdr::HashIdPreimageSorobanAuthorization {
        network_id: xdr::Hash(network_id()),
        nonce: credentials.nonce,
        signature_expiration_ledger: until,
        invocation: entry.root_invocation.clone(),
    });
    let payload = Sha256::digest(preimage.to_xdr(xdr::Limits::none())?);
    let field = |name: &str, bytes: Vec<u8>| -> Result<xdr::ScMapEntry> {
        Ok(xdr::ScMapEntry {
            key: xdr::ScVal::Symbol(xdr::ScSymbol(name.try_into()?)),
            val: xdr::ScVal::Bytes(xdr::ScBytes(bytes.try_into()?)),
        })
    };
    let signature = vec![
        field("public_key", signer.raw().0.to_vec())?,
        field("signature", signer.key.sign(&payload).to_bytes().to_vec())?,
    ];
    credentials.signature = xdr::ScVal::Vec(Some(xdr::ScVec(
        vec![xdr::ScVal::Map(Some(xdr::ScMap(signature.try_into()?)))].try_into()?,
    )));
    invoke.auth = auth.try_into()?;
    transaction.operations = operations.try_into()?;
    Ok(())
}

#[tokio::test]
async fn a_fee_bump_pays_for_another_and_is_judged_by_its_own_rules() -> Result<()> {
    let net = Net::start().await?;
    let (alice, bob, payer) =
        (net.account("alice").await?, net.account("bob").await?, net.account("payer").await?);
    let inner = || async {
        let transaction = net.rpc.transaction(&alice, payment(&bob, 5)).await?;
        let xdr::TransactionEnvelope::Tx(inner) = envelope(transaction, &[&alice]) else { unreachable!() };
        anyhow::Ok(inner)
    };
    let bump = |inner: xdr::TransactionV1Envelope, fee: i64, signer: &Account| {
        let tx = xdr::FeeBumpTransaction {
            fee_source: payer.muxed(),
            fee,
            inner_tx: xdr::FeeBumpTransactionInnerTx::Tx(inner),
            ext: xdr::FeeBumpTransactionExt::V0,
        };
        let signature = signer.sign(&tx.hash(network_id()).expect("a small transaction"));
        xdr::TransactionEnvelope::TxFeeBump(xdr::FeeBumpTransactionEnvelope {
            tx,
            signatures: vec![signature].try_into().expect("one signature"),
        })
    };
    let before = net.rpc.account_entry(&alice).await?.balance;
    refused(&net.rpc.send_envelope(&bump(inner().await?, 199, &payer)).await?, Code::TxInsufficientFee);
    refused(&net.rpc.send_envelope(&bump(inner().await?, 2_000, &alice)).await?, Code::TxBadAuth);
    let sent = net.rpc.send_envelope(&bump(inner().await?, 2_000, &payer)).await?.succeeded()?;
    assert!(matches!(sent.code(), Code::TxFeeBumpInnerSuccess(_)));
    assert_eq!(net.rpc.account_entry(&alice).await?.balance, before - 5, "the payment but no fee");
    assert_eq!(net.rpc.account_entry(&payer).await?.balance, 100_000_000_000 - 200, "two operations' fees");
    Ok(())
}
