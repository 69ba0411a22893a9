//! The unmodified Rust client: every method it has, decoded by its own types.

use anyhow::Result;
use stellar_rpc_client::{
    Client, EventStart, GetTransactionsRequest, LedgerStart, TransactionsPaginationOptions,
};
use stellar_xdr::{self as xdr, ScVal};

use crate::fixture::{Net, call, envelope, host_function};

#[tokio::test]
async fn the_official_rust_client_understands_every_answer() -> Result<()> {
    let net = Net::start().await?;
    let alice = net.account("alice").await?;
    let probe = net.probe(&alice).await?;
    let client = Client::new(&net.localnet.url())?;

    let passphrase = client.verify_network_passphrase(Some(net.localnet.passphrase())).await?;
    assert_eq!(passphrase, net.localnet.passphrase());
    assert_eq!(client.friendbot_url().await?, net.localnet.friendbot_url());
    assert_eq!(client.get_health().await?.status, "healthy");
    assert_eq!(client.get_version_info().await?.protocol_version, 28);
    let latest = client.get_latest_ledger().await?;
    let address = stellar_strkey::ed25519::PublicKey(alice.raw().0).to_string();
    assert_eq!(client.get_account(address.as_str()).await?.account_id, alice.id());

    let body = host_function(call(&probe, "put", vec![ScVal::U32(1), ScVal::U32(2)]));
    let unsigned = envelope(net.rpc.transaction(&alice, body.clone()).await?, &[]);
    let simulated = client.simulate_transaction_envelope(&unsigned, None).await?;
    assert_eq!(simulated.results()?.len(), 1);
    assert_eq!(simulated.events()?.len(), 3, "call, event, return");
    assert_eq!(simulated.state_changes.as_ref().map(Vec::len), Some(1));
    let signed = envelope(net.rpc.prepared(&alice, body).await?, &[&alice]);
    let done = client.send_transaction_polling(&signed).await?;
    assert_eq!(done.return_value()?, ScVal::Void);
    assert_eq!(done.events.contract_events[0].len(), 1);
    assert!(!done.events.transaction_events.is_empty());
    assert_eq!(done.ledger, Some(latest.sequence + 1));

    let contract = stellar_strkey::Contract(probe.0.0).to_string();
    let ids = [contract.as_str().to_owned()];
    let events = client.get_events(EventStart::Ledger(1), None, &ids, &[], Some(10)).await?;
    assert_eq!(events.events.len(), 1);
    let rest = client.get_events(EventStart::Cursor(events.cursor), None, &ids, &[], Some(10)).await?;
    assert!(rest.events.is_empty());
    let instance = client.get_contract_instance(&probe.0.0).await?;
    assert!(matches!(instance.executable, xdr::ContractExecutable::Wasm(_)));
    let stats = client.get_fee_stats().await?;
    assert_eq!((stats.soroban_inclusion_fee.max.as_str(), stats.inclusion_fee.p99.as_str()), ("100", "100"));
    let page = GetTransactionsRequest {
        start_ledger: Some(1),
        pagination: Some(TransactionsPaginationOptions { cursor: None, limit: Some(50) }),
    };
    assert_eq!(client.get_transactions(page).await?.transactions.len(), 4);
    for format in [None, Some("json".to_owned())] {
        let ledgers = client.get_ledgers(LedgerStart::Ledger(1), Some(2), format).await?;
        assert_eq!(ledgers.ledgers.len(), 2);
    }
    Ok(())
}
