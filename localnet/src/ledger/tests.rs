//! Random transactions on a ledger: no stroop appears or vanishes, and replaying what is on disk gives the same state.

use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;
use stellar_xdr::{self as xdr, LedgerEntryData, OperationBody, TransactionEnvelope};

use super::entries::account;
use super::store::Store;
use super::*;
use crate::localnet::STANDALONE_PASSPHRASE;

const NOW: u64 = 1_800_000_000;

/// What a random transaction does; keys are numbers.
#[derive(Clone, Debug)]
enum Act {
    Create { from: u8, to: u8, amount: i64 },
    Pay { from: u8, to: u8, amount: i64, fee: u32 },
    Data { who: u8, name: u8, set: bool },
    AddSigner { who: u8, signer: u8, weight: u32 },
    Merge { from: u8, to: u8 },
    Upload { who: u8 },
    Advance { ledgers: u32 },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let key = 0..5_u8;
    let amount = prop_oneof![3 => 0..90_000_000_i64, 1 => Just(i64::MAX), 1 => -1..1_i64];
    let act = prop_oneof![
        4 => (key.clone(), key.clone(), amount.clone()).prop_map(|(from, to, amount)| Act::Create { from, to, amount }),
        4 => (key.clone(), key.clone(), amount, 50..400_u32)
            .prop_map(|(from, to, amount, fee)| Act::Pay { from, to, amount, fee }),
        2 => (key.clone(), 0..3_u8, any::<bool>()).prop_map(|(who, name, set)| Act::Data { who, name, set }),
        2 => (key.clone(), key.clone(), 0..3_u32)
            .prop_map(|(who, signer, weight)| Act::AddSigner { who, signer, weight }),
        1 => (key.clone(), key.clone()).prop_map(|(from, to)| Act::Merge { from, to }),
        1 => key.prop_map(|who| Act::Upload { who }),
        2 => (1..3_u32).prop_map(|ledgers| Act::Advance { ledgers }),
    ];
    proptest::collection::vec(act, 1..40)
}

fn key(number: u8) -> SigningKey {
    if number == 0 { genesis::root_key(STANDALONE_PASSPHRASE) } else { SigningKey::from_bytes(&[number; 32]) }
}

fn muxed(number: u8) -> xdr::MuxedAccount {
    xdr::MuxedAccount::Ed25519(xdr::Uint256(key(number).verifying_key().to_bytes()))
}

/// Source, operation and fee; `None`: it is no transaction.
fn body(act: &Act) -> Option<(u8, OperationBody, u32)> {
    let id = |number| genesis::account_of(&key(number));
    Some(match act.clone() {
        Act::Create { from, to, amount } => {
            let op = xdr::CreateAccountOp { destination: id(to), starting_balance: amount };
            (from, OperationBody::CreateAccount(op), 100)
        }
        Act::Pay { from, to, amount, fee } => {
            let op = xdr::PaymentOp { destination: muxed(to), asset: xdr::Asset::Native, amount };
            (from, OperationBody::Payment(op), fee)
        }
        Act::Data { who, name, set } => {
            let data_name = xdr::String64(format!("name {name}").as_str().try_into().unwrap());
            let data_value = set.then(|| xdr::DataValue(vec![name].try_into().unwrap()));
            (who, OperationBody::ManageData(xdr::ManageDataOp { data_name, data_value }), 100)
        }
        Act::AddSigner { who, signer, weight } => {
            let signer = xdr::SignerKey::Ed25519(xdr::Uint256(key(signer).verifying_key().to_bytes()));
            let op = xdr::SetOptionsOp {
                inflation_dest: None,
                clear_flags: None,
                set_flags: None,
                master_weight: None,
                low_threshold: None,
                med_threshold: None,
                high_threshold: None,
                home_domain: None,
                signer: Some(xdr::Signer { key: signer, weight }),
            };
            (who, OperationBody::SetOptions(op), 100)
        }
        Act::Merge { from, to } => (from, OperationBody::AccountMerge(muxed(to)), 100),
        Act::Upload { who } => {
            // No valid module: it pays its resources and fails.
            let function = xdr::HostFunction::UploadContractWasm(vec![0, 97, 115, 109].try_into().unwrap());
            let op = xdr::InvokeHostFunctionOp { host_function: function, auth: Default::default() };
            (who, OperationBody::InvokeHostFunction(op), 3_000_000)
        }
        Act::Advance { .. } => return None,
    })
}

fn envelope(ledger: &Ledger, act: &Act) -> Option<TransactionEnvelope> {
    let (source, body, fee) = body(act)?;
    let resources = matches!(act, Act::Upload { .. }).then(|| xdr::SorobanTransactionData {
        ext: xdr::SorobanTransactionDataExt::V0,
        resources: xdr::SorobanResources {
            footprint: xdr::LedgerFootprint { read_only: Default::default(), read_write: Default::default() },
            instructions: 1_000_000,
            disk_read_bytes: 0,
            write_bytes: 0,
        },
        resource_fee: 2_000_000,
    });
    let signer = key(source);
    let sequence =
        account(ledger.state(), &genesis::account_of(&signer)).map_or(0, |account| account.seq_num.0);
    let tx = xdr::Transaction {
        source_account: muxed(source),
        fee,
        seq_num: xdr::SequenceNumber(sequence + 1),
        cond: xdr::Preconditions::None,
        memo: xdr::Memo::None,
        operations: vec![xdr::Operation { source_account: None, body }].try_into().unwrap(),
        ext: resources.map_or(xdr::TransactionExt::V0, xdr::TransactionExt::V1),
    };
    let hash = tx.hash(ledger.network_id().0).unwrap();
    let public = signer.verifying_key().to_bytes();
    let signature = xdr::DecoratedSignature {
        hint: xdr::SignatureHint([public[28], public[29], public[30], public[31]]),
        signature: xdr::Signature(signer.sign(&hash).to_bytes().to_vec().try_into().unwrap()),
    };
    let signatures = vec![signature].try_into().unwrap();
    Some(TransactionEnvelope::Tx(xdr::TransactionV1Envelope { tx, signatures }))
}

/// All lumens: on accounts and in the fee pool.
fn lumens(ledger: &Ledger) -> i128 {
    let balances = ledger.state().live_entries().map(|entry| match &entry.data {
        LedgerEntryData::Account(account) => i128::from(account.balance),
        _ => 0,
    });
    balances.sum::<i128>() + i128::from(ledger.last().header.fee_pool)
}

fn check_accounts(ledger: &Ledger) -> Result<(), TestCaseError> {
    for entry in ledger.state().live_entries() {
        let LedgerEntryData::Account(account) = &entry.data else { continue };
        let data = ledger.state().live_entries().filter(
            |other| matches!(&other.data, LedgerEntryData::Data(data) if data.account_id == account.account_id),
        );
        prop_assert_eq!(account.num_sub_entries as usize, account.signers.len() + data.count());
        prop_assert!(account.balance >= 0);
        prop_assert!(account.signers.windows(2).all(|pair| pair[0].key < pair[1].key));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_stroop_is_made_or_lost_and_a_replay_agrees(acts in acts(), closes in any::<u64>()) {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            let store = Store::open(directory.path()).unwrap();
            Ledger::open(STANDALONE_PASSPHRASE, Some(store), 100, NOW).unwrap()
        };
        let mut ledger = open();
        for (act, number) in acts.iter().zip(0..) {
            match (envelope(&ledger, act), act) {
                (Some(envelope), _) => drop(ledger.submit(envelope, NOW)),
                (None, Act::Advance { ledgers }) => ledger.close(*ledgers, NOW).unwrap(),
                (None, _) => unreachable!(),
            }
            // Some ledgers hold one transaction, some several.
            if closes >> (number % 64) & 1 == 1 {
                ledger.close(1, NOW).unwrap();
            }
            prop_assert_eq!(lumens(&ledger), i128::from(genesis::TOTAL_COINS));
            check_accounts(&ledger)?;
        }
        ledger.close(1, NOW).unwrap();
        prop_assert_eq!(lumens(&ledger), i128::from(genesis::TOTAL_COINS));
        let (state, last) = (ledger.state().clone(), ledger.last().clone());
        drop(ledger);
        let replayed = open();
        prop_assert_eq!(replayed.last(), &last);
        prop_assert_eq!(replayed.state(), &state);
    }
}

#[test]
fn time_never_runs_backwards() {
    let mut ledger = Ledger::open(STANDALONE_PASSPHRASE, None, 10, NOW).unwrap();
    ledger.close(1, NOW + 10).unwrap();
    ledger.close(1, NOW - 10).unwrap();
    assert_eq!(ledger.last().header.scp_value.close_time.0, NOW + 10);
}

#[test]
fn what_does_not_fit_into_a_ledger_waits_for_the_next() {
    let mut ledger = Ledger::open(STANDALONE_PASSPHRASE, None, 10, NOW).unwrap();
    let senders: Vec<u8> = (1..=150).collect();
    for sender in &senders {
        let create = Act::Create { from: 0, to: *sender, amount: 50_000_000 };
        let created = envelope(&ledger, &create).unwrap();
        assert!(matches!(ledger.submit(created, NOW), Submission::Pending { .. }));
        ledger.close(1, NOW).unwrap();
    }
    for sender in &senders {
        let pay = Act::Pay { from: *sender, to: 0, amount: 1, fee: 100 };
        let paid = envelope(&ledger, &pay).unwrap();
        assert!(matches!(ledger.submit(paid, NOW), Submission::Pending { .. }));
    }
    let mut sizes = Vec::new();
    for _ in 0..3 {
        ledger.close(1, NOW).unwrap();
        sizes.push(ledger.history().latest().transactions.len());
    }
    assert_eq!(sizes, [100, 50, 0]);
}
